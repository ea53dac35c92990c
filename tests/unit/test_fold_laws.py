"""The law of the fold over random histories: order, batches, redelivery and replay make no difference.

Belongs here: what holds for every history. Does not: what single cases come to (`test_fold.py`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from lakehouse.fold import (
    Coordinates,
    Payment,
    Version,
    fold,
    fold_events,
    fold_payments,
    fold_versions,
    record,
)
from lakehouse.transactions import fold_transactions
from quality.contract import HISTORY, Event
from quality.judge import judge
from tests.events import KAFKA_TS, NOON, TOPIC_ID
from tests.histories import History, mixed

Tables = tuple[set[Version], set[Payment], set[Any]]
_rngs = st.randoms(use_true_random=False)


def copies_of(rng: random.Random, account: str = "acct") -> list[Version]:
    """A random history's valid records, each at its place in Kafka."""
    records = History(rng, account, NOON).records
    note(b"\n".join(records).decode())
    verdicts = [judge(data, KAFKA_TS, HISTORY[0]) for data in records]
    return [
        record(v, Coordinates(TOPIC_ID, rng.randint(0, 2), n))
        for n, v in enumerate(verdicts)
        if isinstance(v, Event)
    ]


def tables(versions: list[Version]) -> Tables:
    """The rows of event_versions, payments and transactions."""
    payments = fold_payments(fold_events(versions))
    return set(versions), set(payments), set(fold_transactions(payments))


def in_batches(rng: random.Random, copies: list[Version]) -> list[Version]:
    """The versions as a table keeps them that takes the copies batch by batch."""
    stored: list[Version] = []
    while copies:
        size = rng.randint(1, len(copies))
        stored, copies = fold_versions(stored + copies[:size]), copies[size:]
    return stored


def sent_again(copy: Version, minutes: int) -> Version:
    """The same content at another place in Kafka, with a fresh ingest time."""
    later = copy.first_ingest_ts + timedelta(minutes=minutes)
    return copy._replace(first_ingest_ts=later, coordinates=Coordinates(TOPIC_ID, 9, minutes))


@settings(max_examples=300)
@given(_rngs)
def test_any_order_and_any_batches_give_the_same_tables(rng: random.Random) -> None:
    copies = copies_of(rng)
    assert tables(in_batches(rng, mixed(rng, copies))) == tables(fold_versions(copies))


@settings(max_examples=300)
@given(_rngs)
def test_any_redelivery_gives_the_same_tables(rng: random.Random) -> None:
    copies = copies_of(rng)
    again = [sent_again(copy, rng.randint(1, 5)) for copy in copies if rng.random() < 0.5]
    assert tables(in_batches(rng, mixed(rng, copies + again))) == tables(fold_versions(copies))


@settings(max_examples=300)
@given(_rngs)
def test_any_replay_of_a_prefix_gives_the_same_tables(rng: random.Random) -> None:
    copies = copies_of(rng)
    stored = fold_versions(copies)
    prefix = mixed(rng, copies)[: rng.randint(0, len(copies))]
    assert tables(fold_versions(stored + prefix)) == tables(stored)


@settings(max_examples=300)
@given(_rngs)
def test_rows_told_by_dropped_records_stand_for_them(rng: random.Random) -> None:
    """What replay relies on once retention dropped records from raw, in whatever order they came."""
    copies = copies_of(rng)
    copies += [sent_again(copy, rng.randint(-5, 5)) for copy in copies if rng.random() < 0.5]
    stored = fold_versions(copies)
    ends = {partition: rng.randint(0, len(copies)) for partition in (0, 1, 2, 9)}

    def is_dropped(version: Version) -> bool:
        assert version.coordinates is not None
        return version.coordinates.offset < ends[version.coordinates.partition]

    kept = [copy for copy in copies if not is_dropped(copy)]
    told = [version for version in stored if is_dropped(version)]
    assert tables(fold_versions(mixed(rng, kept + told))) == tables(stored)


@settings(max_examples=300)
@given(_rngs)
def test_each_group_folds_alone(rng: random.Random) -> None:
    """What Spark relies on: events, notices and payments never reach beyond (account_id, event_ts)."""
    versions = fold_versions(copies_of(rng, "acct-1") + copies_of(rng, "acct-2"))
    groups = defaultdict(list)
    for version in versions:
        groups[version.account_id, version.event_ts].append(version)
    alone = {p for group in groups.values() for p in fold_payments(fold_events(group))}
    assert alone == tables(versions)[1]


@settings(max_examples=300)
@given(_rngs)
def test_every_version_is_in_one_event_and_every_event_in_one_payment(rng: random.Random) -> None:
    versions = fold_versions(copies_of(rng))
    events = fold_events(versions)
    assert sorted(v for e in events for v in e.versions) == sorted(versions)
    members = [event_id for payment in fold(versions) for event_id in payment.event_ids]
    assert sorted(members) == sorted(e.event_id for e in events)
    shown = {(p.business_key, p.transaction_ref): p.row for p in fold(versions)}
    assert len(shown) == len(fold(versions)), "a payment's key is unique"


@settings(max_examples=300)
@given(_rngs)
def test_identity_conflicts_fold_by_id_in_any_order(rng: random.Random) -> None:
    """Records of one id that disagree in account or time: the reference stays a function of the set."""
    copies = [
        copy._replace(
            account_id=rng.choice(("acct", "other")), event_ts=NOON + timedelta(hours=rng.randint(0, 1))
        )
        for copy in copies_of(rng)
    ]
    versions = fold_versions(copies)
    assert tables(in_batches(rng, mixed(rng, copies))) == tables(versions)
    plain = {v.event_id for v in versions if not v.may_be_notice}
    members = [event_id for payment in fold(versions) for event_id in payment.event_ids]
    assert plain <= set(members)
    assert len(members) == len(set(members))
