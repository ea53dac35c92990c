"""`paywave events generate`: options, exit codes, and nothing but events on stdout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.commands.events import events


def generate(*options: str) -> Result:
    return CliRunner().invoke(events, ["generate", *options])


def test_the_same_arguments_give_the_same_bytes_and_exactly_so_many_lines() -> None:
    options = ("--count", "300", "--seed", "9", "--preset", "demo", "--malformed", "0.1")
    first, again = generate(*options), generate(*options)
    assert first.exit_code == 0
    assert first.stdout_bytes == again.stdout_bytes
    assert first.stdout_bytes.count(b"\n") == 300
    assert first.stderr == ""


def test_a_seed_that_was_chosen_is_shown_and_gives_the_same_bytes() -> None:
    first = generate("--count", "20")
    seed = first.stderr.removeprefix("seed ").strip()
    assert generate("--count", "20", "--seed", seed).stdout_bytes == first.stdout_bytes


def test_the_expected_outcome_is_written(tmp_path: Path) -> None:
    expect = tmp_path / "expect.json"
    generate("--count", "200", "--seed", "1", "--expect", str(expect), "--corrections", "0.1")
    outcome = json.loads(expect.read_text())
    assert outcome["records"] == 200
    assert outcome["superseded"] > 0
    assert set(outcome) == {
        "records", "redelivered", "versions", "superseded", "events", "duplicates", "payments", "quarantined",
        "reversed_payments", "amount", "amounts",
    }  # fmt: skip


def test_start_and_span_bound_the_event_times() -> None:
    options = ("--start", "2026-11-20T03:00:00+02:00", "--span", "1h30m")
    lines = generate("--count", "200", "--seed", "1", *options).stdout_bytes.splitlines()
    times = sorted(json.loads(line)["event_ts"] for line in lines)
    assert times[0] >= "2026-11-20T01:00:00"
    assert times[-1] < "2026-11-20T02:30:00"


@pytest.mark.parametrize(
    "options",
    [
        ("--count", "-1"),
        ("--count", "5", "--late", "2"),
        ("--count", "5", "--late", "much"),
        ("--count", "5", "--corrections", "0.6"),
        ("--count", "5", "--span", "6"),
        ("--count", "5", "--span", "0s"),
        ("--count", "5", "--span", "40000000d"),
        ("--count", "5", "--start", "2026-11-20T00:00:00"),
        ("--count", "5", "--start", "9999-12-31T23:00:00Z"),
        ("--count", "5", "--expect", "/nowhere/at/all/expect.json"),
        (),
    ],
)
def test_wrong_usage_is_exit_2_before_any_event(options: tuple[str, ...]) -> None:
    result = generate(*options)
    assert result.exit_code == 2
    assert result.stdout == ""
