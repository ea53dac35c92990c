"""Scratch tables that are left: those that nobody wrote to for long go, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse.maintenance.scratch import NAMESPACE, drop_idle

ROWS = pa.table({"n": [1, 2, 3]})


@pytest.fixture
def catalog(tmp_path: Path) -> RestCatalog:
    found = SqlCatalog("c", uri=f"sqlite:///{tmp_path / 'c.db'}", warehouse=f"file://{tmp_path}")
    return cast(RestCatalog, found)


def test_where_nothing_was_ever_replayed_nothing_is_found(catalog: RestCatalog) -> None:
    assert drop_idle(catalog, timedelta(0)) == []


def test_what_nobody_wrote_to_for_long_is_dropped_with_its_files(
    catalog: RestCatalog, tmp_path: Path
) -> None:
    for name in (f"{NAMESPACE}.backfill-a", f"{NAMESPACE}.empty", "curated.payments"):
        catalog.create_namespace_if_not_exists(name.split(".")[0])
        catalog.create_table(name, ROWS.schema)
    catalog.load_table(f"{NAMESPACE}.backfill-a").append(ROWS)
    assert drop_idle(catalog, timedelta(days=1)) == [], "somebody may be at work"
    listed = drop_idle(catalog, timedelta(0), dry_run=True)
    assert [(one.table, one.files, one.removed) for one in listed] == [
        (f"{NAMESPACE}.backfill-a", 1, False),
        (f"{NAMESPACE}.empty", 0, False),
    ]
    assert listed[0].bytes > 0 == listed[1].bytes
    assert len(catalog.list_tables(NAMESPACE)) == 2
    assert all(one.removed for one in drop_idle(catalog, timedelta(0)))
    assert catalog.list_tables(NAMESPACE) == []
    assert catalog.table_exists("curated.payments")
    assert not list(tmp_path.glob(f"{NAMESPACE}*/**/*.parquet"))
