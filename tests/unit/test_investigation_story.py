"""The story of a payment's life, by example (a golden file) and by law: it shows the fold of its records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.fold import Coordinates
from lakehouse.gates import Hold
from lakehouse.investigations import story as kinds
from lakehouse.investigations.evidence import Evidence
from lakehouse.investigations.judged import Judged, judged
from lakehouse.investigations.plain import as_json
from lakehouse.investigations.plot import tell
from lakehouse.investigations.rows import transaction_rows, version_of
from lakehouse.investigations.story import InQuarantine, Publish, Seen, Story
from lakehouse.investigations.subject import ACCOUNT, EVENT, TRANSACTION, NotAnId, Subject, subject_of
from lakehouse.investigations.telling import lines_of, span_text
from lakehouse.offsets import OffsetVector
from lakehouse.redrive_mark import Mark
from tests.cases import CASES
from tests.events import NOON, TOPIC_ID, event_id, wire

GOLDEN = Path(__file__).parent.parent / "data" / "investigation.txt"
REFERENCE = "T-1"
BY = Subject(TRANSACTION, REFERENCE)
MINUTE = timedelta(minutes=1)


def raw(
    value: bytes, offset: int, after: timedelta = timedelta(0), source: str = "bank", **headers: str
) -> dict[str, Any]:
    """A row of raw, `after` its event's noon; the headers are those of a producer, and these."""
    fields = json.loads(value) if value.startswith(b"{") else {}
    told = {"ce_id": fields.get("event_id", ""), "ce_source": source} | headers
    return {
        "topic_id": TOPIC_ID,
        "topic": "payments.events",
        "partition": 0,
        "offset": offset,
        "kafka_ts": NOON + timedelta(minutes=1) + after,
        "headers": [{"key": name, "value": text.encode()} for name, text in told.items()],
        "key": b"acct-1",
        "value": value,
    }


def story_of(
    rows: Iterable[Mapping[str, Any]],
    subject: Subject = BY,
    vector: OffsetVector | None = None,
    holds: Iterable[Hold] = (),
    quarantine: Mapping[Coordinates, InQuarantine] | None = None,
) -> Story:
    """The story of rows of raw, each published a minute after Kafka took it."""
    records = tuple(judged(row, subject, holds) for row in rows)
    evidence = Evidence(subject, records, quarantine=quarantine or {}, publishes=published(records))
    return tell(evidence, seen_at(evidence, vector))


def published(records: Iterable[Judged]) -> tuple[Publish, ...]:
    return tuple(
        Publish(
            "curated.payments", r.kafka_ts + timedelta(minutes=1), 100 + r.where.offset, "curated",
            OffsetVector({TOPIC_ID: {0: r.where.offset + 1}}), 1, "0.1.0", r.where.offset > 1,
        )
        for r in records
    )  # fmt: skip


def seen_at(evidence: Evidence, vector: OffsetVector | None = None) -> Seen:
    at = None if vector is None else NOON
    rows = evidence.rows_at(vector)
    found = transaction_rows(evidence.all_rows_at(vector))
    transactions = [row for row in found if row["transaction_ref"] == evidence.subject.id]
    last = evidence.publishes[-1] if evidence.publishes else None
    return Seen(at, last, vector or OffsetVector(), vector is not None, tuple(rows), tuple(transactions))


def below(offset: int) -> OffsetVector:
    return OffsetVector({TOPIC_ID: {0: offset}})


def the_life_of_a_transaction() -> Story:
    """Captured, redelivered, duplicated, corrected, refused once and sent again, late; and taken back."""
    hour, ref = timedelta(hours=1), {"transaction_ref": REFERENCE}
    first, copy = wire("e1", **ref), wire("e2", minute=3, **ref)
    refund = wire(
        "r1", minute=90, event_type="REFUND", event_ts="2026-11-20T13:00:00Z", amount="12.345", **ref
    )
    mended = refund.replace(b"12.345", b"12.34")
    mark = Mark(Coordinates(TOPIC_ID, 0, 4), NOON + timedelta(minutes=1) + 2 * hour, NOON + 2 * hour, 1)
    rows = [
        raw(first, 0),
        raw(first.replace(b"12:00:00+00:00", b"12:09:00+00:00"), 1, timedelta(minutes=9)),
        raw(copy, 2, timedelta(minutes=10), "processor", file="copies.csv", line="17"),
        raw(wire("e1", minute=60, revision=1, amount="90.00", **ref), 3, hour),
        raw(refund, 4, 2 * hour),
        raw(mended, 5, 3 * hour, **_texts(mark)),
        raw(wire("a1", minute=180, event_type="AUTH", event_ts="2026-11-18T11:00:00Z", **ref), 6, 4 * hour),
        raw(wire("e1", minute=55, revision=1, amount="95.00", **ref), 7, 5 * hour),
        raw(wire("e9", minute=360, status="REVERSED", original="e1", **ref), 8, 6 * hour),
        raw(wire("e7", minute=1, merchant_id="elsewhere", transaction_ref="T-2"), 9, 7 * hour),
    ]
    state = InQuarantine(1, "redriven", f"{TOPIC_ID}/0/5", NOON + timedelta(minutes=1) + 3 * hour)
    return story_of(rows, quarantine={Coordinates(TOPIC_ID, 0, 4): state})


