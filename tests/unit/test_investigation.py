"""An investigation from files to story, on a small lake: little is read, any time is told, expired too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pyiceberg.expressions.parser import parse

from cli.commands import investigate as command
from cli.main import paywave
from lakehouse.definitions import PAYMENTS, RAW, TRANSACTIONS, VERSIONS
from lakehouse.errors import UnknownMoment
from lakehouse.investigations import story as kinds
from lakehouse.investigations.find import Span
from lakehouse.investigations.investigate import Answer, Question, investigate
from lakehouse.investigations.lookup import Lookup
from lakehouse.investigations.subject import ACCOUNT, EVENT, TRANSACTION, Kind, NothingFound, Subject
from tests.events import NOON, TOPIC_ID, event_id, wire
from tests.small_lake import SmallLake

OTHERS = 8
MINUTE = timedelta(minutes=1)
LATER = "2026-11-20T12:00:00Z"


def raw(
    value: bytes, offset: int, after: timedelta = MINUTE, key: str | None = "acct-1", **headers: str
) -> Any:
    fields = json.loads(value) if value.startswith(b"{") else {}
    told = {"ce_id": fields.get("event_id", ""), "ce_source": "bank"} | headers
    return {
        "topic_id": TOPIC_ID,
        "topic": "payments.events",
        "partition": 0,
        "offset": offset,
        "kafka_ts": NOON + after,
        "headers": [{"key": name, "value": text.encode()} for name, text in told.items()],
        "key": None if key is None else key.encode(),
        "value": value,
        "event_ts": None,
        "redrive_of": None,
    }


def others(offset: int, hour: int, count: int = 40) -> list[Any]:
    """Events of other accounts, and one bad record, in an hour of their own."""
    when = (NOON + timedelta(hours=hour)).isoformat()
    events = [
        raw(
            wire(
                f"o{offset + i}",
                event_ts=when,
                account_id=f"acct-{offset + i}",
                transaction_ref=f"R{offset + i}",
            ),
            offset + i,
            timedelta(hours=hour),
            f"acct-{offset + i}",
        )
        for i in range(count - 1)
    ]
    bad = raw(b"no json", offset + count - 1, timedelta(hours=hour), None)
    return [row | {"partition": 1} for row in (*events, bad)]


@dataclass
class Filled:
    """The lake, and the times at which readers saw each step."""

    lake: SmallLake
    times: list[datetime]
    rows: list[list[dict[str, Any]]]
    home: Path

    def ask(self, kind: Kind, id_: str, **asked: Any) -> Answer:
        return investigate(self.lake.catalog, Question(Subject(kind, id_), **asked))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A payment; a duplicate under another id and key; a correction; a bad refund; a reversal, late."""
    lake, ref = SmallLake(tmp_path_factory.mktemp("lake")), {"transaction_ref": "T-1"}
    for hour in range(OTHERS):
        lake.publish(others(1000 * (hour + 1), hour - 4))
    steps: list[list[Any]] = [
        [raw(wire("e1", **ref), 0)],
        [raw(wire("e1", minute=5, **ref), 1), raw(wire("e2", minute=2, **ref), 2, key="other", ce_id="")],
        [raw(wire("e1", minute=9, revision=1, amount="90", **ref), 3, 10 * MINUTE)],
        [raw(wire("r1", event_type="REFUND", amount="1.234", **ref), 4, timedelta(hours=2))],
        [raw(wire("e9", minute=99, status="REVERSED", original="e1", **ref), 5, timedelta(hours=9))],
    ]
    times, rows = [], []
    for step in steps:
        time.sleep(0.01)  # the catalog tells times in milliseconds
        times.append(lake.publish(step))
        rows.append(
            lake.catalog.load_table(PAYMENTS).scan(row_filter="account_id = 'acct-1'").to_arrow().to_pylist()
        )
    return Filled(lake, times, rows, tmp_path_factory.mktemp("home"))


def kinds_of(answer: Answer) -> list[str]:
    return [e.kind for e in answer.story.entries]


