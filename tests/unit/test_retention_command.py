"""What `paywave retention` and `paywave integrity` refuse before they reach for anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cli.main import paywave

DAY = ["--before", "2020-01-01"]
WHY = ["--reason", "court order", "--approver", "me"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--keep-months", "29"], "x>=30"),
        (["apply"], "--before"),
        (["apply", "--before", "yesterday"], "2026-11-20"),
        (["apply", *DAY], "--reason and --approver"),
        (["apply", *DAY, "--reason", " ", "--approver", "me"], "--reason and"),
        (["hold", "case"], "--reason and --approver"),
        (["hold", "case", *WHY], "--account"),
        (["hold", "case", *WHY, "--from", "2020-01-01"], "no offset"),
        (["release", "case", "--reason", "over"], "--reason and --approver"),
    ],
)
def test_wrong_usage_of_retention_is_said(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(paywave, ["retention", *arguments])
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "--head", "12"], "no tail of a chain"),
        (["check", "--sample", "0"], "x>=1"),
        (["check", "--one-in", "0"], "x>=1"),
    ],
)
def test_wrong_usage_of_integrity_is_said(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(paywave, ["integrity", *arguments])
    assert done.exit_code == 2
    assert said in done.output


def test_a_lock_that_nobody_can_take_back_wants_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYWAVE_IMMUTABILITY__MODE", "compliance")
    done = CliRunner().invoke(paywave, ["integrity", "bucket", "apply"])
    assert done.exit_code == 2
    assert "--irreversible" in done.output


def test_without_a_mode_no_bucket_is_asked_for() -> None:
    done = CliRunner().invoke(paywave, ["integrity", "bucket", "check"])
    assert done.exit_code == 0
    assert "none" in done.output


@pytest.mark.parametrize(
    ("months", "arguments", "said"),
    [(None, [], "kept for good"), ("84", ["--keep-months", "60"], "ask for no less")],
)
def test_curated_rows_go_by_the_settings_only(
    months: str | None, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if months is not None:
        monkeypatch.setenv("PAYWAVE_RETENTION__CURATED_MONTHS", months)
    monkeypatch.setattr("cli.commands.retention.catalog_of", lambda _: None)
    command = ["retention", "apply", "--store", "curated", *DAY, "--dry-run", *arguments]
    done = CliRunner().invoke(paywave, command)
    assert done.exit_code == 2
    assert said in done.output