def test_a_life_reads_like_a_story() -> None:
    """`python -m tests.unit.test_investigation_story` writes the file anew: look at its difference."""
    assert "\n".join(lines_of(the_life_of_a_transaction())) + "\n" == GOLDEN.read_text()


def test_each_record_is_what_it_was() -> None:
    assert [e.kind for e in the_life_of_a_transaction().entries] == [
        kinds.FIRST, kinds.REDELIVERY, kinds.DUPLICATE, kinds.CORRECTION, kinds.QUARANTINED, kinds.FIRST,
        kinds.FIRST, kinds.SUPERSEDED, kinds.REVERSAL,
    ]  # fmt: skip


def test_the_whole_story_is_plain_values() -> None:
    told = json.loads(json.dumps(as_json(the_life_of_a_transaction())))
    assert [r["coordinate"] for r in told["records"]] == [f"{TOPIC_ID}/0/{i}" for i in range(9)]
    assert told["records"][4]["violations"][0]["rule"] == "scale"
    assert told["records"][2]["way"] == "in the file copies.csv, line 17"
    (transaction,) = [t for t in told["seen"]["transactions"] if t["transaction_ref"] == REFERENCE]
    assert (transaction["captured"], transaction["refunded"]) == ("0.0000", "12.3400")


def test_only_the_last_records_are_told_where_there_are_many() -> None:
    lines = list(lines_of(the_life_of_a_transaction(), most=2))
    assert any("7 earlier records" in line for line in lines)
    assert not any(line.startswith("  1. ") for line in lines)


@pytest.mark.parametrize("name", CASES)
def test_a_story_ends_with_the_fold_of_its_records(name: str) -> None:
    case = CASES[name]
    rows = [raw(wire(a.name, minute=a.minute, **a.changes), i) for i, a in enumerate(case.arrivals)]
    told = story_of(rows, Subject(ACCOUNT, "acct-1"))
    assert sum(r["amount"] for r in told.seen.payments if r["status"] != "REVERSED") == case.amount
    assert {tuple(r["flags"]) for r in told.seen.payments} == case.flags
    assert len(told.entries) == len(rows)


@given(st.permutations(range(9)), st.integers(0, 9))
def test_a_story_at_a_vector_is_that_of_the_records_below_it(order: list[int], end: int) -> None:
    """However the records came: nothing above the vector shows, and nothing below it is missing."""
    rows = [raw(_LIFE[i], offset) for offset, i in enumerate(order)]
    whole = Evidence(BY, tuple(judged(row, BY) for row in rows))
    part = Evidence(BY, tuple(judged(row, BY) for row in rows[:end]))
    assert whole.rows_at(below(end)) == part.rows_at(None)
    then, only = tell(whole, seen_at(whole, below(end))), tell(part, seen_at(part))
    assert [(e.record, e.kind, e.why, e.changed) for e in then.entries] == [
        (e.record, e.kind, e.why, e.changed) for e in only.entries
    ]


@given(st.permutations(range(9)))
def test_the_changes_of_all_records_lead_to_what_readers_see(order: list[int]) -> None:
    """No record changes a payment unseen: a story's last state is empty only if nothing was ever new."""
    told = story_of([raw(_LIFE[i], offset) for offset, i in enumerate(order)])
    new = sum(c.startswith("a new payment") for e in told.entries for c in e.changed)
    gone = sum(c.startswith("a payment is gone") for e in told.entries for c in e.changed)
    assert new - gone == len(told.seen.payments)


