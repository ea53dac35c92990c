"""The keys of card tokens, from a key provider: a local file, or AWS KMS, which opens keys in such a file.

Belongs here: reading keys. Does not: making tokens (`quality/card_tokens.py`), finding card numbers.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from quality.card_tokens import TokenKey
from streaming.errors import TokenKeyError

MIN_KEY_BYTES = 32
Decrypt = Callable[[bytes], bytes]


class _Key(BaseModel):
    """One key in the file: its secret in hex, or what KMS made of it in base64."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # Short, so that no token's key id looks like a card number.
    id: Annotated[str, Field(pattern=r"^[a-z0-9]{1,8}$")]
    effective_from: AwareDatetime
    secret: str | None = None
    ciphertext: str | None = None

    @model_validator(mode="after")
    def _has_one(self) -> _Key:
        if (self.secret is None) == (self.ciphertext is None):
            raise ValueError("either secret (hex) or ciphertext (base64, for KMS) is wanted")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    keys: Annotated[tuple[_Key, ...], Field(min_length=1)]


def token_keys(path: Path, decrypt: Decrypt | None = None) -> tuple[TokenKey, ...]:
    """Read the keys of a file; those that KMS closed are opened with `decrypt`. Raises TokenKeyError."""
    try:
        keys = _File.model_validate(tomllib.loads(path.read_text("utf-8"))).keys
        if len({key.id for key in keys}) != len(keys):
            raise ValueError("a key's id is given twice")
        return tuple(TokenKey(key.id, key.effective_from, _opened(key, decrypt)) for key in keys)
    except OSError as error:
        raise TokenKeyError(
            f"cannot read the keys of card tokens {path}: {error.strerror}", "check gateway.token_keys"
        ) from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)
        )
        raise TokenKeyError(f"the keys of card tokens {path} are wrong: {wrong}", "correct them") from None
    except ValueError as error:
        raise TokenKeyError(f"the keys of card tokens {path} are wrong: {error}", "correct them") from None


def made_token_keys(path: Path) -> tuple[TokenKey, ...]:
    """Read the local stack's own keys; whoever comes first makes them, whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        secret = secrets.token_hex(MIN_KEY_BYTES)
        fresh.write_text(f'[[keys]]\nid = "a"\neffective_from = 1970-01-01T00:00:00Z\nsecret = "{secret}"\n')
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(fresh)
        fresh.unlink()
    return token_keys(path)


def kms_decrypt(region: str) -> Decrypt:
    """Let AWS KMS open keys, by the identity of this process. Needs the extra `aws`; raises TokenKeyError."""
    try:
        import boto3
    except ImportError:
        raise TokenKeyError(
            "keys that KMS closed need boto3, which is not installed",
            "install the extra: paywave-lakehouse[aws]",
        ) from None
    client = boto3.client("kms", region_name=region)

    def decrypt(ciphertext: bytes) -> bytes:
        try:
            plaintext: bytes = client.decrypt(CiphertextBlob=ciphertext)["Plaintext"]
        except Exception as error:  # botocore makes its classes at run time
            raise TokenKeyError(
                f"KMS did not open a key: {type(error).__name__}", "check this identity's kms:Decrypt"
            ) from None
        return plaintext

    return decrypt


def _opened(key: _Key, decrypt: Decrypt | None) -> bytes:
    if key.secret is not None:
        opened = bytes.fromhex(key.secret)
    elif decrypt is None:
        raise ValueError(f"key {key.id} was closed by KMS, and the profile names no KMS")
    else:
        opened = decrypt(base64.b64decode(key.ciphertext or "", validate=True))
    if len(opened) < MIN_KEY_BYTES:
        raise ValueError(f"key {key.id} is shorter than {MIN_KEY_BYTES} bytes")
    return opened