WHOLE = [kinds.FIRST, kinds.DUPLICATE, kinds.REDELIVERY, kinds.CORRECTION, kinds.QUARANTINED, kinds.REVERSAL]


@pytest.mark.parametrize(
    ("kind", "id_"), [(TRANSACTION, "T-1"), (ACCOUNT, "acct-1"), (EVENT, event_id("e1"))]
)
def test_every_record_is_found_whatever_is_asked_for(filled: Filled, kind: Kind, id_: str) -> None:
    wanted = [k for k in WHOLE if kind != EVENT or k != kinds.QUARANTINED]  # another event of the transaction
    assert sorted(kinds_of(filled.ask(kind, id_))) == sorted(wanted)


def test_a_record_that_never_became_an_event_is_found_by_its_header(filled: Filled) -> None:
    (entry,) = filled.ask(EVENT, event_id("r1")).story.entries
    assert (entry.kind, entry.record.where.offset) == (kinds.QUARANTINED, 4)
    assert entry.quarantine is not None
    assert entry.quarantine.state == "open"


@pytest.mark.parametrize(
    ("kind", "id_"), [(TRANSACTION, "T-1"), (EVENT, event_id("r1")), (ACCOUNT, "acct-1")]
)
def test_little_is_read(filled: Filled, kind: Kind, id_: str) -> None:
    efforts = {e.table: e for e in filled.ask(kind, id_).efforts if e.table in (RAW, VERSIONS)}
    of_raw = efforts[RAW]
    assert len(of_raw.read) < of_raw.files
    assert of_raw.denied
    assert of_raw.files - len(of_raw.read) >= OTHERS - 2
    assert 0 < of_raw.read_bytes < of_raw.bytes
    assert of_raw.asked_bytes > 0
    assert len(efforts[VERSIONS].read) <= 4 < efforts[VERSIONS].files


def test_bloom_filters_rule_out_what_statistics_cannot(filled: Filled) -> None:
    """The same rows are found without them, by reading more."""
    wanted, table = event_id("e1").encode(), filled.lake.catalog.load_table(VERSIONS)
    with_them, without = Lookup(table), Lookup(table)
    where = parse(f"event_id = '{event_id('e1')}'")
    assert _ids(with_them.rows(where, {"event_id": [wanted]})) == _ids(without.rows(where))
    assert len(with_them.effort.read) < len(without.effort.read)


@pytest.mark.parametrize("step", range(5))
def test_readers_saw_what_the_table_held_then(filled: Filled, step: int) -> None:
    seen = filled.ask(TRANSACTION, "T-1", at=filled.times[step]).story.seen
    assert list(seen.payments) == filled.rows[step]
    assert not seen.folded_again


def test_before_a_correction_it_is_not_told(filled: Filled) -> None:
    answer = filled.ask(EVENT, event_id("e1"), at=filled.times[1])
    assert kinds.CORRECTION not in kinds_of(answer)
    assert answer.story.seen.payments[0]["amount"] == 100


def test_what_changed_between_two_times(filled: Filled) -> None:
    answer = filled.ask(TRANSACTION, "T-1", before=filled.times[1], at=filled.times[2])
    assert answer.story.changes == ("amount 100.0000 -> 90.0000",)
    assert filled.ask(TRANSACTION, "T-1", before=filled.times[2], at=filled.times[3]).story.changes == ()


def test_each_record_says_since_when_readers_see_it(filled: Filled) -> None:
    entries = [e for e in filled.ask(TRANSACTION, "T-1").story.entries if e.record.event is not None]
    seen = {e.record.where.offset: e.seen.published_at for e in entries if e.seen is not None}
    assert [seen[i] for i in (0, 1, 2, 3, 5)] == [filled.times[i].astimezone(UTC) for i in (0, 1, 1, 2, 4)]
    assert {e.seen.code_version for e in entries if e.seen} == {"0.1.0"}


