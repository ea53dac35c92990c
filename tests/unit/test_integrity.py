"""What is wrong with a file of raw, the inventory of what there is, and what the ledger's chain tells."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow

from lakehouse.chain import EMPTY, Tail, chained
from lakehouse.chained_ledger import ChainedLedger
from lakehouse.definitions import BY_NAME, FILE_DIGESTS, RAW
from lakehouse.errors import ChainBroken
from lakehouse.integrity import keeper
from lakehouse.integrity.check import Selection, _follow, check
from lakehouse.integrity.inventory import Inventory, wanted_files
from lakehouse.integrity.keeper import WRITER, DigestKeeper
from lakehouse.integrity.look import measure, read
from lakehouse.integrity.verdict import ALTERED, GROWN, MISSING, TRUNCATED, UNREADABLE, Seen, Wanted, judge
from lakehouse.refs import MAIN, ancestry, branch_to
from tests.events import wire
from tests.small_lake import SmallLake

SCHEMA = schema_to_pyarrow(BY_NAME[FILE_DIGESTS].schema(), include_field_ids=False)
FILE = Wanted("s3://w/raw/a.parquet", "data", 10, 3, 1)
RECORDED = Seen(10, "aa")


@pytest.mark.parametrize(
    ("seen", "recorded", "problem"),
    [
        (Seen(10, "aa"), RECORDED, None),
        (Seen(10, "aa"), None, None),
        (Seen(10), RECORDED, None),  # its size alone was asked for
        (Seen(10, "bb"), RECORDED, ALTERED),
        (Seen(9, "bb"), RECORDED, TRUNCATED),
        (Seen(9), None, TRUNCATED),
        (Seen(11), RECORDED, GROWN),
        (Seen(gone=True), RECORDED, MISSING),
        (Seen(gone=True), None, MISSING),
        (Seen(error="OSError: no"), RECORDED, UNREADABLE),
        (Seen(9, "bb"), Seen(9, "bb"), TRUNCATED),  # recorded so, but never what the metadata say
    ],
)
def test_what_is_wrong_with_a_file(seen: Seen, recorded: Seen | None, problem: str | None) -> None:
    found = judge(FILE, seen, recorded)
    assert (found and found.problem) == problem
    assert found is None or found.path == FILE.path


def test_a_manifest_list_is_held_to_the_ledger_alone() -> None:
    listing = FILE._replace(kind="manifest-list", bytes=None)
    assert judge(listing, Seen(7, "x")) is None
    found = judge(listing, Seen(7, "x"), Seen(8, "x"))
    assert found is not None and found.problem == TRUNCATED


@given(st.binary(max_size=200))
def test_bytes_are_read_as_they_are(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.mktemp("look") / "file"
    path.write_bytes(content)
    io = PyArrowFileIO()
    assert read(io, str(path)) == Seen(len(content), hashlib.sha256(content).hexdigest())
    assert measure(io, str(path)) == Seen(len(content))


def test_a_file_that_is_gone_is_told_and_not_raised(tmp_path: Path) -> None:
    gone = str(tmp_path / "nothing")
    assert read(PyArrowFileIO(), gone).gone and measure(PyArrowFileIO(), gone).gone


def wanted(count: int) -> list[Wanted]:
    return [FILE._replace(path=f"p{number:03}", bytes=number) for number in range(count)]


def digests(files: list[Wanted]) -> list[dict[str, Any]]:
    at = datetime(2026, 1, 1, 2, 3, 4, 567_891, tzinfo=UTC)
    rows = [{**f._asdict(), "sha256": f"d{f.path}", "first_seen": at} for f in files]
    return chained(rows, EMPTY)


def filled(files: list[Wanted], rows: list[dict[str, Any]]) -> Inventory:
    inventory = Inventory()
    inventory.fill(iter([*files, *files[:2]]), pa.Table.from_pylist(rows, SCHEMA).to_batches(), SCHEMA)
    return inventory


def test_the_inventory_says_what_is_new_and_what_was_recorded() -> None:
    files = wanted(10)
    with filled(files, digests(files[:4])) as inventory:
        assert inventory.unrecorded() == (6, sum(range(4, 10)))
        assert [file for some in inventory.new() for file in some] == files[4:]
        assert inventory.choose(1, 5, None) == (10, sum(range(10)))
        todo = [one for some in inventory.todo() for one in some]
        assert [one.file for one in todo] == files and all(one.whole for one in todo)
        assert [one.recorded for one in todo[3:5]] == [Seen(3, "dp003"), None]


def test_over_some_days_each_file_is_read_whole_once() -> None:
    files, due = wanted(60), []
    for day in range(20_000, 20_007):
        with filled(files, digests(files)) as inventory:
            inventory.choose(7, day, None)
            due += [one.file.path for some in inventory.todo() for one in some if one.whole]
    assert sorted(due) == [file.path for file in files]


def test_a_sample_is_of_the_size_that_was_asked_for() -> None:
    with filled(wanted(60), []) as inventory:
        assert inventory.choose(1, 0, 5)[0] == 5


def test_the_chain_is_followed_through_the_inventory_and_known_tails_are_looked_for() -> None:
    rows = digests(wanted(8))
    middle, end = (Tail(row["seq"], row["link"]) for row in (rows[3], rows[-1]))
    with filled([], rows) as inventory:
        assert _follow(inventory, [end, middle]) == ([], end)
        assert _follow(inventory, [EMPTY]) == ([], end)
        breaks, _ = _follow(inventory, [end, Tail(4, "f" * 64)])
        assert [(b.seq, b.what) for b in breaks] == [(4, "altered")]
    with filled([], rows[:6]) as inventory:  # cut off at its end: the links alone would not tell
        breaks, tail = _follow(inventory, [end])
        assert [(b.seq, b.what) for b in breaks] == [(7, "removed")]
        assert tail.seq == 6
    with filled([], [*rows[:2], {**rows[2], "sha256": "forged"}, *rows[3:]]) as inventory:
        breaks, _ = _follow(inventory, [end])
        assert [b.seq for b in breaks] == [3]


@pytest.fixture
def lake(tmp_path: Path) -> SmallLake:
    """Raw of one publish, and nothing recorded of it."""
    made = SmallLake(tmp_path)
    made.take([wire("e1")])
    return made


def roll_back(catalog: Any) -> None:
    """Set the ledger's main back by one append, as an administrator of the catalog can."""
    table = catalog.load_table(FILE_DIGESTS)
    to = list(ancestry(table.metadata, table.current_snapshot()))[1]
    catalog.commit_table(table, (), (branch_to(MAIN, to.snapshot_id),))


