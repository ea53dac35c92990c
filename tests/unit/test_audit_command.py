"""What `paywave audit` refuses before it reaches for anything, and what it tells without a lake."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.commands import audit
from cli.commands.audit import _signer
from cli.main import paywave
from config.errors import ConfigError
from config.settings import load_settings
from lakehouse.definitions import PAYMENTS
from lakehouse.errors import SigningFailed
from lakehouse.exports.signing import LocalSigner, pem_of
from tests.small_lake import SmallLake
from tests.streams import dirty

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


def test_from_a_look_to_a_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = SmallLake(tmp_path / "lake")
    lake.take(list(dirty(60, 3).lines()))
    monkeypatch.setattr(audit, "catalog_of", lambda _settings: lake.catalog)
    monkeypatch.setenv("PAYWAVE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(paywave, ["audit", *arguments])
        assert done.exit_code == code, (done.output, done.exception)
        return str(done.stdout)

    def told(*arguments: str, code: int = 0) -> Any:
        return json.loads(run(*arguments, "--output", "json", code=code))

    order = ("export", "--scope", "all", "--reason", "case 4711", "--name", "it")
    assert told(*order, "--dry-run")["rows"][PAYMENTS] > 0
    assert "nothing was pinned or written" in run(*order, "--dry-run")
    wrong = CliRunner().invoke(paywave, [*EXPORT, "--scope", "partner:bnak"])
    assert wrong.exit_code == 2
    assert "no partner bnak is registered" in wrong.output and "partner:demo-bank (demo-bank)" in wrong.output
    assert told("export", "--scope", "partner:bank", "--reason", "why", "--dry-run")["rows"][PAYMENTS] > 0
    assert not (tmp_path / "home" / "exports").exists()
    assert "number 1 of the chain: done" in run(*order, "--csv")
    done = told(*order, "--csv")
    assert done["was_there"]
    assert done["reconciliation"]["exported"]["breaks"] == []
    assert [one["name"] for one in told("list")["exports"]] == ["it"]
    assert "it" in run("list")

    place = Path(done["place"])
    assert "--public-key" in run("verify", str(place))
    key = tmp_path / "public.pem"
    key.write_bytes(pem_of(_signer(load_settings()).public_key))
    assert told("verify", "--public-key", str(key), "--against-lakehouse")["whole"]
    whole = ("verify", str(place.parent), "--public-key", str(key))
    head = told(*whole)["chain_head"]
    assert f"head of the chain: {head}" in run(*whole, "--head", head)
    assert "cut off" in run(*whole, "--head", head.replace("1:", "2:", 1), code=1)
    run(*whole, "--head", "12", code=2)
    lines = next((place / PAYMENTS).glob("*.csv")).read_text().splitlines()
    business_key = next(iter(csv.DictReader(lines)))["business_key"]
    proof = told("prove", "it", "--table", PAYMENTS, "--key", business_key)
    assert json.loads(Path(proof["file"]).read_text())["row"]["business_key"] == business_key
    assert (
        "is there already"
        in CliRunner()
        .invoke(paywave, ["audit", "prove", "it", "--table", PAYMENTS, "--key", business_key])
        .output
    )

    path = next((place / PAYMENTS).glob("*.leaves"))
    path.write_bytes(path.read_bytes() + b"x")
    assert path.name in run("verify", "--public-key", str(key), code=1)
