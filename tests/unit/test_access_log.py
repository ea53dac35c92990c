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
from structlog.testing import capture_logs

from cli.trail import last_seen, recorded
from config.settings import load_settings
from lakehouse.access_log import WRITER, Access, AccessLog, Entry
from lakehouse.chain import EMPTY, Tail, chained, link_of
from lakehouse.chained_ledger import NOTE, ChainedLedger
from lakehouse.definitions import ACCESS_LOG
from lakehouse.refs import MAIN, ancestry, branch_to
from lakehouse.stamp import Stamp

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
    assert list(log.entries()) == [] and log.verify() == (0, EMPTY, None)
    appended = [log.append(access(number, action="query" if number else "export")) for number in range(3)]
    assert list(log.entries()) == appended and list(log.entries("query")) == appended[1:]
    assert [Access(**{name: getattr(e, name) for name in COLUMNS}) for e in appended[1:]] == list(
        map(access, (1, 2))
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


def roll_back(catalog: Any, snapshots: int) -> None:
    """Set main back so many snapshots, as an administrator of the catalog can."""
    table = catalog.load_table(ACCESS_LOG)
    to = list(ancestry(table.metadata, table.current_snapshot()))[snapshots]
    catalog.commit_table(table, (), (branch_to(MAIN, to.snapshot_id),))


def test_a_trail_that_was_rolled_back_is_named_whoever_wrote_behind_it_since(catalog: Any) -> None:
    log = AccessLog(catalog)
    entries = [log.append(access(number)) for number in range(5)]
    assert log.lost() is None
    roll_back(catalog, 2)
    broken = log.verify().broken
    assert broken is not None and (broken.seq, broken.what) == (4, "removed")
    assert log.lost() in {Tail(e.seq, e.link) for e in entries[3:]}
    for number in range(3):
        log.append(access(number, actor="nobody@nowhere"))
    broken = log.verify().broken
    assert broken is not None and (broken.seq, broken.what) == (4, "altered")
    assert log.lost() is not None


def test_a_row_that_lost_its_race_was_never_in_the_trail(catalog: Any) -> None:
    """Its snapshot was staged, and says another last row: it is no proof of anything."""
    log = AccessLog(catalog)
    log.append(access(0))
    table = catalog.load_table(ACCESS_LOG)
    (other,) = chained([asdict(access(9))], Tail(1, "f" * 64))
    stamp = Stamp("t", WRITER, notes={NOTE: str(Tail(2, other["link"]))})
    catalog.commit_table(table, (), (branch_to("stage_trail_1_ab", table.current_snapshot().snapshot_id),))
    rows = pa.Table.from_pylist([other], table.scan().to_arrow().schema)
    catalog.load_table(ACCESS_LOG).append(
        rows, snapshot_properties=stamp.properties(), branch="stage_trail_1_ab"
    )
    log.append(access(1))
    assert log.verify().broken is None and log.lost() is None


def test_a_row_that_was_linked_rightly_but_written_past_us_is_named(catalog: Any) -> None:
    log = AccessLog(catalog)
    last = log.append(access(0))
    (row,) = chained([asdict(access(1))], Tail(last.seq, last.link))
    table = catalog.load_table(ACCESS_LOG)
    table.append(pa.Table.from_pylist([row], table.scan().to_arrow().schema))
    broken = log.verify().broken
    assert broken is not None and (broken.seq, broken.what) == (2, "added")


def test_rows_are_read_in_their_order_a_few_at_a_time_whatever_their_numbers(catalog: Any) -> None:
    AccessLog(catalog).append(access(0))
    rows = chained([asdict(access(number)) for number in range(7)], EMPTY)
    rows[2]["seq"], rows[5]["seq"], rows[6]["seq"] = 2, 10**15, 0  # twice the same, far away, in front
    forge(catalog, rows)
    ledger = ChainedLedger(catalog, ACCESS_LOG, WRITER)
    table = ledger.table()
    assert table is not None
    for at_a_time in (1, 2, 3, 7, 100):
        parts = list(ledger.in_order(table, at_a_time=at_a_time))
        assert [row["seq"] for part in parts for row in part] == [0, 1, 2, 2, 4, 5, 10**15]
        assert max(map(len, parts)) <= at_a_time + 1  # equal numbers are not torn apart
    assert [row["seq"] for part in ledger.in_order(table, 4, 1) for row in part] == [5, 10**15]


def test_what_a_home_saw_last_stays_where_the_trail_was_cut(catalog: Any, tmp_path: Path) -> None:
    settings = load_settings().model_copy(update={"home": tmp_path})

    def act() -> None:
        with recorded(settings, catalog, "query", announced=False):
            pass

    for _ in range(4):
        act()
    seen = last_seen(settings)
    assert [tail.seq for tail in seen] == [4]
    # the table is made anew: nothing in the catalog tells
    rows = [asdict(entry) for entry in AccessLog(catalog).entries()]
    catalog.drop_table(ACCESS_LOG)
    ChainedLedger(catalog, ACCESS_LOG, WRITER).prepare()
    catalog.load_table(ACCESS_LOG).append(
        pa.Table.from_pylist(rows[:2], catalog.load_table(ACCESS_LOG).scan().to_arrow().schema)
    )
    for _ in range(4):
        with capture_logs() as said:
            act()
        assert last_seen(settings) == seen
        assert sum("cut off or written anew" in entry["event"] for entry in said) == 1
    assert AccessLog(catalog).verify().broken is None
    broken = AccessLog(catalog).verify(seen).broken
    assert broken is not None and (broken.seq, broken.what) == (4, "altered")


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
