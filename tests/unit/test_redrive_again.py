"""What becomes of a quarantined record: which are sent again, as what, and why the others are not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse.fold import Coordinates
from lakehouse.quarantined import Quarantined, RawRecord
from lakehouse.redrive_mark import Mark, read_mark
from quality.canonical import MAX_BYTES
from quality.contract import Contract, Violation
from streaming.dropzone.rows import MASK, Origin, RowIntake
from streaming.partners import RowMapper, load_profiles
from streaming.redrive.again import (
    BROKEN,
    GONE,
    HELD,
    MASKED,
    ON_ITS_WAY,
    PASSES,
    TRIED,
    Decision,
    Terms,
    decide,
)
from tests.events import KAFKA_TS, wire

WHERE = Coordinates("t", 2, 5)
TERMS = Terms(Contract(1, datetime(1970, 1, 1, tzinfo=UTC)), attempts=3)
HEADERS = (("ce_source", b"bank"), ("traceparent", b"00-1-2-3"), ("odd", None))


def record(**changes: Any) -> Quarantined:
    told = (Violation("age", "event_ts", "", "too old"),)
    row = Quarantined(
        *WHERE[:1], "topic", *WHERE[1:], KAFKA_TS, "bank", told, 1, "open", None, None, None, None
    )
    return row._replace(**changes)


def decided(value: bytes, terms: Terms = TERMS, headers: tuple[Any, ...] = HEADERS) -> Decision:
    return decide(record(), RawRecord(b"key", value, headers), terms)


def marked(mark: Mark) -> tuple[Any, ...]:
    return (*HEADERS, *mark.headers())


def test_what_passes_is_sent_with_the_same_key_and_bytes_and_a_mark() -> None:
    decision = decided(wire())
    assert decision.outcome == PASSES
    ((value, key, headers),) = decision.messages
    assert (value, key) == (wire(), b"key")
    assert headers == (("ce_source", b"bank"), *Mark(WHERE, KAFKA_TS, KAFKA_TS, 1).headers())


def test_what_is_still_broken_is_not_sent_and_says_its_rules() -> None:
    decision = decided(wire(amount="-1", currency="XXX"))
    assert (decision.outcome, decision.messages, decision.rules) == (BROKEN, (), ("enum", "range"))
    assert decide(record(), RawRecord(None, None, ()), TERMS).outcome == BROKEN


def test_nothing_of_a_partner_whose_slice_is_held_goes_past_the_hold() -> None:
    assert decided(wire(), replace(TERMS, held={"bank"})).outcome == HELD
    assert decided(wire(), replace(TERMS, held={"", "shop"})).outcome == PASSES


def test_age_is_judged_as_of_when_the_record_first_came() -> None:
    week_late = wire(event_type="AUTH", event_ts=(KAFKA_TS - timedelta(days=8)).isoformat())
    assert decided(week_late).rules == ("age",)
    before = Mark(Coordinates("t", 0, 1), KAFKA_TS - timedelta(hours=1), KAFKA_TS - timedelta(days=2), 1)
    again = decided(week_late, headers=marked(before))
    assert again.outcome == PASSES
    (message,) = again.messages
    sent = [{"key": name, "value": value} for name, value in message.headers]
    mark = Mark(WHERE, KAFKA_TS, before.first_time, 2)
    assert read_mark(sent, Coordinates("t", 2, 9), KAFKA_TS + timedelta(days=9)) == mark
    assert len(message.headers) == 1 + len(mark.headers()), "an earlier mark is replaced"


def test_an_archive_stays_one() -> None:
    old = wire(event_ts="2019-03-05T00:00:00Z")
    assert decided(old).rules == ("age",)
    assert decided(old, headers=(("archive", b"true"),)).outcome == PASSES


def test_what_was_tried_too_often_is_left_out_unless_asked_for() -> None:
    third = marked(Mark(Coordinates("t", 0, 1), KAFKA_TS, KAFKA_TS, 3))
    assert decided(wire(), headers=third).outcome == TRIED
    assert decided(wire(), replace(TERMS, attempts=4), third).outcome == PASSES


def test_what_is_on_its_way_masked_or_gone_is_not_sent() -> None:
    assert decided(wire(), replace(TERMS, on_their_way={WHERE})).outcome == ON_ITS_WAY
    assert decided(wire(card_id=MASK)).outcome == MASKED
    assert decide(record(), None, TERMS).outcome == GONE


# -- rows of files -------------------------------------------------------------------------------------------

CARDS = load_profiles()["card-transactions"]
COLUMNS = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]
BY_PROFILE = replace(TERMS, profiles={"bank": CARDS})


def rejected(row: bytes, mapper: RowMapper | None) -> RawRecord:
    """What raw has of a row that the dropzone rejected."""
    (message,), reasons = RowIntake(Origin("bank", "day.csv", "d", KAFKA_TS), "refuse", mapper).take(row, 7)
    assert reasons
    return RawRecord(message.key, message.value, message.headers)


def test_a_row_that_its_profile_maps_by_now_is_sent_as_its_events() -> None:
    stricter = CARDS.model_copy(update={"time_format": "%d.%m.%Y"})
    raw = rejected(b"1,2019-03-05 00:20:15,20,145,58.03,1", RowMapper(stricter, COLUMNS, "day.csv"))
    assert decide(record(), raw, TERMS).rules == ("unreadable",), "without a profile it is what it is"
    assert decide(record(), raw, replace(TERMS, profiles={"bank": stricter})).rules == ("unmappable",)
    decision = decide(record(), raw, BY_PROFILE)
    assert decision.outcome == PASSES
    assert [json.loads(m.value)["event_type"] for m in decision.messages] == ["CAPTURE", "CHARGEBACK"]
    found = [
        read_mark([{"key": k, "value": v} for k, v in m.headers], Coordinates("t", 2, 9), KAFKA_TS)
        for m in decision.messages
    ]
    last = Mark(WHERE, KAFKA_TS, KAFKA_TS, 1)
    assert found == [last._replace(has_more=True), last], "the last one tells that all are in"
    assert dict(decision.messages[1].headers)["line"] == b"7"


def test_a_line_of_json_gets_what_it_lacked() -> None:
    raw = rejected(wire(event_id=..., ingest_ts=..., amount="1e9999999999999999999"), None)
    assert decide(record(), raw, TERMS).outcome == BROKEN
    mended = raw._replace(value=wire(event_id=..., ingest_ts=...))
    (message,) = decide(record(), mended, TERMS).messages
    assert json.loads(message.value).keys() >= {"event_id", "ingest_ts"}


def test_rows_that_were_cut_or_lost_their_columns_or_were_masked_do_not_pass() -> None:
    raw = rejected(b"1,2019-03-05 00:20:15,20,145,58.03,?", RowMapper(CARDS, COLUMNS, "day.csv"))
    good = raw._replace(value=b"1,2019-03-05 00:20:15,20,145,58.03,0")
    assert decide(record(), good, BY_PROFILE).outcome == PASSES
    cut = good._replace(value=b"1,2019-03-05 00:20:15,20,145,58.03,0" + b" " * MAX_BYTES)
    assert decide(record(), cut, BY_PROFILE).outcome == BROKEN
    for columns in (b"[]", b"7", b"{", b"\xff", None):
        others = tuple((k, columns if k == "file-columns" else v) for k, v in good.headers)
        assert decide(record(), good._replace(headers=others), BY_PROFILE).outcome == BROKEN
    masked = good._replace(value=f"1,2019-03-05 00:20:15,{MASK},145,58.03,0".encode())
    assert decide(record(), masked, BY_PROFILE).outcome == MASKED


def test_an_event_of_an_archive_file_is_judged_as_it_came() -> None:
    headers = (("archive", b"true"), ("file", b"f"), ("file-digest", b"d"), ("line", b"3"))
    (message,) = decided(wire(event_ts="2019-03-05T00:00:00Z"), headers=headers).messages
    assert dict(message.headers)["archive"] == b"true"