def test_nothing_is_recorded_in_a_ledger_that_was_rolled_back(lake: SmallLake) -> None:
    first = DigestKeeper(lake.catalog).run()
    lake.take([wire("e2")])
    second = DigestKeeper(lake.catalog).run([first.tail])
    assert second.files and check(lake.catalog, Selection(noted=(first.tail, second.tail))).is_whole
    roll_back(lake.catalog)
    with pytest.raises(ChainBroken, match=f"row {second.tail.seq} ") as refused:
        DigestKeeper(lake.catalog).run()
    assert str(second.tail) in refused.value.hint
    assert [b.what for b in check(lake.catalog, Selection()).breaks] == ["removed"]


def test_a_ledger_that_was_begun_anew_is_refused_by_a_head_that_was_noted(lake: SmallLake) -> None:
    tail = DigestKeeper(lake.catalog).run().tail
    lake.catalog.drop_table(FILE_DIGESTS)
    with pytest.raises(ChainBroken, match=tail.link):
        DigestKeeper(lake.catalog).run([tail])
    assert DigestKeeper(lake.catalog).run().tail != tail
    with pytest.raises(ChainBroken, match=tail.link):
        DigestKeeper(lake.catalog).run([tail])


def test_an_old_file_without_a_digest_fails_the_check_and_a_young_one_does_not(lake: SmallLake) -> None:
    DigestKeeper(lake.catalog).run()
    lake.take([wire("e2")])
    found = check(lake.catalog, Selection())
    assert found.is_whole and found.unrecorded and not found.overdue
    later = datetime.now(UTC) + timedelta(hours=7)
    found = check(lake.catalog, Selection(), now=lambda: later)
    assert found.overdue == found.unrecorded and not found.is_whole
    assert not (found.findings or found.breaks)
    assert check(lake.catalog, Selection(recorded_within=timedelta(hours=8)), now=lambda: later).is_whole


def test_the_keeper_reads_no_row_twice_and_records_no_path_that_another_did(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        lake.take([wire(f"more{number}")])
    files = list(wanted_files(lake.load(RAW), lambda *_: None))
    monkeypatch.setattr(Inventory, "new", lambda self: ([f] for f in dict.fromkeys(files)))
    other = ChainedLedger(lake.catalog, FILE_DIGESTS, WRITER)
    other.prepare()
    last, read_rows = files[-1], list[int]()
    original, rows_of = keeper.DigestKeeper._append, ChainedLedger.rows

    def beside(self: Any, rows: Any, others: Any) -> Any:
        if not read_rows:  # another keeper is first with the file that comes last here
            row = {**rows[0], "path": last.path}
            other.append(lambda *_: [row])
        return original(self, rows, others)

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        found = rows_of(self, *arguments, **named)
        read_rows.append(len(found))
        return found

    monkeypatch.setattr(keeper.DigestKeeper, "_append", beside)
    monkeypatch.setattr(ChainedLedger, "rows", counted)
    done = DigestKeeper(lake.catalog).run()
    monkeypatch.undo()
    assert sum(read_rows) == 1, "only what the other one wrote"
    recorded = [row["path"] for row in other.rows()]
    assert len(recorded) == len(set(recorded)) == done.files + 1 == len(set(files))
