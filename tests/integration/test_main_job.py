"""The main job end to end: Kafka to raw to curated and back, on real servers, exact to the row.

Whatever goes in and however it is batched, interrupted or resent, the tables are the fold of raw.
"""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from streaming.event_file import open_event_file
from streaming.message import Message, message_of
from streaming.simulate import Outcome
from tests.cases import CASES
from tests.events import event_id, wire
from tests.pipeline import Pipeline
from tests.reference import assert_raw_is_the_topic, assert_readers_agree, assert_the_law, contents
from tests.streams import SPAN, dirty

pytestmark = pytest.mark.integration

SAMPLE = Path(__file__).parents[1] / "data" / "card-transactions-sample.csv"
COUNTED = (
    "redelivered",
    "versions",
    "superseded",
    "events",
    "duplicates",
    "payments",
    "quarantined",
    "reversed_payments",
)
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).replace(minute=30, second=0, microsecond=1)


def simulated(count: int, seed: int, span: timedelta = SPAN) -> tuple[list[bytes], Outcome]:
    simulation = dirty(count, seed, span)
    lines = list(simulation.lines())
    return lines, simulation.outcome


def event(name: str, minute: int = 0, **changes: Any) -> bytes:
    """An event of yesterday, ingested so many minutes after it happened."""
    times = {
        "event_ts": YESTERDAY.isoformat(),
        "ingest_ts": (YESTERDAY + timedelta(minutes=minute)).isoformat(),
    }
    return wire(name, **(times | changes))


def assert_outcome(pipeline: Pipeline, outcome: Outcome) -> None:
    """Counts and sums are what the generator knows by construction."""
    wanted, stock = outcome.as_dict(), pipeline.stock()
    assert {name: getattr(stock, name) for name in COUNTED} == {name: wanted[name] for name in COUNTED}
    assert {str(reading.amount) for reading in stock.readers.values()} == {wanted["amount"]}
    sums = pipeline.query(
        f"SELECT currency, event_type, sum(amount) FROM {PAYMENTS} WHERE status <> 'REVERSED' GROUP BY ALL"
    )
    expected = {(c, t): Decimal(a) for c, of in wanted["amounts"].items() for t, a in of.items()}
    assert {(currency, kind): amount for currency, kind, amount in sums} == expected


@pytest.mark.parametrize(
    ("seed", "hours"), [(1, 6), *(pytest.param(seed, 1, marks=pytest.mark.slow) for seed in (2026, 31337))]
)
def test_any_seed_with_every_kind_of_dirt_is_exact(pipeline: Pipeline, seed: int, hours: int) -> None:
    lines, outcome = simulated(3000, seed, timedelta(hours=hours))
    assert min(getattr(outcome, name) for name in ("redelivered", "quarantined", "reversed_payments")) > 0
    assert pipeline.send_lines(lines) == len(lines)
    pipeline.run()
    assert_raw_is_the_topic(pipeline)
    assert Counter(row["value"] for row in pipeline.rows(RAW)) == Counter(lines)
    assert_outcome(pipeline, outcome)
    assert_the_law(pipeline)
    assert_readers_agree(pipeline)


@pytest.mark.slow
def test_many_small_batches_give_the_same_tables_as_one(pipeline: Pipeline) -> None:
    lines, outcome = simulated(400, 7)
    random.Random(7).shuffle(lines)  # far beyond the order that partners keep
    pipeline.send_lines(lines)
    pipeline.run()
    in_one = contents(pipeline)

    pipeline.renew_tables()
    assert pipeline.run_raw(max_records=100) == len(lines)
    assert len(pipeline.catalog.load_table(RAW).snapshots()) > 4
    job = pipeline.curated_job(max_records=100)
    batches: list[int] = []
    job.run(once=True, on_batch=lambda done, _left: batches.append(done))
    assert len(batches) > 3
    assert contents(pipeline) == in_one
    assert_outcome(pipeline, outcome)


@pytest.mark.slow
def test_jobs_that_start_again_go_on_exactly_where_the_tables_end(pipeline: Pipeline) -> None:
    lines, outcome = simulated(450, 8)
    for start in range(0, 450, 150):
        pipeline.send_lines(lines[start : start + 150])
        assert pipeline.run_raw() == 150
        assert pipeline.run_raw() == 0
        assert pipeline.run_curated() == 150
        assert pipeline.run_curated() == 0
    assert_raw_is_the_topic(pipeline)
    assert_the_law(pipeline)
    assert_outcome(pipeline, outcome)


def test_a_stream_sent_again_changes_nothing_but_raw_and_redelivered(pipeline: Pipeline) -> None:
    lines, _ = simulated(800, 9)
    pipeline.send_lines(lines)
    pipeline.run()
    before, stock = contents(pipeline), pipeline.stock()
    pipeline.send_lines(lines)
    pipeline.run()
    after, again = contents(pipeline), pipeline.stock()
    assert after[VERSIONS] == before[VERSIONS]
    assert after[PAYMENTS] == before[PAYMENTS]
    # A broken record tells no event, so each of its copies is a record of its own.
    assert len(after[QUARANTINE]) == 2 * len(before[QUARANTINE])
    assert again.raw == 2 * stock.raw
    assert again.redelivered == 2 * stock.redelivered + stock.versions
    assert again.conserved, again.breaks


