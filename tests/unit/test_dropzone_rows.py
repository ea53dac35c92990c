"""Rows of files: the same ids each time and wherever they stand, and no card number gets through."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.canonical import MAX_BYTES
from quality.card_tokens import TokenKey
from quality.cards import card_numbers
from quality.contract import HISTORY
from quality.judge import judge
from streaming.dropzone.rows import MASK, Origin, RowIntake, Taken, masked
from streaming.partners import RowMapper, load_profiles
from streaming.partners.profile import Profile
from streaming.partners.registry import CardPolicy
from tests.events import event_id, wire

NOW = datetime(2026, 11, 20, 13, tzinfo=UTC)
CARDS = load_profiles()["card-transactions"]
HEADER = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]
ROW = b"1,2019-03-05 00:20:15,20,145,58.03,1"
VISA = "4111111111111111"
KEYS = (TokenKey("a", datetime(1970, 1, 1, tzinfo=UTC), b"k" * 32),)


def csv_intake(policy: CardPolicy = "refuse", profile: Profile = CARDS, digest: str = "d") -> RowIntake:
    mapper = RowMapper(profile, HEADER, "day.csv")
    return RowIntake(Origin("sim", "day.csv", digest, NOW), policy, mapper, KEYS)


def json_intake(policy: CardPolicy = "refuse") -> RowIntake:
    return RowIntake(Origin("bank", "day.jsonl", "d", NOW), policy, None, KEYS)


def ids(taken: Taken) -> list[str]:
    return [json.loads(m.value)["event_id"] for m in taken.messages]


def rules(taken: Taken) -> set[str]:
    return {reason.rule for reason in taken.reasons}


def test_a_row_becomes_its_events_with_file_and_line_in_the_headers() -> None:
    taken = csv_intake().take(ROW, 17)
    assert not taken.reasons
    assert [json.loads(m.value)["event_type"] for m in taken.messages] == ["CAPTURE", "CHARGEBACK"]
    for message in taken.messages:
        headers = dict(message.headers)
        assert headers["ce_source"] == b"sim"
        assert (headers["file"], headers["line"], headers["file-digest"]) == (b"day.csv", b"17", b"d")
        assert message.key == b"20"


def test_ids_depend_on_the_row_alone() -> None:
    assert ids(csv_intake().take(ROW, 2)) == ids(csv_intake(digest="other").take(ROW, 999))
    bare = wire("e1", event_id=..., ingest_ts=...)
    assert ids(json_intake().take(bare, 1)) == ids(json_intake().take(bare.replace(b", ", b" ,"), 5))
    assert ids(json_intake().take(bare, 1)) != ids(json_intake().take(bare.replace(b"100.00", b"100.01"), 1))


def test_ids_of_rows_that_carry_none_never_change() -> None:
    """Pinned: another id for the same row would count a file twice."""
    bare = wire("e1", event_id=..., ingest_ts=...)
    assert ids(json_intake().take(bare, 1)) == ["4e5497c6-3ef8-557e-9269-119e16946564"]


def test_what_a_line_of_json_lacks_is_put_before_its_own_bytes() -> None:
    whole = wire("e1")
    assert json_intake().take(whole, 1).messages[0].value == whole
    bare = wire("e1", event_id=..., ingest_ts=...)
    (message,) = json_intake().take(bare, 1).messages
    assert message.value.endswith(bare[1:])
    assert json.loads(message.value)["ingest_ts"] == "2026-11-20T13:00:00.000000Z"
    assert rules(json_intake().take(b"{}", 1)) == {"missing"}


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"1,2019-03-05 00:20:15,20,145,58.03", "unmappable"),
        (b"1,yesterday,20,145,58.03,0", "unmappable"),
        (b"1,2019-03-05 00:20:15,20,145,cheap,0", "format"),
        (b"1,2019-03-05 00:20:15,,145,1.00,0", "length"),
        (b"\xff\x00", "unmappable"),
        (b"x" * 300_000, "too_large"),
    ],
)
def test_a_rejected_row_goes_on_as_it_came_and_is_quarantined(raw: bytes, rule: str) -> None:
    taken = csv_intake().take(raw, 3)
    assert rules(taken) == {rule}
    (message,) = taken.messages
    assert message.value == raw[: 256 * 1024]
    assert message.key is None
    assert dict(message.headers)["line"] == b"3"
    assert isinstance(judge(message.value, NOW, HISTORY[0], archive=True), list)


@settings(max_examples=40)  # of a row of 256 KiB, in four ways
@given(st.integers(0, 1300), st.sampled_from([VISA, "4111-1111-1111-1111", r"\u0034111\t1111\n1111\r1111"]))
def test_of_a_row_that_is_cut_no_half_of_a_card_number_is_left(before: int, number: str) -> None:
    row = b"x" * (MAX_BYTES - 1200 + before) + number.encode() + b"x" * 2000
    others = (VISA.encode() + b"x") * 400 + row  # whose masks are shorter, so that the rest moves up
    for raw in (row, others[: len(row)]):
        for intake in (csv_intake(), json_intake()):
            value = intake.take(raw[: MAX_BYTES + 1024], 3).messages[0].value
            assert b"4111" not in value
            assert len(value) <= MAX_BYTES


def test_names_of_columns_are_masked_too() -> None:
    mapper = RowMapper(CARDS, [*HEADER, VISA], "day.csv")
    taken = RowIntake(Origin("sim", "day.csv", "d", NOW), "refuse", mapper).take(b"broken", 2)
    assert VISA.encode() not in dict(taken.messages[0].headers)["file-columns"]


def test_what_is_put_into_a_line_may_make_it_too_large() -> None:
    room = MAX_BYTES - len(wire("e1", ingest_ts=..., attributes={"x": ""}))
    assert rules(json_intake().take(wire("e1", ingest_ts=..., attributes={"x": "x" * room}), 1)) & {
        "too_large"
    }


def test_reasons_never_say_a_value() -> None:
    for raw in (b"1,secret-time,20,145,58.03,0", b"1,2019-03-05 00:20:15,20,145,1.00,secret", b'1,"secret'):
        assert "secret" not in str(csv_intake().take(raw, 2).reasons)


def test_a_row_with_a_card_number_is_refused_and_masked() -> None:
    for raw in (
        ROW.replace(b"145", VISA.encode()),
        ROW.replace(b"145", b"4111-1111 1111-1111"),
        VISA.encode(),
    ):
        taken = csv_intake().take(raw, 2)
        assert rules(taken) == {"card_number"}
        assert MASK.encode() in taken.messages[0].value
        assert not card_numbers(taken.messages[0].value.decode())


def test_a_refused_line_of_json_is_no_event_once_it_is_masked() -> None:
    for changes in ({"card_id": VISA}, {"attributes": {"note": f"paid with {VISA}"}}):
        taken = json_intake().take(wire("e1", **changes), 1)
        (message,) = taken.messages
        assert rules(taken) == {"card_number"}
        assert isinstance(judge(message.value, NOW, HISTORY[0], archive=True), list)
        assert VISA.encode() not in message.value
        assert b"e1" in message.value or event_id("e1").encode() in message.value, "the rest of it is kept"


def test_a_row_with_a_card_number_is_tokenised_the_same_each_time() -> None:
    raw = ROW.replace(b"145", VISA.encode())
    taken, again = (csv_intake("tokenise").take(raw, line) for line in (2, 3))
    assert not taken.reasons
    merchants = {json.loads(m.value)["merchant_id"] for m in (*taken.messages, *again.messages)}
    assert len(merchants) == 1
    assert merchants.pop().startswith("tok_a_")
    (message,) = json_intake("tokenise").take(wire("e1", merchant_id=f"x {VISA}"), 1).messages
    assert json.loads(message.value)["merchant_id"].startswith("x tok_a_")


def test_a_card_number_that_only_the_event_shows_leaves_nothing_of_the_row() -> None:
    split = CARDS.model_copy(update={"fields": {**CARDS.fields, "merchant_id": "{TERMINAL_ID}{CUSTOMER_ID}"}})
    taken = csv_intake("tokenise", split).take(b"1,2019-03-05 00:20:15,11111111,41111111,58.03,0", 2)
    assert rules(taken) == {"card_number"}
    assert taken.messages[0].value == MASK.encode()


@pytest.mark.parametrize(
    "raw",
    [
        f"a {VISA} b".encode(),
        b"4111\xa01111\xa01111\xa01111",
        b'{"x": "\\u0034111111111111111", ',
        *(
            b'{"x": "4111%b1111%b1111%b1111", ' % (white, white, white)
            for white in rb"\t \n \r \f \b".split()
        ),
        ("\uff14" + "\uff11" * 15).encode(),
        b"\xff" + VISA.encode() + b"\xff",
    ],
)
def test_no_card_number_survives_masking(raw: bytes) -> None:
    for encoding in ("utf-8", "cp1252", "latin-1"):
        clean = masked(raw, encoding)
        assert MASK.encode() in clean
        assert b"1111" not in clean


@given(st.binary(max_size=80), st.sampled_from(["utf-8", "cp1252"]))
def test_bytes_without_a_card_number_are_never_touched(raw: bytes, encoding: str) -> None:
    if MASK.encode() not in masked(raw, encoding):
        assert masked(raw, encoding) == raw


cell = st.one_of(
    st.text(max_size=12), st.sampled_from([VISA, "20", "1.00", "2019-03-05 00:20:15", "0", "1", ""])
)


@given(st.lists(cell, max_size=8), st.sampled_from(["refuse", "tokenise"]))
def test_any_row_is_taken_without_error_and_without_card_numbers(cells: list[str], policy: Any) -> None:
    raw = ",".join(cells).replace("\n", " ").encode("utf-8", "surrogatepass")
    for intake in (csv_intake(policy), json_intake(policy)):
        taken = intake.take(raw, 2)
        assert taken.messages
        assert taken == intake.take(raw, 2)
        for message in taken.messages:
            assert not card_numbers(message.value.decode("utf-8", "replace"))
            is_good = not isinstance(judge(message.value, NOW, HISTORY[0], archive=True), list)
            assert is_good == (not taken.reasons)
