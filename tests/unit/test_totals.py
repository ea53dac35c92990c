"""Records that no row tells: what the stamps' counts come to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.totals import RETIRED, told_by_no_row

COUNT = st.integers(0, 10**9)


@given(redelivered=COUNT, released=COUNT, versions=COUNT, quarantined=COUNT)
def test_rows_that_retention_drops_are_records_that_no_row_tells(
    redelivered: int, released: int, versions: int, quarantined: int
) -> None:
    before = told_by_no_row({"redelivered": redelivered}, {"released": released})
    after = told_by_no_row(
        {"redelivered": redelivered, RETIRED: versions}, {"released": released, RETIRED: quarantined}
    )
    assert before == redelivered + released
    assert after - before == versions + quarantined
    assert told_by_no_row({}, {}) == 0