def cases_in_every_order() -> Iterator[tuple[str, str, list[bytes]]]:
    """Each case in each order of arrival, on accounts of their own: case, account, records."""
    for name, case in CASES.items():
        for order, arrivals in enumerate(permutations(case.arrivals)):
            account = f"{name}, order {order}"
            yield name, account, [_record(account, *arrival) for arrival in arrivals]


def _record(account: str, name: str, minute: int, changes: Mapping[str, Any]) -> bytes:
    named = {k: f"{account}/{v}" if k == "original" else v for k, v in changes.items()}
    return event(f"{account}/{name}", minute, account_id=account, **named)


@pytest.mark.parametrize(
    "is_batched",
    [
        pytest.param(True, id="in one batch"),
        # beside random histories, which come in several batches (`faults/`)
        pytest.param(False, id="one record per batch", marks=pytest.mark.slow),
    ],
)
def test_cases_that_decide(pipeline: Pipeline, is_batched: bool) -> None:
    cases = list(cases_in_every_order())
    for step in range(1 if is_batched else 3):
        records = [lines if is_batched else lines[step : step + 1] for _, _, lines in cases]
        pipeline.send_lines(line for lines in records for line in lines)
        pipeline.run()
    assert_the_law(pipeline)
    rows = pipeline.rows(PAYMENTS)
    for name, account, _ in cases:
        payments = [row for row in rows if row["account_id"] == account]
        live = sum(row["amount"] for row in payments if row["status"] != "REVERSED")
        flags = {tuple(row["flags"]) for row in payments}
        assert (live, flags) == (CASES[name].amount, CASES[name].flags), account


def test_a_reversal_with_its_own_time_is_a_payment_of_its_own(pipeline: Pipeline) -> None:
    """It voids the other one in the transaction, not in the payments: those two have no key in common."""
    later = (YESTERDAY + timedelta(minutes=30)).isoformat()
    pipeline.send_lines(
        [
            event("e1", transaction_ref="T1"),
            event("e9", 31, transaction_ref="T1", event_ts=later, status="REVERSED"),
        ]
    )
    pipeline.run()
    assert sorted(row["status"] for row in pipeline.rows(PAYMENTS)) == ["APPROVED", "REVERSED"]


def poison() -> dict[str, tuple[Message, str]]:
    """Records that no partner should send, and the rule that each must break."""
    good = event("poisoned")
    own_source = (("ce_source", b"bank"),)
    deep = b'{"attributes":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}"
    twice = good.replace(b'"amount"', b'"amount": "1.00", "amount"', 1)
    not_utf8 = good.replace(b"shop-1", b"caf\xe9")
    return {
        "no value": (Message(None, b"k", own_source), "unreadable"),  # type: ignore[arg-type]
        "no value, key or headers": (Message(None, None, ()), "unreadable"),  # type: ignore[arg-type]
        "empty": (Message(b"", b"", own_source), "unreadable"),
        "zero bytes": (Message(b"\x00" * 64, b"\x00", own_source), "unreadable"),
        "invalid UTF-8": (Message(not_utf8, b"\xff\xfe", own_source), "not_utf8"),
        "large": (Message(b"x" * 200_000, None, own_source), "unreadable"),
        "too large for an event": (Message(_padded("giant", 300_000), None, own_source), "too_large"),
        "deep": (Message(deep, None, own_source), "too_deep"),
        "deep brackets only": (Message(b"[" * 100_000, None, own_source), "too_deep"),
        "NaN": (Message(good.replace(b'"100.00"', b"NaN"), None, own_source), "unreadable"),
        "infinite": (Message(good.replace(b'"100.00"', b"-Infinity"), None, own_source), "unreadable"),
        "a field twice": (Message(twice, None, own_source), "duplicate_field"),
        "half of a surrogate": (
            Message(good.replace(b"shop-1", b"\\ud83d"), None, own_source),
            "not_unicode",
        ),
        "a number beyond all": (Message(good.replace(b'"100.00"', b"1e400"), None, own_source), "range"),
        "headers that are no text": (
            Message(b"{]", None, (("ce_source", b"\xff\xfe"), ("ce_time", b"\xff"), ("archive", b"\x80"))),
            "unreadable",
        ),
        "a header without a value": (Message(b"{]", None, (("ce_source", None),)), "unreadable"),  # type: ignore[arg-type]
        "1970": (message_of(event("p1", event_ts="1970-01-01T00:00:00Z"), "bank"), "age"),
        "2100": (message_of(event("p2", event_ts="2100-01-01T00:00:00Z"), "bank"), "future"),
        "a naive time": (message_of(event("p3", event_ts="2026-10-25T02:30:00"), "bank"), "format"),
        "yen with decimals": (message_of(event("p4", currency="JPY", amount="100.5"), "bank"), "scale"),
        "dinars with four": (message_of(event("p5", currency="BHD", amount="1.2345"), "bank"), "scale"),
        "a negative amount": (message_of(event("p6", amount="-1"), "bank"), "range"),
        "a type that a partner changed": (message_of(event("p7", amount={"value": "1"}), "changed"), "type"),
    }


