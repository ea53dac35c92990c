"""What Snowflake's side costs: a guess that follows interval and commits, and what the account says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse.definitions import PAYMENTS
from snowflake_external.cost import Rates, billed, estimate
from snowflake_external.deployment import Bearer, Deployment, RestCatalog, S3Volume
from snowflake_external.errors import Denied

DEPLOYMENT = Deployment(S3Volume("s3://lake/"), RestCatalog("http://c", Bearer("t")))
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = {
    "PIPE_USAGE_HISTORY": {
        ("PAYWAVE_LAKE.CURATED.PAYMENTS", 0.5),
        ("TRANSACTIONS", 0.25),
        ("PAYWAVEXLAKE.CURATED.PAYMENTS", 9.0),
    },
    "CATALOG_LINKED_DATABASE_USAGE_HISTORY": {("PAYWAVE_LAKE", 0.125), ("OTHER", 9.0)},
    "WAREHOUSE_METERING_HISTORY": {("PAYWAVE_READERS", 2.0), ("OTHER", 9.0)},
}


def ask(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """The account's views: rows whose name is among those asked for."""
    assert text.count("%s") == len(parameters)
    (view,) = (view for view in ROWS if f".{view}" in text)
    return [{"what": what, "credits": credits} for what, credits in ROWS[view] if what in parameters]


def test_what_was_billed_is_found_by_whole_and_bare_names_and_nothing_else() -> None:
    expected = {"PAYWAVE_LAKE.CURATED.PAYMENTS": 0.5, "TRANSACTIONS": 0.25, "PAYWAVE_READERS": 2.0}
    assert billed(DEPLOYMENT, ask, SINCE) == expected


def test_a_linked_database_is_billed_in_a_view_of_its_own() -> None:
    found = billed(replace(DEPLOYMENT, linked=True), ask, SINCE)
    assert found == {"PAYWAVE_LAKE": 0.125, "PAYWAVE_READERS": 2.0}


def test_what_may_not_be_seen_is_not_nothing() -> None:
    def refuses(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        raise Denied("no")

    assert billed(DEPLOYMENT, refuses, SINCE) is None


def test_a_days_guess_follows_the_interval_the_commits_and_the_rate(tmp_path: Path) -> None:
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path / 'c.db'}", warehouse=f"file://{tmp_path}")
    assert estimate(catalog, 30, Rates()) == [], "nothing is made yet"
    catalog.create_namespace("curated")
    rows = pa.table({"n": [1]})
    table = catalog.create_table(PAYMENTS, rows.schema)
    for _ in range(3):
        table.append(rows)
    (slow,) = estimate(catalog, 43_200, Rates())
    assert (slow.table, slow.polls, slow.commits, slow.refreshes) == (PAYMENTS, 2, 3, 2)
    (fast,) = estimate(catalog, 30, Rates())
    assert (fast.polls, fast.refreshes) == (2880, 3)
    assert fast.credits == pytest.approx((2880 * 0.05 + 3) / 3600, abs=1e-4)
    (dear,) = estimate(catalog, 30, Rates(credits_per_hour=2.0))
    assert dear.credits == pytest.approx(2 * fast.credits, abs=1e-4)
    (later,) = estimate(catalog, 30, Rates(), lambda: datetime.now(UTC) + timedelta(days=2))
    assert later.commits == 0