def test_versions_whose_records_raw_dropped_are_told_too() -> None:
    first = judged(raw(wire("e1", transaction_ref=REFERENCE), 0), BY)
    later = judged(raw(wire("e1", minute=5, revision=1, amount="90", transaction_ref=REFERENCE), 1), BY)
    assert first.version is not None
    evidence = Evidence(BY, (later,), stored=(first.version,))
    evidence.transport.add(first.where, "bank", "payments.events")
    told = tell(evidence, seen_at(evidence))
    assert [v.content_hash for v in told.missing] == [first.version.content_hash]
    assert told.entries[0].kind == kinds.CORRECTION
    assert any("raw has its record no more" in line for line in lines_of(told))


def test_a_row_of_the_table_is_read_as_the_version_it_tells() -> None:
    record = judged(raw(wire("e1", revision=2, transaction_ref=REFERENCE), 0), BY)
    assert record.event is not None
    row = {**record.event._asdict(), "first_ingest_ts": record.event.ingest_ts, **record.where._asdict()}
    del row["ingest_ts"]
    assert version_of(row) == record.version


def test_redrives_are_followed_though_the_first_record_does_not_name_the_event() -> None:
    """A file's row that could not be mapped has no id; twice sent again, the event it stands for has."""
    second = Mark(Coordinates(TOPIC_ID, 0, 0), NOON + MINUTE, NOON + MINUTE, 1)
    third = Mark(Coordinates(TOPIC_ID, 0, 1), NOON + 2 * MINUTE, NOON + MINUTE, 2)
    rows = [
        raw(b"a;row;of;a;file", 0, file="a.csv", line="3"),
        raw(b"the;row;again", 1, MINUTE, **_texts(second)),
        raw(wire("e1", transaction_ref=REFERENCE), 2, 2 * MINUTE, **_texts(third)),
        raw(b"another;row", 3, 3 * MINUTE),
    ]
    told = story_of(rows)
    assert [e.record.where.offset for e in told.entries] == [0, 1, 2]
    assert "in the file a.csv, line 3" in told.entries[0].record.way


def _texts(mark: Mark) -> dict[str, str]:
    return {name: text.decode() for name, text in mark.headers()}


def test_a_held_record_is_told_as_held() -> None:
    hold = Hold("bank", OffsetVector({TOPIC_ID: {0: 0}}))
    told = story_of([raw(wire("e1"), 0)], Subject(EVENT, event_id("e1")), holds=[hold])
    assert [e.kind for e in told.entries] == [kinds.HELD]
    assert not told.seen.payments


def test_a_record_that_only_mentions_the_id_is_told() -> None:
    broken = b'{"event_id": "%s", "amount": "x"}' % event_id("e1").upper().encode()
    told = story_of([raw(broken, 0), raw(b"not json", 1)], Subject(EVENT, event_id("e1")))
    assert [e.record.where.offset for e in told.entries] == [0]


@pytest.mark.parametrize(
    ("value", "is_in"),
    [
        (b'"T-1"', True),
        (b"a;T-1;b", True),
        (b"T-1", True),
        (b'"T-10"', False),
        (b"XT-1", False),
        (None, False),
    ],
)
def test_an_id_is_looked_for_as_a_word(value: bytes | None, is_in: bool) -> None:
    assert BY.is_in(value) is is_in


@pytest.mark.parametrize(
    ("kind", "text"), [(EVENT, "e1"), (EVENT, ""), (TRANSACTION, ""), (ACCOUNT, "a" * 129)]
)
def test_what_no_record_can_carry_is_refused(kind: Any, text: str) -> None:
    with pytest.raises(NotAnId):
        subject_of(kind, text)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=5), "less than a minute"),
        (timedelta(minutes=61), "1 h 1 min"),
        (timedelta(days=2, minutes=3), "2 d 3 min"),
    ],
)
def test_lengths_of_time_read_well(span: timedelta, text: str) -> None:
    assert span_text(span) == text


_LIFE = [
    wire("e1", transaction_ref=REFERENCE),
    wire("e1", minute=9, transaction_ref=REFERENCE),
    wire("e2", minute=3, transaction_ref=REFERENCE),
    wire("e1", minute=30, revision=1, amount="90.00", transaction_ref=REFERENCE),
    wire("e1", minute=20, revision=1, amount="95.00", transaction_ref=REFERENCE),
    wire("e3", minute=1, transaction_ref="T-2"),
    wire("e4", minute=2),
    wire("e9", minute=50, status="REVERSED", original="e1", transaction_ref=REFERENCE),
    b'{"event_id": "broken", "transaction_ref": "T-1"}',
]

if __name__ == "__main__":
    GOLDEN.write_text("\n".join(lines_of(the_life_of_a_transaction())) + "\n")