def neighbours() -> dict[str, Message]:
    """Valid events that travel in odd company."""
    return {
        "no headers at all": Message(event("n1"), None, ()),
        "headers that are no text": Message(event("n2"), b"k", (("ce_source", b"\xc3("), ("ce_time", b"?"))),
        "headers twice": Message(event("n3"), b"k", (("ce_source", b"one"), ("ce_source", b"two"))),
        "200 KB": Message(_padded("n4", 200_000), None, (("ce_source", b"bank"),)),
        "an empty header": Message(event("n5"), None, (("ce_source", b""), ("", b"nameless"))),
        "text beyond ASCII": message_of(event("n6", merchant_id="café 東京 \U0001f4b3"), "bänk"),
        "three decimals": message_of(event("n7", currency="BHD", amount="1.234"), "bank"),
        "a number by its text": message_of(event("n8").replace(b'"100.00"', b"0.1"), "bank"),
        "the partner that changed a type, as before": message_of(event("n9"), "changed"),
        **{
            f"an account like others: {account!r}": message_of(event(f"n{n}", account_id=account), "bank")
            for n, account in enumerate(LOOKALIKES, 10)
        },
    }


# NFC and NFD, a zero-width space, another case: no two of these are one account.
LOOKALIKES = ("caf\u00e9", "cafe\u0301", "caf\u200b\u00e9", "CAF\u00c9")


def _padded(name: str, size: int) -> bytes:
    return event(name, attributes={"padding": "x" * size})


def test_poison_lands_byte_by_byte_and_in_quarantine_with_its_reason(pipeline: Pipeline) -> None:
    bad, good = poison(), neighbours()
    sent = [*(message for message, _ in bad.values()), *good.values()]
    random.Random(3).shuffle(sent)
    pipeline.send(sent)
    pipeline.run()

    def told(value: bytes | None, key: bytes | None, headers: Any) -> Any:
        # the trace aside: whether there is one depends on the tests that ran before in this process
        return value, key, tuple(header for header in headers if header[0] != "traceparent")

    stored = [
        told(r["value"], r["key"], ((h["key"], h["value"]) for h in r["headers"] or ()))
        for r in pipeline.rows(RAW)
    ]
    assert Counter(stored) == Counter(told(*message) for message in sent)

    at = {(r["partition"], r["offset"]): r["value"] for r in pipeline.rows(RAW)}
    rules: dict[bytes | None, list[set[str]]] = {}
    for row in pipeline.rows(QUARANTINE):
        value = at[row["partition"], row["offset"]]
        rules.setdefault(value, []).append({v["rule"] for v in row["violations"]})
        assert all(v["message"] for v in row["violations"])
    for name, (message, rule) in bad.items():
        assert all(rule in broken for broken in rules[message.value]), (name, rules[message.value])
    assert sum(map(len, rules.values())) == len(bad)

    payments = {row["event_id"]: row for row in pipeline.rows(PAYMENTS)}
    members = {member for row in payments.values() for member in row["event_ids"]}
    assert members == {event_id(f"n{i}") for i in range(1, len(good) + 1)}
    assert {row["account_id"] for row in payments.values()} >= set(LOOKALIKES)
    amounts = (str(payments[event_id(name)]["amount"]) for name in ("n7", "n8"))
    assert tuple(amounts) == ("1.2340", "0.1000")
    assert_the_law(pipeline)
    assert_readers_agree(pipeline)


def test_unknown_fields_and_sources_are_kept(pipeline: Pipeline) -> None:
    pipeline.send_lines([event("e1", loyalty_tier="gold", attributes={"mcc": "5411"})], source="bänk")
    pipeline.run()
    (row,) = pipeline.rows(PAYMENTS)
    assert json.loads(row["attributes"]) == {"loyalty_tier": "gold", "mcc": "5411"}
    assert row["source"] == "bänk"


@pytest.mark.slow  # beside the demo, which sends such a file through the front door
def test_a_partners_file_comes_to_the_sum_of_its_rows_and_twice_to_the_same(pipeline: Pipeline) -> None:
    with SAMPLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    frauds = [row for row in rows if row["TX_FRAUD"] == "1"]
    captured, charged = (sum(Decimal(r["TX_AMOUNT"]) for r in of) for of in (rows, frauds))
    assert frauds

    for _ in range(2):
        with open_event_file(SAMPLE) as file:
            assert pipeline.send(file.messages()) == len(rows) + len(frauds)
        pipeline.run()
        sql = f"SELECT event_type, count(*), sum(amount) FROM {PAYMENTS} GROUP BY 1 ORDER BY 1"
        found = pipeline.query(sql)
        assert found == [("CAPTURE", len(rows), captured), ("CHARGEBACK", len(frauds), charged)]
        assert pipeline.rows(QUARANTINE) == []
    assert pipeline.stock().redelivered == len(rows) + len(frauds)
    assert_the_law(pipeline)
