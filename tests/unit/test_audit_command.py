"""What `paywave audit` refuses before it reaches for anything, and what it tells without a lake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.commands.audit import _signer
from cli.main import paywave
from config.errors import ConfigError
from config.settings import load_settings
from lakehouse.errors import SigningFailed
from lakehouse.exports.signing import LocalSigner

EXPORT = ["audit", "export", "--reason", "why"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scope", "everything"], "account:ID"),
        (["--scope", "account:"], "which account"),
        (["--scope", "all", "--from", "2026-11-20"], "no offset"),
        (["--scope", "all", "--from", "2026-11-20T00:00Z", "--to", "2026-11-20T00:00Z"], "is empty"),
        (["--scope", "all", "--tag", "t", "--as-of", "2026-11-20T00:00Z"], "--as-of and --tag"),
        (["--scope", "all", "--reason", " "], "--reason"),
        ([], "--scope"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(paywave, [*EXPORT, *arguments])
    assert done.exit_code == 2
    assert said in done.output


def test_a_list_of_nothing_says_how_to_begin(tmp_path: Path) -> None:
    done = CliRunner().invoke(paywave, ["audit", "list", "--to-dir", str(tmp_path), "--output", "json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"exports": []})
    done = CliRunner().invoke(paywave, ["audit", "list", "--destination", str(tmp_path)])
    assert "paywave audit export" in done.stdout


def test_who_signs_follows_from_the_settings(tmp_path: Path) -> None:
    made = _signer(load_settings(home=tmp_path))
    assert isinstance(made, LocalSigner)
    key = tmp_path / "run" / "keys" / "audit-signing.pem"
    given = _signer(load_settings(home=tmp_path / "other", audit={"signing_key": key}))
    assert given.public_key.public_bytes_raw() == made.public_key.public_bytes_raw()
    with pytest.raises(SigningFailed, match="no key"):
        _signer(load_settings(home=tmp_path, kafka={"bootstrap_servers": "b-1.example.com:9098"}))
    with pytest.raises(ConfigError, match="one of signing_key and kms_key"):
        load_settings(home=tmp_path, audit={"signing_key": key, "kms_key": "alias/audit"})
