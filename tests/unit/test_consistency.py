"""One vector for several tables: the greatest that all of them have stood at, and where there is none."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from lakehouse.consistency import consistent, standings
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import LakehouseError, UnknownMoment
from lakehouse.offsets import OffsetVector
from lakehouse.stamp import Stamp
from tests.history import History, offsets


def history(*progress: int | None, first: int = 1) -> History:
    """A table whose main was set to snapshots `first`, `first` + 1, … in turn; None: one of maintenance."""
    history = History()
    for number, reached in enumerate(progress, start=first):
        history.publish(number, number - 1 if number > first else None, reached)
    return history


def tables(**histories: History) -> dict[str, History]:
    names = {"raw": RAW, "versions": VERSIONS, "payments": PAYMENTS, "quarantine": QUARANTINE}
    return {names[name]: history for name, history in histories.items()}


def ask(histories: dict[str, History]) -> tuple[OffsetVector, dict[str, int]]:
    found = consistent({name: history.table() for name, history in histories.items()})
    return found.vector, found.snapshots


def reached(found: Iterable[tuple[int, OffsetVector]]) -> list[tuple[int, int]]:
    return [(snapshot_id, vector.next_offset("topic", 0)) for snapshot_id, vector in found]


def test_the_greatest_vector_that_all_have_stood_at() -> None:
    versions, payments = history(0, 10, 20, 30), history(0, 10, 20, first=11)
    quarantine = history(0, 20, first=21)
    vector, snapshots = ask(tables(versions=versions, payments=payments, quarantine=quarantine))
    assert vector == offsets(20)
    assert snapshots == {VERSIONS: 3, PAYMENTS: 13, QUARANTINE: 22}


def test_the_order_of_the_tables_makes_no_difference() -> None:
    both = tables(versions=history(0, 10, 20, 30), payments=history(0, 20, first=11))
    assert ask(both) == ask(dict(reversed(both.items()))) == (offsets(20), {VERSIONS: 3, PAYMENTS: 12})


def test_what_does_not_consume_stands_where_the_snapshot_below_it_stands() -> None:
    versions, payments = history(0, 10, None, None, 20), history(0, 10, None, first=11)
    assert ask(tables(versions=versions, payments=payments)) == (offsets(10), {VERSIONS: 4, PAYMENTS: 13})


def test_raw_has_to_cover_the_vector_and_its_oldest_such_snapshot_is_read() -> None:
    raw = history(0, 15, 25, 35, 45, first=51)
    assert ask(tables(raw=raw, versions=history(0, 20, 30)))[1] == {RAW: 54, VERSIONS: 3}


def test_raw_alone_is_read_where_it_is() -> None:
    assert ask(tables(raw=history(0, 15, 25, first=51))) == (offsets(25), {RAW: 53})


def test_raw_that_does_not_reach_the_vector_is_named() -> None:
    with pytest.raises(UnknownMoment, match=f"{RAW} does not reach the offsets .*30") as refused:
        ask(tables(raw=history(0, 25, first=51), versions=history(0, 30)))
    assert refused.value.hint


def test_partitions_at_zero_are_no_difference() -> None:
    versions, payments = History(), History()
    named = OffsetVector({"topic": {0: 5, 1: 0}, "other": {0: 0}})
    versions.publish(1, None, 5)
    payments.add(11, None, Stamp("t", "w", named))
    payments.branch("main", 11)
    assert ask(tables(versions=versions, payments=payments))[1] == {VERSIONS: 1, PAYMENTS: 11}


def test_tables_at_birth_have_the_empty_vector_in_common() -> None:
    assert ask(tables(versions=history(0), payments=history(0, 10, first=11)))[1] == {
        VERSIONS: 1,
        PAYMENTS: 11,
    }


def test_no_vector_in_common_says_where_each_table_stands() -> None:
    with pytest.raises(UnknownMoment, match="no offset vector is common to") as refused:
        ask(tables(versions=history(10, 20), payments=history(15, 25, first=11)))
    assert VERSIONS in str(refused.value)
    assert '{"topic":{"0":25}}' in str(refused.value)
    assert "paywave stream curated" in refused.value.hint


def test_the_steps_within_a_publish_are_not_what_readers_saw() -> None:
    made = history(0, 10)
    made.add(3, 2, Stamp("two-steps", "w", offsets(20)))
    made.add(4, 3, Stamp("two-steps", "w", offsets(20)))
    made.branch("main", 4)
    assert reached(standings(made.table())) == [(4, 20), (2, 10), (1, 0)]


def test_what_was_rolled_back_is_not_offered() -> None:
    made = history(0, 10, 20)
    made.branch("main", 2)
    made.publish(4, 2, 15)
    assert reached(standings(made.table())) == [(4, 15), (2, 10), (1, 0)]


def test_expiry_leaves_what_is_kept() -> None:
    made = history(0, 10, 20)
    made.expire()
    assert reached(standings(made.table())) == [(3, 20)]


def test_progress_is_known_by_its_tag_where_expiry_cut_main_off_above_it() -> None:
    made = history(0, 10, None, None)
    made.expire()
    assert reached(standings(made.table())) == [(4, 10)]


def test_a_table_without_a_snapshot_is_refused() -> None:
    with pytest.raises(LakehouseError, match="has no snapshot"):
        list(standings(History().table()))
