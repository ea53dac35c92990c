"""A private key that cannot be read is one clear message, as is any other wrong setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from snowflake_external.errors import Denied
from snowflake_external.session import Login, Session


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key that is encrypted by `open`, one that is not, and a file that is none."""
    folder = tmp_path_factory.mktemp("keys")
    key = rsa.generate_private_key(65537, 2048)
    how = {"encrypted": BestAvailableEncryption(b"open"), "plain": NoEncryption()}
    for name, encryption in how.items():
        content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        (folder / name).write_bytes(content)
    (folder / "none").write_text("hello")
    return folder


@pytest.mark.parametrize(
    ("name", "passphrase"),
    [("absent", None), ("none", None), ("encrypted", "guess"), ("encrypted", None), ("plain", "open")],
)
def test_a_key_that_cannot_be_read_is_named_with_its_settings(
    keys: Path, name: str, passphrase: str | None
) -> None:
    login = Login("a", "robot", key_file=keys / name, key_passphrase=passphrase, host="127.0.0.1", port=9)
    with pytest.raises(Denied, match=f"{keys / name} cannot be read") as caught:
        Session(login, "tests")
    assert "snowflake.private_key_file" in caught.value.hint
    assert "snowflake.private_key_passphrase" in caught.value.hint
    assert "guess" not in str(caught.value) + caught.value.hint
