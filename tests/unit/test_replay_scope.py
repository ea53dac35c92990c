"""What a replay is about, in words and back; units of work; its journal and its findings."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.partitions import Partition, start_of
from streaming.replay import journal as journal_module
from streaming.replay.journal import Journal
from streaming.replay.pinned import units
from streaming.replay.report import SHOWN, Difference, Findings
from streaming.replay.scope import ALL, Scope, WrongScope, read_partition, written

BUCKETS = 4
_partitions = st.builds(Partition, st.integers(0, 2_000_000), st.integers(0, BUCKETS - 1))


@given(_partitions)
def test_a_partition_is_read_as_it_is_written(partition: Partition) -> None:
    assert read_partition(written(partition), BUCKETS) == partition


def test_a_partition_is_written_as_hour_and_bucket() -> None:
    noon = Partition(int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) // 3600, 3)
    assert written(noon) == "2026-11-22T12/3"
    assert start_of(noon.hour) == datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-11-22T12/4", "2026-11-22T24/0", "2026-11-22/0", "2026-13-01T00/0", ""]
)
def test_what_is_no_partition_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(WrongScope) as refused:
        read_partition(text, BUCKETS)
    assert "0 to 3" in refused.value.hint


def test_a_scope_names_itself() -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    scopes = [
        ALL,
        Scope(start=noon),
        Scope(end=noon),
        Scope(raw_snapshot=7),
        Scope(partitions=(Partition(1, 2),)),
        Scope(partitions=(Partition(1, 3),)),
    ]
    assert len({scope.digest for scope in scopes}) == len(scopes)
    assert [scope.is_all for scope in scopes] == [True, *[False] * 5]
    assert str(Scope(start=noon)) == "Kafka time from 2026-11-22T12:00:00+00:00 to now"


@given(st.dictionaries(_partitions, st.integers(0, 50), max_size=30), st.integers(1, 60))
def test_units_hold_every_partition_once_in_order_and_no_more_rows_than_asked(
    sizes: dict[Partition, int], most: int
) -> None:
    packed = list(units(sizes, most))
    assert [p for unit in packed for p in unit] == sorted(sizes)
    for unit in packed:
        assert len(unit) == 1 or sum(sizes[p] for p in unit) <= most
    for one, following in pairwise(packed):
        assert sum(sizes[p] for p in one) + sizes[following[0]] > most


def test_a_journal_says_what_was_saved_last_and_is_forgotten_when_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "replay", "verify-1")
    assert journal.load() is None
    journal.save({"at": 1})
    journal.save({"at": 2})
    assert Journal(tmp_path / "replay", "verify-1").load() == {"at": 2}
    assert Journal(tmp_path / "replay", "verify-2").load() is None
    journal.remove()
    journal.remove()
    assert journal.load() is None


def test_a_journal_of_other_code_or_cut_short_is_left_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(tmp_path, "a").save({"at": 1})
    (tmp_path / "b.json").write_text(json.dumps({"at": 1})[:-3])
    assert Journal(tmp_path, "b").load() is None
    monkeypatch.setattr(journal_module, "code_digest", lambda: "other")
    assert Journal(tmp_path, "a").load() is None


def test_findings_count_all_and_keep_the_first() -> None:
    found = Findings()
    assert not found
    found.add(Difference("t", "missing", (), {"k": str(i)}) for i in range(SHOWN + 5))
    found.add([Difference("t", "different", ("amount",), {"k": "x"})])
    assert found.counts == {"t: missing": SHOWN + 5, "t: different": 1}
    assert [d.row["k"] for d in found.first] == [str(i) for i in range(SHOWN)]
    again = Findings.from_json(json.loads(json.dumps(found.as_json())))
    assert (again.counts, again.first) == (found.counts, found.first)
    assert str(Difference("t", "different", ("amount",), {"k": "x"})) == "t: different in amount: k=x"
