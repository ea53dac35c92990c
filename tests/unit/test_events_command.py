"""`paywave events`: options, exit codes, and nothing on stdout but the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.commands.events import events
from streaming.errors import InputFileError, ProfileError, SendError
from tests.mock_kafka import MockKafka

SAMPLE = Path(__file__).parents[1] / "data" / "card-transactions-sample.csv"


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


@pytest.fixture
def settings(kafka: MockKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MockKafka:
    monkeypatch.setenv("PAYWAVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PAYWAVE_KAFKA__BOOTSTRAP_SERVERS", kafka.properties["bootstrap.servers"])
    # it would choose a provider for the whole process, and so for the tests after this one
    monkeypatch.setattr("cli.telemetry.start_telemetry", lambda: None)
    return kafka


def send(*options: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(events, ["send", *options], input=stdin)


def test_what_was_generated_is_sent_byte_by_byte(settings: MockKafka, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(generate("--count", "300", "--seed", "1", "--malformed", "0.2").stdout_bytes)
    result = send(str(path), "--output", "json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer.pop("seconds") >= 0
    assert answer == {
        "sent": 300, "failed": 0, "refused": 0, "refused_lines": [],
        "file": str(path), "format": "jsonl", "profile": None,
    }  # fmt: skip
    assert sorted(m.value() for m in settings.consume(300)) == sorted(path.read_bytes().split(b"\n")[:-1])


def test_csv_is_sent_through_its_profile(settings: MockKafka) -> None:
    answer = json.loads(send(str(SAMPLE), "--output", "json").stdout)
    assert (answer["sent"], answer["format"], answer["profile"]) == (43, "csv", "card-transactions")
    assert "43 events" in send(str(SAMPLE)).stdout


def test_standard_input_is_sent(settings: MockKafka) -> None:
    assert json.loads(send("-", "--output", "json", stdin=b"{}\n{}").stdout)["sent"] == 2


def test_a_refused_record_is_exit_1_and_counted(settings: MockKafka, tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    path.write_bytes(b"{}\n" + b"x" * 40_000_000 + b"\n{}\n")
    result = send(str(path), "--output", "json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["sent"], answer["failed"]) == (2, 1)
    assert "too large" in result.stderr


def test_a_line_with_a_card_number_is_not_sent_but_named_unless_it_is_allowed(
    settings: MockKafka, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    lines = [
        b"{}",
        b'{"a": "\\u0034111111111111111"}',
        b"broken 4111 1111 1111 1111",
        b"[1.0]",
        b'{"a": 4111111111111111}',
    ]
    path.write_bytes(b"\n".join(lines))
    result = send(str(path), "--output", "json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["sent"], answer["refused"]) == (1, 2, 3)
    assert answer["refused_lines"] == [2, 3, 5]
    assert "line 2, 3, 5" in result.stderr
    assert "1111" not in result.output + result.stderr
    passed = [m.value() for m in settings.consume(2)]
    assert sorted(passed) == [b"[1.0]", b"{}"]
    result = send(str(path), "--allow-card-numbers", "--output", "json")
    assert (result.exit_code, json.loads(result.stdout)["sent"]) == (0, 5)
    assert sorted(m.value() for m in settings.consume(7)) == sorted(lines + passed)


def test_what_cannot_be_sent_is_an_error(settings: MockKafka, tmp_path: Path) -> None:
    assert isinstance(send(str(tmp_path / "absent")).exception, InputFileError)
    assert isinstance(send(str(SAMPLE), "--profile", "acme").exception, ProfileError)
    settings.stop()
    assert send(str(SAMPLE), "--rate", "0").exit_code == 2


def test_no_kafka_is_an_error(settings: MockKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.producer.PROBE_SECONDS", 0.5)
    monkeypatch.setenv("PAYWAVE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert isinstance(send(str(SAMPLE)).exception, SendError)