def test_an_expired_moment_is_folded_again_to_what_readers_saw(tmp_path: Path) -> None:
    lake, times, rows = SmallLake(tmp_path), [], []
    for step in (
        [raw(wire("e1"), 0)],
        [raw(wire("e1", minute=5, revision=1, amount="90"), 1)],
        others(50, 1),
    ):
        time.sleep(0.01)
        times.append(lake.publish(step))
        rows.append(
            lake.catalog.load_table(PAYMENTS).scan(row_filter="account_id = 'acct-1'").to_arrow().to_pylist()
        )
    lake.expire(PAYMENTS)
    lake.expire(TRANSACTIONS)
    for at, wanted in zip(times[:2], rows[:2], strict=True):
        story = investigate(lake.catalog, Question(Subject(ACCOUNT, "acct-1"), at)).story
        assert story.seen.folded_again
        assert list(story.seen.payments) == wanted
        assert any("folded again" in note for note in story.notes)
    # transactions follow payments: at that time readers saw those of the step before
    (transaction,) = investigate(
        lake.catalog, Question(Subject(ACCOUNT, "acct-1"), times[1])
    ).story.seen.transactions
    assert transaction["captured"] == 100


@pytest.mark.parametrize(
    ("kind", "id_"), [(EVENT, event_id("nobody")), (TRANSACTION, "T-0"), (ACCOUNT, "acct-0")]
)
def test_an_id_that_is_nowhere_says_where_it_was_looked_for(filled: Filled, kind: Kind, id_: str) -> None:
    with pytest.raises(
        NothingFound, match=rf"nothing mentions {kind} {id_}: looked in {VERSIONS} \(\d+ files"
    ):
        filled.ask(kind, id_)


def test_a_time_before_anything_was_published_is_refused(filled: Filled) -> None:
    with pytest.raises((UnknownMoment, NothingFound)):
        filled.ask(TRANSACTION, "T-1", at=NOON - timedelta(days=400))


def test_a_span_of_time_spares_looking_elsewhere(filled: Filled) -> None:
    span = Span(NOON - MINUTE, NOON + MINUTE)
    wide, narrow = (filled.ask(EVENT, event_id("e1"), span=s) for s in (Span(), span))
    assert kinds_of(wide) == kinds_of(narrow)
    looked = [next(e for e in a.efforts if e.table == VERSIONS) for a in (wide, narrow)]
    assert len(looked[1].planned) < len(looked[0].planned)


def run(monkeypatch: pytest.MonkeyPatch, filled: Filled, *arguments: str) -> Any:
    monkeypatch.setattr(command, "catalog_of", lambda settings: filled.lake.catalog)
    monkeypatch.setenv("PAYWAVE_HOME", str(filled.home))  # the trail notes there what was seen last
    return CliRunner().invoke(paywave, ["investigate", *arguments], catch_exceptions=True)


def test_the_command_tells_the_story_and_what_was_read(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(monkeypatch, filled, "transaction", "T-1")
    assert done.exit_code == 0, done.output
    assert "The story of transaction T-1, as readers see it now" in done.output
    assert f"{RAW}: " in done.output
    told = json.loads(run(monkeypatch, filled, "transaction", "T-1", "--output", "json").stdout)
    assert [r["kind"] for r in told["records"]] == kinds_of(filled.ask(TRANSACTION, "T-1"))
    assert {"files_read", "files", "bytes_read", "bytes"} <= told["read"][0].keys()


@pytest.mark.parametrize(
    "arguments",
    [
        ("transaction", "T-1", "--as-of", "yesterday"),
        ("transaction", "T-1", "--as-of", "2999-01-01T00:00:00Z"),
        ("transaction", "T-1", "--between", "2026-11-20T12:00:00Z", "2026-11-20T11:00:00Z"),
        ("transaction", "T-1", "--as-of", LATER, "--between", "2026-11-20T10:00:00Z", LATER),
        ("transaction", "T-1", "--from", "2026-11-20T12:00:00Z", "--to", "2026-11-20T11:00:00Z"),
    ],
)  # fmt: skip
def test_times_that_make_no_sense_are_wrong_usage(
    arguments: tuple[str, ...], filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, filled, *arguments).exit_code == 2


def _ids(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((row["event_id"], row["content_hash"]) for row in rows)
