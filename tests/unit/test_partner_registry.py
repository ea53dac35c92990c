"""The registry of partners: what ships is right, what is wrong is named, and secrets stay out of sight."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import paywave
from streaming.errors import RegistryError
from streaming.partners.check import check_registry
from streaming.partners.keys import secret_of, secrets_of
from streaming.partners.registry import REGISTRY, Registry, SecretSource, SigningKey, load_registry

BANK = """
[partners.bank]
source = "bank"
description = "a bank"
contacts = ["a@bank.example"]
rate = 10
burst = 20
card_numbers = "refuse"
keys = [{ id = "bank-1", secret = { env = "BANK_SECRET" } }]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "registry.toml"
    path.write_text(text)
    return path


def test_what_ships_is_right_and_its_samples_are_good_events() -> None:
    findings = check_registry(load_registry(), REGISTRY.parent)
    assert not [f for f in findings if f.problems]
    assert sum(f.events for f in findings) > 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("burst = 20", "bursts = 20"), "partners.bank.bursts"),
        (("rate = 10", "rate = 0"), "partners.bank.rate"),
        (("rate = 10", "rate = inf"), "partners.bank.rate"),
        (('env = "BANK_SECRET"', 'env = "X", dev = true'), "exactly one of env, file and dev"),
        (('env = "BANK_SECRET"', 'value = "s3cret-in-clear"'), "keys.0.secret.value"),
        (('"refuse"', '"mask"'), "partners.bank.card_numbers"),
        (("partners.bank", "partners.Bank"), "partners.Bank"),
        (("rate = 10", "rate ="), "no TOML"),
    ],
)
def test_a_wrong_registry_is_refused_with_the_place_and_without_values(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    with pytest.raises(RegistryError, match=re.escape(said)) as raised:
        load_registry(written(tmp_path, BANK.replace(*change)))
    assert "s3cret" not in str(raised.value)
    assert raised.value.hint


def test_a_source_or_a_key_belongs_to_one_partner(tmp_path: Path) -> None:
    twice = BANK + BANK.replace("partners.bank", "partners.other").replace('"bank"', '"other"')
    with pytest.raises(RegistryError, match="key id bank-1 is given more than once"):
        load_registry(written(tmp_path, twice))
    twice = BANK + BANK.replace("partners.bank", "partners.other").replace("bank-1", "bank-2")
    with pytest.raises(RegistryError, match="source bank is given more than once"):
        load_registry(written(tmp_path, twice))


def test_a_key_works_from_its_beginning_until_before_its_end() -> None:
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    key = SigningKey(id="k", secret=SecretSource(dev=True), not_before=begin, not_after=end)
    assert key.works_at(begin)
    assert not key.works_at(end)
    assert SigningKey(id="k", secret=SecretSource(dev=True)).works_at(begin)


def test_secrets_come_from_where_the_registry_says(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("of-the-file-0123456789\n")
    assert secret_of(_key(file=file), None, {}) == b"of-the-file-0123456789"
    assert secret_of(_key(env="S"), None, {"S": "of-the-environment"}) == b"of-the-environment"
    made = secret_of(_key(dev=True), tmp_path / "keys", {})
    assert secret_of(_key(dev=True), tmp_path / "keys", {}) == made
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "keys").iterdir()] == ["0o600"]


@pytest.mark.parametrize("source", [{"env": "S"}, {"file": Path("absent")}, {"dev": True}])
def test_a_secret_that_is_missing_or_short_is_named_and_not_shown(source: dict[str, object]) -> None:
    with pytest.raises(RegistryError, match="key k ") as raised:
        secret_of(_key(**source), None, {"S": "tooshort"})
    assert "tooshort" not in str(raised.value)


def test_a_partner_that_is_not_active_needs_no_secret(tmp_path: Path) -> None:
    registry = load_registry(written(tmp_path, BANK.replace("rate = 10", "rate = 10\nactive = false")))
    assert secrets_of(registry, None) == {}


def test_a_sample_that_does_not_fit_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(
        "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD\n"
        "1,2019-03-05 00:20:15,20,145,58.03,0\n"
        "2,2019-03-05 00:20:15,20,145,58.033,0\n"
        "3,yesterday,20,145,58.03,0\n"
        "4,2019-03-05 00:20:15,4111 1111 1111 1111,145,58.03,0\n"
    )
    text = BANK.replace("rate", 'profile = "card-transactions"\nsamples = ["bad.csv"]\nrate')
    wrong_source = load_registry(written(tmp_path, text))
    assert "says source card-simulator" in _problems(wrong_source, tmp_path)[0]
    registry = load_registry(written(tmp_path, text.replace('source = "bank"', 'source = "card-simulator"')))
    said = _problems(registry, tmp_path)
    assert said[0].startswith("bad.csv: event 2: amount")
    assert said[1] == "bad.csv: event 3: line 4 does not fit the profile"
    assert said[2] == "bad.csv: event 4: holds a card number: samples are made up"


def test_the_command_exits_1_where_a_check_falls_short(tmp_path: Path) -> None:
    path = written(tmp_path, BANK.replace("rate", 'profile = "nobody"\nrate'))
    done = CliRunner().invoke(paywave, ["partners", "check", "--registry", str(path)])
    assert done.exit_code == 1
    assert "no profile 'nobody'" in done.output
    assert CliRunner().invoke(paywave, ["partners", "list", "--registry", str(path)]).exit_code == 0


def _problems(registry: Registry, folder: Path) -> tuple[str, ...]:
    return check_registry(registry, folder)[0].problems


def _key(**source: object) -> SigningKey:
    return SigningKey(id="k", secret=SecretSource.model_validate(source))
