"""The verdict on a record: every rule by example, what counts as the same content, and no exception ever."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.contract import (
    BUSINESS_KEY,
    HISTORY,
    MAX_REVISION,
    Contract,
    Event,
    Violation,
    contract,
    in_force,
)
from quality.currencies import MINOR_UNITS
from quality.errors import UnknownContract
from quality.judge import judge, micros
from quality.warnings import warnings
from tests.events import KAFKA_TS, event_id, valid, wire

CONTRACT = HISTORY[0]
CARD = "4111111111111111"


def broken(data: bytes | None, **options: Any) -> list[tuple[str, str]]:
    """Judge, insist that it is refused, and return (rule, field) of each violation."""
    verdict = judge(data, KAFKA_TS, CONTRACT, **options)
    assert isinstance(verdict, list) and verdict
    return [(v.rule, v.field) for v in verdict]


def at(moment: datetime, **changes: Any) -> bytes:
    return wire(event_ts=moment.isoformat(), **changes)


def changed(field: str, value: Any) -> bytes:
    fields: dict[str, Any] = {field: value}
    return wire(**fields)


# -- a good event ------------------------------------------------------------------------------------------


def test_a_good_event_is_typed_and_complete() -> None:
    event = valid(
        wire(
            amount="12.5",
            revision=3,
            transaction_ref="T-1",
            original="e0",
            event_ts="2026-11-20T13:00:00.25+01:00",
            attributes={"b": 1.50, "a": "x"},
            status="DECLINED",
        )
    )
    assert event.amount == Decimal("12.5000") and event.amount.as_tuple().exponent == -4
    assert event.event_ts == datetime(2026, 11, 20, 12, 0, 0, 250_000, UTC)
    assert event.event_ts.utcoffset() == timedelta(0)
    assert (event.revision, event.transaction_ref) == (3, "T-1")
    assert event.original_event_id == event_id("e0")
    assert event.attributes == '{"a":"x","b":1.5}'
    assert len(event.content_hash) == len(event.business_key) == 64


def test_unknown_fields_are_kept_under_attributes() -> None:
    event = valid(wire(attributes={"a": 1}, channel="web", extra={"deep": [1, 2.50]}))
    assert json.loads(event.attributes) == {"a": 1, "channel": "web", "extra": {"deep": [1, 2.5]}}


def test_an_unknown_field_does_not_replace_an_attribute() -> None:
    event = valid(wire(attributes={"channel": "pos", "~channel": "x"}, channel="web"))
    assert json.loads(event.attributes) == {"channel": "pos", "~channel": "x", "~~channel": "web"}


@pytest.mark.parametrize("status", ["APPROVED", "REVERSED"])
def test_whether_a_record_is_a_notice_is_not_for_the_contract_to_say(status: str) -> None:
    event = valid(wire("e9", event_type="REFUND", status=status, original="e1"))
    assert (event.event_id, event.original_event_id) == (event_id("e9"), event_id("e1"))
    other = valid(wire("e8", event_type="REFUND", status=status, original="e1"))
    assert event.content_hash != other.content_hash


# -- the same content --------------------------------------------------------------------------------------

SAME: dict[str, list[bytes]] = {
    "amount": [
        wire(),
        *(wire(amount=a) for a in ("100", "100.0", "100.0000", "1e2", "1E+2", "100" + "." + "0" * 60)),
        *(wire().replace(b'"100.00"', n) for n in (b"100", b"100.0", b"1e2", b"1000e-1")),
    ],
    "moment": [
        wire(event_ts=t)
        for t in (
            "2026-11-20T12:00:00Z",
            "2026-11-20T12:00Z",
            "2026-11-20T12:00:00.000000+00:00",
            "2026-11-20T12:00:00-00:00",
            "2026-11-20T14:00:00.0+02:00",
            "2026-11-20T17:30:00+0530",
            "2026-11-20T13:00:00+01",
        )
    ],
    "attributes": [
        wire(attributes={"a": 1, "b": [1.0, 2]}),
        wire(attributes={"b": [1, 2.0], "a": 1.0}),
        wire().replace(b'"attributes": {}', b'"attributes": {"\\u0062": [1e0, 2], "a": 10e-1}'),
        wire(a=1, b=[1, 2]),
    ],
    "no explicit revision": [wire(), wire(revision=0), wire(revision=None)],
    "no reference": [wire(), wire(transaction_ref=None)],
    "hex digits of the id": [wire(), wire(event_id=event_id("e1").upper())],
    "ingest time": [wire(), wire(minute=50), wire(ingest_ts="2026-11-21T00:00:00Z")],
}


@pytest.mark.parametrize("texts", SAME.values(), ids=SAME)
def test_content_is_compared_by_value(texts: list[bytes]) -> None:
    assert len({valid(text).content_hash for text in texts}) == 1
    assert len({valid(text).business_key for text in texts}) == 1


OTHER: list[dict[str, Any]] = [
    {"amount": "100.01"},
    {"event_ts": "2026-11-20T12:00:00.000002Z"},
    {"account_id": "ACCT-1"},
    {"account_id": "acct-1 "},
    {"account_id": "acct-1\u200b"},
    {"card_id": "caf\u00e9"},
    {"card_id": "cafe\u0301"},
    {"merchant_id": "shop-2"},
    {"currency": "EUR"},
    {"network": "MC"},
    {"event_type": "AUTH"},
]


@pytest.mark.parametrize("changes", OTHER, ids=str)
def test_any_field_of_the_business_key_makes_another_payment(changes: dict[str, Any]) -> None:
    assert valid(wire(**changes)).business_key != valid(wire()).business_key
    assert valid(wire(**changes)).content_hash != valid(wire()).content_hash


@pytest.mark.parametrize(
    "changes",
    [{"status": "DECLINED"}, {"transaction_ref": "T1"}, {"revision": 1}, {"attributes": {"a": 1}}],
    ids=str,
)
def test_what_is_content_but_no_part_of_the_business_key(changes: dict[str, Any]) -> None:
    assert valid(wire(**changes)).business_key == valid(wire()).business_key
    assert valid(wire(**changes)).content_hash != valid(wire()).content_hash


def test_ids_are_exact_to_the_byte() -> None:
    """NFC and NFD, zero-width characters and case: all of these are different accounts."""
    ids = [
        "caf\u00e9",
        "cafe\u0301",
        "CAF\u00c9",
        "caf\u00e9\u200b",
        "\ufeffcaf\u00e9",
        "ca\u200dfé",
        "café ",
    ]
    assert len({valid(wire(account_id=i)).business_key for i in ids}) == len(ids)
    assert [valid(wire(account_id=i)).account_id for i in ids] == ids


def test_values_do_not_flow_from_one_field_into_the_next() -> None:
    a = valid(wire(account_id="ab", card_id="c"))
    b = valid(wire(account_id="a", card_id="bc"))
    assert a.business_key != b.business_key


# -- every rule --------------------------------------------------------------------------------------------

REQUIRED = [
    "event_id", "event_type", "event_ts", "ingest_ts", "account_id", "card_id", "merchant_id", "amount",
    "currency", "network", "status", "attributes",
]  # fmt: skip


@pytest.mark.parametrize("absent", [..., None], ids=["absent", "null"])
@pytest.mark.parametrize("field", REQUIRED)
def test_required_fields(field: str, absent: Any) -> None:
    assert ("missing", field) in broken(wire(**{field: absent}))


@pytest.mark.parametrize(
    "field",
    ["event_id", "event_type", "event_ts", "account_id", "currency", "network", "status", "transaction_ref"],
)
@pytest.mark.parametrize("value", [7, 1.5, True, [], {}, ["x"]], ids=str)
def test_a_change_of_type_is_refused(field: str, value: Any) -> None:
    assert broken(wire(**{field: value})) == [("type", field)]


CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"event_id": "x"}, "format", "event_id"),
    ({"event_id": ""}, "format", "event_id"),
    ({"event_id": event_id("e1") + "\n"}, "format", "event_id"),
    ({"event_id": event_id("e1").replace("-", "")}, "format", "event_id"),
    ({"original_event_id": "e0"}, "format", "original_event_id"),
    ({"event_type": "auth"}, "enum", "event_type"),
    ({"currency": "usd"}, "enum", "currency"),
    ({"currency": "XXX"}, "enum", "currency"),
    ({"network": "DISCOVER"}, "enum", "network"),
    ({"status": ""}, "enum", "status"),
    ({"account_id": ""}, "length", "account_id"),
    ({"account_id": "x" * 129}, "length", "account_id"),
    ({"account_id": "é" * 65}, "length", "account_id"),
    ({"transaction_ref": ""}, "length", "transaction_ref"),
    ({"attributes": []}, "type", "attributes"),
    ({"attributes": "{}"}, "type", "attributes"),
    ({"revision": -1}, "range", "revision"),
    ({"revision": MAX_REVISION + 1}, "range", "revision"),
    ({"revision": "1"}, "type", "revision"),
    ({"revision": 1.0}, "type", "revision"),
    ({"revision": True}, "type", "revision"),
    # amounts
    ({"amount": True}, "type", "amount"),
    ({"amount": []}, "type", "amount"),
    ({"amount": ""}, "format", "amount"),
    ({"amount": "1,50"}, "format", "amount"),
    ({"amount": " 1"}, "format", "amount"),
    ({"amount": "1_000"}, "format", "amount"),
    ({"amount": "NaN"}, "format", "amount"),
    ({"amount": "Infinity"}, "format", "amount"),
    ({"amount": "+1"}, "format", "amount"),
    ({"amount": "01"}, "format", "amount"),
    ({"amount": "0x10"}, "format", "amount"),
    ({"amount": "\u0661"}, "format", "amount"),
    ({"amount": "-0.01"}, "range", "amount"),
    ({"amount": -5}, "range", "amount"),
    ({"amount": "1e400"}, "range", "amount"),
    ({"amount": "1e-400"}, "range", "amount"),
    ({"amount": "1e99999999999999999999"}, "range", "amount"),
    ({"amount": "1000000000000000"}, "range", "amount"),
    ({"amount": "0.00001"}, "range", "amount"),
    ({"amount": "1.00001"}, "scale", "amount"),
    ({"amount": "1.005"}, "scale", "amount"),
    ({"amount": "0.5", "currency": "JPY"}, "scale", "amount"),
    ({"amount": "1.0001", "currency": "BHD"}, "scale", "amount"),
    # times
    ({"event_ts": "2026-11-20T12:00:00"}, "format", "event_ts"),
    ({"event_ts": "2026-11-20 12:00:00Z"}, "format", "event_ts"),
    ({"event_ts": "2026-11-20T12:00:00.1234567Z"}, "format", "event_ts"),
    ({"event_ts": "2026-11-20T12:00:00,5Z"}, "format", "event_ts"),
    ({"event_ts": "2026-02-30T12:00:00Z"}, "format", "event_ts"),
    ({"event_ts": "2026-11-20T24:00:00Z"}, "format", "event_ts"),
    ({"event_ts": "2026-11-20T12:00:60Z"}, "format", "event_ts"),
    ({"event_ts": "2026-11-20T12:00:00+25:00"}, "format", "event_ts"),
    ({"event_ts": "2026-11-20"}, "format", "event_ts"),
    ({"event_ts": "1795176000"}, "format", "event_ts"),
    ({"event_ts": "0000-01-01T00:00:00Z"}, "format", "event_ts"),
    ({"event_ts": "0001-01-01T00:00:00+12:00"}, "format", "event_ts"),
    ({"event_ts": "9999-12-31T23:59:59-12:00"}, "format", "event_ts"),
    ({"ingest_ts": "yesterday"}, "format", "ingest_ts"),
    ({"event_ts": "1970-01-01T00:00:00Z"}, "age", "event_ts"),
    ({"event_ts": "0001-01-01T00:00:00Z"}, "age", "event_ts"),
    ({"event_ts": "2100-01-01T00:00:00Z"}, "future", "event_ts"),
]


@pytest.mark.parametrize(("changes", "rule", "field"), CASES, ids=str)
def test_each_rule(changes: dict[str, Any], rule: str, field: str) -> None:
    assert (rule, field) in broken(wire(**changes))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (None, "unreadable"),
        (b"", "unreadable"),
        (b"\x00\x01", "unreadable"),
        (b"null", "not_an_object"),
        (b"[]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"12", "not_an_object"),
        (wire()[:-1], "unreadable"),
        (wire().replace(b"acct-1", b"acct\xff"), "not_utf8"),
        (wire().replace(b'"100.00"', b"NaN"), "unreadable"),
        (wire()[:-1] + b', "amount": "1.00"}', "duplicate_field"),
        (wire(attributes={"a": "x" * 300_000}), "too_large"),
        (
            wire().replace(b'"attributes": {}', b'"attributes": ' + b'{"a":' * 99 + b"1" + b"}" * 99),
            "too_deep",
        ),
    ],
)
def test_poison_breaks_one_rule_of_the_whole_record(data: bytes | None, rule: str) -> None:
    assert broken(data) == [(rule, "")]


@pytest.mark.parametrize(
    ("old", "field"),
    [
        (b'"acct-1"', "account_id"),
        (b'"attributes": {}', "attributes"),
    ],
)
def test_half_a_surrogate_pair_is_refused(old: bytes, field: str) -> None:
    half = b'"\\ud83d"' if field == "account_id" else b'"attributes": {"a": "\\ud83d"}'
    assert broken(wire().replace(old, half)) == [("not_unicode", field)]


def test_every_violation_is_told_in_the_order_of_the_fields() -> None:
    assert broken(wire(event_id="x", event_type=7, amount="-1", status="?", revision=-1)) == [
        ("format", "event_id"),
        ("type", "event_type"),
        ("range", "amount"),
        ("enum", "status"),
        ("range", "revision"),
    ]


# -- amounts and currencies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "currency", "exact"),
    [
        ("0", "USD", "0.0000"),
        ("-0", "USD", "0.0000"),
        ("0.01", "USD", "0.0100"),
        ("999999999999999.99", "USD", "999999999999999.9900"),
        ("100", "JPY", "100.0000"),
        ("100.00", "JPY", "100.0000"),
        ("1.234", "BHD", "1.2340"),
        ("1.2340000", "BHD", "1.2340"),
        ("1.2345", "CLF", "1.2345"),
        ("999999999999999.9999", "UYW", "999999999999999.9999"),
        ("0e-999999", "USD", "0.0000"),
        ("0e999999", "USD", "0.0000"),
    ],
)
def test_amounts_are_exact(amount: str, currency: str, exact: str) -> None:
    event = valid(wire(amount=amount, currency=currency))
    assert str(event.amount) == exact
    as_number = wire(currency=currency).replace(b'"100.00"', amount.encode())
    assert valid(as_number).amount == event.amount


@pytest.mark.parametrize("places", [0, 2, 3, 4])
def test_the_scale_of_each_currency_is_enforced(places: int) -> None:
    for currency in (c for c, digits in MINOR_UNITS.items() if digits == places):
        fits = "7." + "0" * (places - 1) + "1" if places else "7"
        assert str(valid(wire(amount=fits, currency=currency)).amount) == f"{Decimal(fits):.4f}"
        too_fine = "7." + "0" * places + "1"
        assert ("scale", "amount") in broken(wire(amount=too_fine, currency=currency))


@given(st.integers(0, 10**19 - 1))
def test_every_amount_that_the_column_holds_survives(units: int) -> None:
    amount = Decimal(units).scaleb(-4)
    assert valid(wire(amount=str(amount), currency="CLF")).amount == amount


# -- times -------------------------------------------------------------------------------------------------

AGES = [("AUTH", 7), ("CAPTURE", 30), ("REFUND", 30), ("CHARGEBACK", 30)]


@pytest.mark.parametrize(("event_type", "days"), AGES)
def test_age_is_judged_by_kafka_time_to_the_microsecond(event_type: str, days: int) -> None:
    oldest = KAFKA_TS - timedelta(days=days)
    assert valid(at(oldest, event_type=event_type))
    too_old = at(oldest - timedelta(microseconds=1), event_type=event_type)
    assert broken(too_old) == [("age", "event_ts")]
    assert isinstance(judge(too_old, KAFKA_TS, CONTRACT, archive=True), Event)
    assert isinstance(judge(too_old, KAFKA_TS - timedelta(days=1), CONTRACT), Event)


def test_the_future_is_bounded_in_archives_too() -> None:
    latest = KAFKA_TS + timedelta(minutes=5)
    assert valid(at(latest))
    for archive in (False, True):
        assert broken(at(latest + timedelta(microseconds=1)), archive=archive) == [("future", "event_ts")]


def test_the_hour_that_a_clock_change_repeats_stays_two_hours() -> None:
    kafka_ts = datetime(2026, 10, 25, 4, tzinfo=UTC)
    summer, winter = "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"
    events = [judge(wire(event_ts=t), kafka_ts, CONTRACT) for t in (summer, winter)]
    assert [e.event_ts.hour for e in events if isinstance(e, Event)] == [0, 1]


def test_microseconds_are_exact() -> None:
    assert valid(wire(event_ts="2026-11-20T12:00:00.999999Z")).event_ts.microsecond == 999_999
    assert micros(datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)) == -1
    assert micros(datetime(2026, 11, 20, 12, 0, 0, 1, UTC)) == 1_795_176_000_000_001


def test_the_contract_in_force_is_chosen_by_kafka_time() -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)
    history = (CONTRACT, Contract(2, start))
    assert in_force(start - timedelta(microseconds=1), history).version == 1
    assert in_force(start, history).version == 2
    assert in_force(datetime(1960, 1, 1, tzinfo=UTC), history).version == 1


def test_the_history_is_in_order_and_begins_before_every_record() -> None:
    assert [c.version for c in HISTORY] == list(range(1, len(HISTORY) + 1))
    assert list(HISTORY) == sorted(HISTORY, key=lambda c: c.effective_from)
    assert HISTORY[0].effective_from == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("event_type", ["REFUND", "CHARGEBACK"])
def test_from_2027_a_refund_or_chargeback_is_more_than_zero(event_type: str) -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)

    def verdict(kafka_ts: datetime, **changes: Any) -> Event | list[Violation]:
        fields = {"event_type": event_type, "amount": "0.00", "transaction_ref": "T-1"}
        return judge(at(start, **(fields | changes)), kafka_ts, in_force(kafka_ts))

    before = start - timedelta(microseconds=1)
    assert isinstance(verdict(before), Event)
    refused = verdict(start)
    assert [(v.rule, v.field) for v in refused if isinstance(v, Violation)] == [("range", "amount")]
    assert isinstance(verdict(start, amount="0.01"), Event)
    assert isinstance(verdict(start, status="REVERSED"), Event), "a reversal may set the amount to nothing"
    assert isinstance(verdict(start, event_type="AUTH"), Event), "a card is verified with an AUTH of nothing"


def test_from_2027_a_refund_says_which_transaction_and_until_then_is_warned_of() -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)
    before = start - timedelta(microseconds=1)

    def verdict(kafka_ts: datetime, **changes: Any) -> Event | list[Violation]:
        return judge(at(start, **({"event_type": "REFUND"} | changes)), kafka_ts, in_force(kafka_ts))

    def warned(kafka_ts: datetime, **changes: Any) -> list[str]:
        event = verdict(kafka_ts, **changes)
        assert isinstance(event, Event)
        return [v.rule for v in warnings(event, in_force(kafka_ts))]

    refused = verdict(start)
    assert [(v.rule, v.field) for v in refused if isinstance(v, Violation)] == [
        ("reference", "transaction_ref")
    ]
    assert warned(before) == ["reference"]
    named: list[dict[str, Any]] = [{"transaction_ref": "T-1"}, {"original_event_id": event_id("e0")}]
    for changes in (*named, {"status": "REVERSED"}, {"event_type": "CAPTURE"}, {"event_type": "CHARGEBACK"}):
        assert warned(before, **changes) == warned(start, **changes) == []


@pytest.mark.parametrize("field", Event._fields)
def test_the_business_key_is_made_of_the_fields_that_the_contract_names(field: str) -> None:
    changed_to: dict[str, Any] = {
        "event_id": event_id("other"), "event_type": "AUTH", "event_ts": "2026-11-20T12:00:00.000002Z",
        "ingest_ts": "2026-11-20T12:30:00Z", "account_id": "a", "card_id": "c", "merchant_id": "m",
        "amount": "100.01", "currency": "EUR", "network": "MC", "status": "DECLINED", "revision": 1,
        "original_event_id": event_id("e0"), "transaction_ref": "T", "attributes": {"a": 1},
    }  # fmt: skip
    if field in changed_to:
        is_other = valid(wire()).business_key != valid(changed(field, changed_to[field])).business_key
        assert is_other == (field in BUSINESS_KEY)


def test_an_unknown_contract_version_is_refused_with_those_there_are() -> None:
    assert [contract(c.version) for c in HISTORY] == list(HISTORY)
    for version in (0, len(HISTORY) + 1):
        with pytest.raises(UnknownContract, match=f"no contract version {version}") as refused:
            contract(version)
        assert "2 from 2027-01-01" in refused.value.hint


# -- what a violation shows --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        CARD.encode(),
        f'{{"{CARD}": '.encode(),
        f'"{CARD}"'.encode(),
        *(changed(field, CARD + "#" * 200) for field in [*REQUIRED, "transaction_ref", "original_event_id"]),
        *(changed(field, [CARD]) for field in REQUIRED),
        wire(amount=CARD + ".001"),
        wire(event_ts=CARD),
    ],
)
def test_a_card_number_in_a_broken_field_does_not_show(data: bytes) -> None:
    verdict = judge(data, KAFKA_TS, CONTRACT)
    assert isinstance(verdict, list)
    for violation in verdict:
        assert CARD[:7] not in " ".join(violation)


# -- nothing raises ----------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1e400", "-0", "2026-11-20T12:00:00Z", "\ud83d", "REVERSED", "USD", "9" * 400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
some_fields = st.dictionaries(
    st.sampled_from([*REQUIRED, "revision", "transaction_ref", "original_event_id", "other"]),
    json_values,
    max_size=5,
)


def assert_verdict(data: bytes) -> None:
    verdict = judge(data, KAFKA_TS, CONTRACT)
    if isinstance(verdict, Event):
        verdict.attributes.encode()
        assert json.loads(verdict.attributes) is not None
    else:
        assert verdict and all(isinstance(v, Violation) for v in verdict)
        for violation in verdict:
            " ".join(violation).encode()  # storable


@given(st.binary(max_size=300))
def test_any_bytes_get_a_verdict(data: bytes) -> None:
    assert_verdict(data)


@given(json_values)
def test_any_json_gets_a_verdict(value: Any) -> None:
    assert_verdict(json.dumps(value).encode())


@given(some_fields)
def test_any_change_of_a_good_event_gets_a_verdict(changes: dict[str, Any]) -> None:
    assert_verdict(wire(**changes))


@given(st.data())
def test_any_damage_to_a_good_event_gets_a_verdict(data: st.DataObject) -> None:
    good = wire(transaction_ref="T1", revision=1, attributes={"a": [1, {"b": "é"}]})
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 8)))
    assert_verdict(good[:start] + data.draw(st.binary(max_size=8)) + good[end:])
