"""Decisions over random histories: tables that follow them are the fold of all copies, after every batch."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.fold import Version, fold, fold_versions
from streaming.decisions import (
    A_COPY,
    A_PAYMENT,
    A_VERSION,
    COPY,
    DELETE,
    INSERT,
    KEEP,
    LOWER,
    RECORD,
    REPLACE,
    STATE,
    Decision,
    Row,
    alone,
    decide_group,
)
from tests.histories import mixed
from tests.unit.test_fold_laws import copies_of

_rngs = st.randoms(use_true_random=False)
State = dict[str, Any]


def transport(version: Version) -> tuple[Any, ...]:
    """Where a record stands, as tables have it; the source is told by the place."""
    assert version.coordinates is not None
    topic_id, partition, offset = version.coordinates
    return f"from {partition}", topic_id, "payments", partition, offset


def state_of(version: Version, **payment: Any) -> State:
    """What a payment's row has besides its content."""
    source, topic_id, topic, partition, offset = transport(version)
    told = {"source": source, "topic_id": topic_id, "topic": topic, "partition": partition, "offset": offset}
    return told | {
        "event_id": version.event_id,
        "content_hash": version.content_hash,
        "first_ingest_ts": version.first_ingest_ts,
        **payment,
    }


def expected(copies: list[Version]) -> dict[Any, State]:
    """The payments of all copies, by the reference."""
    return {
        (p.business_key, p.transaction_ref): state_of(
            p.row,
            business_key=p.business_key,
            transaction_ref=p.transaction_ref,
            status=p.status,
            event_ids=p.event_ids,
            flags=p.flags,
        )
        for p in fold(copies)
    }


class Tables:
    """event_versions and payments as dictionaries, brought on as `CuratedBatch` brings on the real ones."""

    def __init__(self) -> None:
        self.versions: dict[str, Version] = {}
        self.payments: dict[Any, State] = {}
        self.group_of: dict[Any, Any] = {}

    def take(self, copies: list[Version]) -> None:
        groups: dict[Any, list[Version]] = defaultdict(list)
        for copy in copies:
            groups[copy.account_id, copy.event_ts].append(copy)
        for group, members in groups.items():
            stored = self._stored(group)
            if len(members) == 1 and not stored:
                self._take_alone(group, members[0])
            else:
                rows = [Row(copy, transport(copy), None, None, A_COPY) for copy in members]
                self._follow(
                    group, members, list(decide_group(group, mixed(random.Random(1), stored + rows)))
                )

    def _stored(self, group: Any) -> list[Row]:
        versions = [v for v in self.versions.values() if (v.account_id, v.event_ts) == group]
        rows = [Row(v, transport(v), None, None, A_VERSION) for v in versions]
        for key, of_payment in self.group_of.items():
            if of_payment == group:
                rows.append(self._payment_row(self.payments[key], versions[0]))
        return rows

    def _payment_row(self, state: State, like: Version) -> Row:
        told = {name: state[name] for name in Version._fields if name in state}
        where = tuple(state[c] for c in ("source", "topic_id", "topic", "partition", "offset"))
        return Row(like._replace(**told), where, list(state["event_ids"]), list(state["flags"]), A_PAYMENT)

    def _take_alone(self, group: Any, copy: Version) -> None:
        lone, key = alone()[copy.status], (copy.business_key, copy.transaction_ref)
        self.versions[copy.content_hash] = copy
        self.group_of[key] = group
        self.payments[key] = state_of(
            copy,
            business_key=copy.business_key,
            transaction_ref=copy.transaction_ref,
            status=lone.status,
            event_ids=(copy.event_id,),
            flags=lone.flags,
        )

    def _follow(self, group: Any, copies: list[Version], decisions: list[Decision]) -> None:
        by_place = {copy.coordinates: copy for copy in copies}
        named = [d[: len(RECORD)] for d in decisions if d.becomes is not None]
        assert sorted(named) == sorted(by_place), "every copy is decided about, once"
        for d in decisions:
            copy = by_place.get(d[: len(RECORD)])  # type: ignore[call-overload]
            if d.becomes in {INSERT, LOWER}:
                assert copy is not None
                assert (copy.content_hash in self.versions) == (d.becomes == LOWER)
                self.versions[copy.content_hash] = copy
            assert d.becomes in {INSERT, LOWER, COPY, None}
            if copy is not None and d.change != KEEP:
                assert d.content_hash == copy.content_hash, "a payment shows the copy that it is told with"
            self._change(group, d)

    def _change(self, group: Any, d: Decision) -> None:
        key = d.business_key, d.transaction_ref
        if d.change in {REPLACE, DELETE}:
            del self.payments[key], self.group_of[key]
        if d.change in {REPLACE, INSERT}:
            assert key not in self.payments
            self.payments[key] = {name: getattr(d, name) for name in STATE}
            self.group_of[key] = group


@settings(max_examples=300)
@given(_rngs)
def test_tables_that_follow_the_decisions_are_the_fold_after_every_batch(rng: random.Random) -> None:
    copies = mixed(rng, copies_of(rng))
    tables, taken = Tables(), 0
    while taken < len(copies):
        size = rng.randint(1, len(copies) - taken)
        tables.take(copies[taken : taken + size])
        taken += size
        assert set(tables.versions.values()) == set(fold_versions(copies[:taken]))
        assert tables.payments == expected(copies[:taken])


@settings(max_examples=200)
@given(_rngs)
def test_taking_a_batch_again_changes_nothing(rng: random.Random) -> None:
    copies = mixed(rng, copies_of(rng))
    tables = Tables()
    tables.take(copies)
    before = dict(tables.versions), dict(tables.payments)
    tables.take(mixed(rng, copies)[: rng.randint(0, len(copies))])
    assert (tables.versions, tables.payments) == before


@settings(max_examples=300)
@given(_rngs)
def test_a_payment_of_one_version_depends_on_its_status_alone(rng: random.Random) -> None:
    """What the job relies on for every record that is alone in its group."""
    for copy in copies_of(rng):
        (payment,) = fold([copy])
        lone = alone()[copy.status]
        assert (payment.status, payment.flags) == (lone.status, lone.flags)
        assert payment[:2] == (copy.business_key, copy.transaction_ref)
        assert payment.event_ids == (copy.event_id,)
