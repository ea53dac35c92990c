"""What a record counts for, and which figures of a partner's hour are unusual."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.fold import Coordinates
from lakehouse.redrive_mark import Mark
from quality.contract import in_force
from quality.partner_hour import QUARANTINED, REDELIVERED, VOLUME, WEEK, WEEKS, Hour, hours_before, look_at
from quality.profile import Counted, of_record
from streaming.profile.count import SCHEMA, TALLY, _count_batches
from tests.events import KAFKA_TS, valid, wire

DAY = timedelta(hours=24)
_HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


def counts(*lines: bytes, kafka_ts: datetime = KAFKA_TS) -> Counter[Counted]:
    found: Counter[Counted] = Counter()
    for line in lines:
        found.update(of_record(valid(line), kafka_ts, DAY, in_force(kafka_ts)))
    return found


def test_a_record_counts_for_what_it_holds_and_for_what_it_lacks() -> None:
    found = counts(wire(amount="12.00", attributes={"channel": "pos"}, revision=1))
    assert found["records", ""] == found["valid", ""] == 1
    assert found["event_type", "CAPTURE"] == found["network", "VISA"] == found["status", "APPROVED"] == 1
    assert found["currency", "USD"] == found["amount", "USD 10"] == 1
    assert found["delay", "3200"] == 1  # an hour is 3600 s
    absent = {value for measure, value in found if measure == "absent"}
    assert {"original_event_id", "transaction_ref", "attributes.device"} <= absent
    assert not {"revision", "attributes.channel"} & absent
    assert set(found.values()) == {1}


def test_a_record_is_late_once_its_event_hour_was_closed() -> None:
    closes = datetime(2026, 11, 21, 13, tzinfo=UTC)  # the event is of noon to one o'clock
    just_before = counts(wire(), kafka_ts=closes - timedelta(microseconds=1))
    assert (just_before["late", ""], counts(wire(), kafka_ts=closes)["late", ""]) == (0, 1)


def test_an_accepted_record_counts_for_what_the_contract_warns_of() -> None:
    found = counts(wire(event_type="REFUND"), wire(event_type="REFUND", transaction_ref="T1"), wire())
    assert {key: found[key] for key in found if key[0] == "warned"} == {("warned", "reference"): 1}


def test_a_broken_record_counts_as_one_and_no_more() -> None:
    assert list(of_record(None, KAFKA_TS, DAY, in_force(KAFKA_TS))) == [("records", ""), ("broken", "")]


def counted(
    *records: tuple[datetime, str | None, bytes | None], headers: list[dict[str, object]] | None = None
) -> pa.Table:
    times, sources, values = zip(*records, strict=True)
    batch = pa.RecordBatch.from_pydict(
        {
            "topic_id": pa.array(["topic"] * len(records)),
            "partition": pa.array([0] * len(records), pa.int32()),
            "offset": pa.array(range(100, 100 + len(records)), pa.int64()),
            "redrive_headers": pa.array([headers] * len(records), _HEADERS),
            "kafka_ts": pa.array(times, pa.timestamp("us", "UTC")),
            "source": pa.array(sources, pa.string()),
            "is_archive": pa.array([False] * len(records)),
            "value": pa.array(values, pa.binary()),
        }
    )
    (result,) = _count_batches([batch])
    return pa.table(result).cast(SCHEMA)


def test_a_redriven_record_is_judged_as_of_the_time_of_the_one_that_it_stands_for() -> None:
    later = KAFKA_TS + timedelta(days=300)  # nothing is accepted that late
    mark = Mark(Coordinates("topic", 0, 7), KAFKA_TS, KAFKA_TS, 1)
    headers: list[dict[str, object]] = [{"key": name, "value": text} for name, text in mark.headers()]
    for said, verdict in ((None, "broken"), (headers, "valid")):
        found = counted((later, "bank", wire()), headers=said).to_pylist()
        assert verdict in {row["measure"] for row in found}


records = st.lists(
    st.tuples(
        st.sampled_from([KAFKA_TS, KAFKA_TS + timedelta(minutes=59), KAFKA_TS + timedelta(hours=1)]),
        st.sampled_from(["bank", "shop", None]),
        st.sampled_from([wire(), wire(amount="0.05"), wire(currency="EUR"), b"{", None]),
    ),
    min_size=1,
    max_size=12,
)


@given(records, st.integers(0, 12))
def test_any_batching_gives_the_same_rows(all_of_them: list[tuple[Any, ...]], cut: int) -> None:
    parts = [part for part in (all_of_them[:cut], all_of_them[cut:]) if part]
    whole, added_up = counted(*all_of_them), TALLY.total(*(counted(*part) for part in parts))
    assert sorted(whole.to_pylist(), key=str) == sorted(added_up.to_pylist(), key=str)
    assert sum(row["records"] for row in whole.to_pylist() if row["measure"] == "records") == len(all_of_them)


# -- what is unusual -----------------------------------------------------------------------------------------

_CURRENCIES = ("EUR", "USD")


def hour(rng: Random, volume: int = 2000, broken: float = 0.01, amount: float = 1.0, **odd: Any) -> Hour:
    """An hour of a partner as chance makes it: amounts of about 10 to 75, a fifth of the records declined."""
    found: Counter[Counted] = Counter()
    found["records", ""] = volume = round(rng.gauss(volume, 0.04 * volume))
    found["broken", ""] = bad = round(rng.gauss(volume * broken, (volume * broken) ** 0.5))
    found["valid", ""] = volume - bad
    for _ in range(volume - bad):
        found["status", "DECLINED" if rng.random() < odd.get("declined", 0.2) else "APPROVED"] += 1
        currency = rng.choices(_CURRENCIES, (3, 1))[0]
        found["currency", currency] += 1
        steps = [round(step * amount, 3) for step in (10, 13, 18, 24, 32, 42, 56)]
        found["amount", f"{currency} {rng.choice(steps):g}"] += 1
        found["delay", rng.choice(odd.get("delays", ("1", "1.3", "1.8")))] += 1
        if rng.random() < odd.get("absent", 0.5):
            found["absent", "transaction_ref"] += 1
    return Hour(found, redelivered=round(volume * odd.get("redelivered", 0.02)))


def unusual(now: Hour, history: Iterable[Hour]) -> set[str]:
    findings = look_at(now, list(history))
    return {f.metric for f in findings if f.comparison is not None and f.comparison.is_unusual}


@pytest.fixture(scope="module")
def history() -> list[Hour]:
    return [hour(Random(week)) for week in range(WEEKS)]


@pytest.mark.parametrize(
    ("change", "metrics"),
    [
        ({"volume": 6000}, {VOLUME}),
        ({"broken": 0.3}, {QUARANTINED}),
        ({"redelivered": 0.2}, {REDELIVERED}),
        ({"declined": 0.6}, {"status DECLINED", "status APPROVED"}),
        ({"absent": 0.9}, {"absent transaction_ref"}),
        ({"amount": 10}, {f"amount {c} {q}" for c in _CURRENCIES for q in ("median", "90th percentile")}),
        ({"delays": ("100", "130", "180")}, {"arrival delay median", "arrival delay 90th percentile"}),
    ],
)
def test_what_shifts_is_found_and_nothing_else(
    history: list[Hour], change: dict[str, Any], metrics: set[str]
) -> None:
    assert unusual(hour(Random(99), **change), history) == metrics


def test_ordinary_hours_are_usual(history: list[Hour]) -> None:
    alarms = [unusual(hour(Random(seed)), history) for seed in range(100, 120)]
    assert sum(map(len, alarms)) <= 1


def test_an_hour_without_a_record_is_an_unusual_volume_and_says_nothing_else(history: list[Hour]) -> None:
    assert unusual(Hour(), history) == {VOLUME}
    assert [f.metric for f in look_at(Hour(), history)] == [VOLUME]


def test_a_category_or_currency_never_seen_before_is_found(history: list[Hour]) -> None:
    now = hour(Random(99))
    odd = Counter(now.counts) + Counter({("currency", "JPY"): 200, ("status", "APPROVED"): 200})
    assert "currency JPY" in unusual(Hour({**odd, ("valid", ""): 2200, ("records", ""): 2200}), history)


def test_a_short_history_says_that_nothing_is_known_yet() -> None:
    findings = look_at(hour(Random(1)), [hour(Random(2))])
    assert findings and all(finding.comparison is None for finding in findings)


def test_a_few_amounts_are_not_compared(history: list[Hour]) -> None:
    now = Hour({("records", ""): 2, ("valid", ""): 2, ("currency", "EUR"): 2, ("amount", "EUR 100000"): 2})
    assert not [f for f in look_at(now, history) if f.metric.startswith("amount")]


def test_the_history_is_the_same_hour_of_the_weeks_before_since_the_partner_came() -> None:
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert hours_before(noon, noon - 3 * WEEK) == [noon - WEEK, noon - 2 * WEEK, noon - 3 * WEEK]
    assert len(hours_before(noon, noon - 99 * WEEK)) == WEEKS
    assert hours_before(noon, noon) == []
