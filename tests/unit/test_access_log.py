"""The access trail on a catalog in a file: each column is under the chain, and whatever is done is named."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse.access_log import WRITER, Access, AccessLog, Entry
from lakehouse.chain import EMPTY, Tail, chained, link_of
from lakehouse.definitions import ACCESS_LOG
from lakehouse.refs import branch_to

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
COLUMNS = [f.name for f in fields(Access)]


@pytest.fixture
def catalog(tmp_path: Path) -> Any:
    """A lake from before there was a trail."""
    return SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")


def access(number: int, **more: str) -> Access:
    told = {"actor": "ann@desk", "action": "query", "target": "", "parameters": "{}", "result": "done"}
    return Access(NOON + timedelta(seconds=number), access_id=f"{number:032x}", **(told | more))


def test_rows_count_from_one_and_read_as_they_were_appended(catalog: Any) -> None:
    log = AccessLog(catalog)
    assert log.entries() == [] and log.verify() == (0, EMPTY, None)
    appended = [log.append(access(number)) for number in range(3)]
    assert log.entries() == appended and log.entries(after=2) == appended[2:]
    assert [Access(**{name: getattr(e, name) for name in COLUMNS}) for e in appended] == list(
        map(access, range(3))
    )
    assert log.verify() == (3, Tail(3, appended[2].link), None)


@pytest.mark.parametrize("column", [*COLUMNS, "link"])
def test_any_column_that_is_altered_is_named(catalog: Any, column: str) -> None:
    log = AccessLog(catalog)
    entries = [log.append(access(number)) for number in range(3)]
    rows = [asdict(entry) for entry in entries]
    value = rows[1][column]
    rows[1][column] = value + timedelta(microseconds=1) if isinstance(value, datetime) else f"{value}x"
    forge(catalog, rows)
    broken = log.verify().broken
    assert broken is not None and (broken.seq, broken.what) == (2, "altered")


def test_a_row_that_is_altered_and_linked_anew_is_named_by_what_the_snapshots_say(catalog: Any) -> None:
    log = AccessLog(catalog)
    rows = [asdict(log.append(access(number))) for number in range(3)]
    rows[1]["actor"] = "nobody@nowhere"
    rows[1]["link"] = link_of(rows[0]["link"], rows[1])
    forge(catalog, rows)
    broken = log.verify().broken
    assert broken is not None and (broken.seq, broken.what) == (2, "altered")


def test_a_trail_that_is_begun_anew_is_told_by_a_tail_that_was_known(catalog: Any) -> None:
    log = AccessLog(catalog)
    known = [Tail(e.seq, e.link) for e in [log.append(access(number)) for number in range(3)]]
    catalog.drop_table(ACCESS_LOG)
    emptied = log.verify(known[1:]).broken
    assert emptied is not None and (emptied.seq, emptied.what) == (1, "removed")
    for number in range(3):
        log.append(access(number, actor="nobody@nowhere"))
    assert log.verify().broken is None
    broken = log.verify(known[1:]).broken
    assert broken is not None and (broken.seq, broken.what) == (2, "altered")


def test_what_a_killed_writer_left_behind_goes_with_a_later_append(catalog: Any) -> None:
    log = AccessLog(catalog)
    log.append(access(0))
    now = int(datetime.now(UTC).timestamp() * 1000)
    old, young = (f"stage_{WRITER}_{at}_ab" for at in (now - 3_600_000, now))
    for branch in (old, young):
        table = catalog.load_table(ACCESS_LOG)
        catalog.commit_table(table, (), (branch_to(branch, table.current_snapshot().snapshot_id),))
    log.append(access(1))
    refs = set(catalog.load_table(ACCESS_LOG).metadata.refs)
    assert young in refs and old not in refs


@given(
    st.lists(st.text(max_size=5), min_size=5, max_size=5),
    st.lists(st.text(max_size=5), min_size=5, max_size=5),
)
def test_only_equal_rows_have_equal_links(one: list[str], other: list[str]) -> None:
    names = ("actor", "action", "target", "parameters", "result")
    links = [
        link_of(EMPTY.link, asdict(access(1, **dict(zip(names, told, strict=True))))) for told in (one, other)
    ]
    assert (links[0] == links[1]) == (one == other)


def test_an_entry_for_programs_says_its_number_its_hash_and_parameters_as_an_object() -> None:
    told = {**asdict(access(7)), "parameters": '{"sql":"SELECT 1"}'}
    (row,) = chained([told], EMPTY)
    value = Entry(**row).as_json()
    assert json.loads(json.dumps(value)) == value
    assert list(value) == ["sequence", *COLUMNS, "hash"]
    assert (value["sequence"], value["hash"], value["parameters"]) == (1, row["link"], {"sql": "SELECT 1"})


def forge(catalog: Any, rows: list[dict[str, Any]]) -> None:
    """Write all rows of the trail anew, past us."""
    table = catalog.load_table(ACCESS_LOG)
    schema = table.scan().to_arrow().schema
    table.overwrite(pa.Table.from_pylist(rows, schema))
