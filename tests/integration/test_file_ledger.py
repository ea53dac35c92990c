"""The ledger of files on the real catalog: of two that want a file one gets it, nothing is left half-done."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table

from config.settings import Settings
from lakehouse.catalog import connect
from lakehouse.definitions import BY_NAME, PARTNER_FILES
from lakehouse.file_ledger import FileLedger, Row
from lakehouse.publish import Publisher
from lakehouse.refs import MAIN, read_head, stamp_of
from lakehouse.tables import ensure_tables
from tests.crashes import Crash, crash_once
from tests.lake import QUICK

pytestmark = pytest.mark.integration


@pytest.fixture
def partner(catalog: RestCatalog) -> Iterator[str]:
    """A partner of this test's own, and an empty ledger."""
    if catalog.table_exists(PARTNER_FILES):
        catalog.drop_table(PARTNER_FILES)
    ensure_tables(catalog, 4, [BY_NAME[PARTNER_FILES]])
    return f"p-{uuid.uuid4()}"


def row(partner: str, name: str, known: list[Row], **more: Any) -> Row:
    seq = 1 + max((r["seq"] for r in known if r["name"] == name), default=0)
    at = datetime.now(UTC)
    entry = {"partner": partner, "name": name, "seq": seq, "state": "reading", "changed_at": at}
    return {**entry, "fingerprint": "f", "bytes": 1, **more}


def test_of_many_who_want_a_file_one_gets_it(stack: Settings, partner: str) -> None:
    def claim(owner: int) -> list[Row]:
        ledger = FileLedger(connect(stack.catalog_properties()), QUICK)

        def choose(rows: list[Row]) -> list[Row]:
            return [] if rows else [row(partner, "day.csv", rows, owner=str(owner), digest="d")]

        return ledger.change(partner, ["day.csv"], ["d"], choose)

    with ThreadPoolExecutor(3) as pool:
        claims = list(pool.map(claim, range(3)))
    (winner,) = [made for made in claims if made]
    ledger = FileLedger(connect(stack.catalog_properties()))
    (kept,) = ledger.read(partner, digests=["d"])
    assert kept["owner"] == winner[0]["owner"]
    assert (
        ledger.read(partner, ["other.csv"]) == ledger.read("other", ["day.csv"]) == ledger.read(partner) == []
    )


def test_a_crash_before_the_swap_leaves_nothing_and_every_snapshot_is_stamped(
    catalog: RestCatalog, partner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = FileLedger(catalog, QUICK)
    crash_once(monkeypatch, Publisher, "_swap", lambda *_: True)
    with pytest.raises(Crash):
        ledger.change(partner, ["a"], [], lambda rows: [row(partner, "a", rows)])
    assert ledger.read(partner, ["a"]) == []
    ledger.change(partner, ["a"], [], lambda rows: [row(partner, "a", rows, rows=7)])
    ledger.change(partner, ["a"], [], lambda rows: [row(partner, "a", rows)])
    assert sorted((r["seq"], r["rows"]) for r in ledger.read(partner, ["a"])) == [(1, 7), (2, None)]
    head = read_head(catalog, PARTNER_FILES)
    stamps = [stamp_of(s) for s in head.table.metadata.snapshots]
    assert all(stamps)
    assert {s.writer for s in stamps if s} == {"birth", "dropzone"}
    assert set(head.table.metadata.refs) == {MAIN, "progress"}


def test_rows_that_were_lost_on_the_way_are_not_published(
    catalog: RestCatalog, partner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Table.append
    monkeypatch.setattr(Table, "append", lambda self, df, **how: append(self, df.slice(1), **how))
    ledger = FileLedger(catalog, QUICK)
    with pytest.raises(Exception, match="1 rows staged, 2 expected"):
        ledger.change(partner, ["a", "b"], [], lambda rows: [row(partner, n, rows) for n in "ab"])
    monkeypatch.undo()
    assert ledger.read(partner, ["a", "b"]) == []
