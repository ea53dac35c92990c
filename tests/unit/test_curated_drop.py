"""Records that no row tells: what the stamps' counts come to, and what the pair of a drop says is gone."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import RetentionRefused
from lakehouse.maintenance.curated_retention import CuratedDue, _days
from lakehouse.maintenance.old_files import OldFile
from lakehouse.totals import RETIRED, told_by_no_row

COUNT = st.integers(0, 10**9)
GONE = datetime(2024, 5, 1, tzinfo=UTC)


@given(redelivered=COUNT, released=COUNT, versions=COUNT, quarantined=COUNT)
def test_rows_that_retention_drops_are_records_that_no_row_tells(
    redelivered: int, released: int, versions: int, quarantined: int
) -> None:
    found = told_by_no_row(
        {"redelivered": redelivered, RETIRED: versions}, {"released": released, RETIRED: quarantined}
    )
    assert found == (redelivered + released, versions + quarantined)
    assert found.records == sum(found)
    assert told_by_no_row({}, {}).records == 0


@pytest.mark.parametrize(
    ("before", "said"),
    [(date(2024, 4, 10), "is behind that"), (date(2024, 5, 2), "raw still has"), (date(2024, 5, 1), None)],
)
def test_a_drop_never_goes_behind_an_earlier_one_or_before_raw(before: date, said: str | None) -> None:
    due = CuratedDue(before, raw_before=GONE, gone_before=GONE)
    if said is None:
        due.check()
    else:
        with pytest.raises(RetentionRefused, match=said):
            due.check()


def test_rows_of_a_day_are_those_of_its_files_less_those_deleted() -> None:
    files = [
        OldFile("a", 24, 100, 10, True),
        OldFile("b", 47, 50, 5, True),
        OldFile("v.puffin", 24, 9, 3, False),
        OldFile("c", 48, 1, 1, True),
    ]
    days = _days(files)
    assert [(d.day, d.records, d.files, d.bytes) for d in days] == [
        (date(1970, 1, 2), 12, 2, 150),
        (date(1970, 1, 3), 1, 1, 1),
    ]
