"""The stamp on a snapshot: everything that was written is read back, and nothing else is taken for one."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.offsets import OffsetVector
from lakehouse.retired import NOTHING, Retired
from lakehouse.stamp import Stamp

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
numbers = st.integers(0, 2**63 - 1)
stamps = st.builds(
    Stamp,
    token=st.text("0123456789abcdef", min_size=32, max_size=32),
    writer=names,
    progress=st.none() | st.just(OffsetVector()) | st.just(OffsetVector({"t": {0: 3, 1: 0}})),
    contract_version=st.none() | st.integers(1, 99),
    source_snapshot=st.none() | numbers,
    totals=st.dictionaries(names, numbers, max_size=3),
    retired=st.just(NOTHING)
    | st.just(Retired(datetime(2024, 1, 1, tzinfo=UTC), OffsetVector({"t": {0: 3}}))),
    code_version=st.none() | st.just("0.1.0"),
    notes=st.dictionaries(names, st.text(max_size=20), max_size=2),
)


@given(stamps)
def test_round_trip(stamp: Stamp) -> None:
    assert Stamp.from_summary(stamp.properties()) == stamp


@given(stamps)
def test_what_the_engine_adds_is_no_part_of_it(stamp: Stamp) -> None:
    engine = {
        "added-records": "7",
        "engine-name": "spark",
        "spark.app.id": "local-1",
        "x.paywave.total.copied": "no number",
    }
    assert Stamp.from_summary({**engine, **stamp.properties()}) == stamp


@given(stamps)
def test_properties_are_text_under_one_prefix(stamp: Stamp) -> None:
    properties = stamp.properties()
    assert all(name.startswith("paywave.") for name in properties)
    assert all(isinstance(value, str) for value in properties.values())


def test_a_foreign_snapshot_has_no_stamp() -> None:
    assert Stamp.from_summary({"engine-name": "spark", "added-records": "1"}) is None


def test_no_progress_is_not_progress_at_the_beginning() -> None:
    none, beginning = Stamp("t", "w"), Stamp("t", "w", OffsetVector())
    assert "paywave.progress" not in none.properties()
    assert Stamp.from_summary(none.properties()) == none
    assert Stamp.from_summary(beginning.properties()) == beginning
