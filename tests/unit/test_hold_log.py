"""The ledger of holds and its tags, on a catalog in a file: whoever dies in between lets nothing go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse import hold_log
from lakehouse.chain import Follower, Tail, chained
from lakehouse.definitions import BY_NAME, LEGAL_HOLDS, PAYMENTS, RAW
from lakehouse.errors import HoldRefused
from lakehouse.hold_log import HoldLog
from lakehouse.holds import Scope
from lakehouse.refs import MAIN, ancestry, branch_to, read_head
from lakehouse.tables import ensure_tables

SCOPE, WHY = Scope("acct-1"), ("court order", "bob", "me@here")


@pytest.fixture
def catalog(tmp_path: Path) -> Any:
    """Raw and payments, empty as they are born; a lake from before there were holds."""
    made: Any = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")
    for name in (RAW, PAYMENTS):  # of format 2: such a catalog cannot write a newer one
        ensure_tables(made, 4, [replace(BY_NAME[name], properties={"format-version": "2"})])
    return made


def tags(catalog: Any, table: str = RAW) -> set[str]:
    return {ref for ref in catalog.load_table(table).metadata.refs if ref.startswith("legal-hold-")}


def test_a_hold_is_placed_once_and_pins_what_there_is(catalog: Any) -> None:
    log = HoldLog(catalog)
    assert log.standing() == () and not catalog.table_exists(LEGAL_HOLDS)
    placed = log.place("case", SCOPE, *WHY)
    assert log.place("case", SCOPE, *WHY) == placed
    assert log.standing() == (placed,) and len(log.history()) == 1
    heads = {name: read_head(catalog, name).snapshot.snapshot_id for name in (RAW, PAYMENTS)}
    assert log.pins(placed) == heads
    with pytest.raises(HoldRefused, match="already"):
        log.place("case", Scope("acct-2"), *WHY)


def test_a_release_is_for_ever_and_all_of_it_is_one_chain(catalog: Any) -> None:
    log = HoldLog(catalog)
    log.place("case", SCOPE, *WHY)
    log.place("other", SCOPE, *WHY)
    for _ in range(2):
        log.release("case", *WHY)
    assert [hold.name for hold in log.standing()] == ["other"]
    assert tags(catalog) == {"legal-hold-other"}
    assert [(row["name"], row["event"]) for row in log.history()] == [
        ("case", "placed"), ("other", "placed"), ("case", "released"),
    ]  # fmt: skip
    assert not list(Follower().follow(log.history()))
    with pytest.raises(HoldRefused, match="already"):
        log.place("case", SCOPE, *WHY)
    with pytest.raises(HoldRefused) as refused:
        log.release("nobody", *WHY)
    assert refused.value.hint == "there are: case, other"


def test_who_dies_while_placing_leaves_the_tags_and_can_begin_again(
    catalog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = HoldLog(catalog)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("lakehouse.chained_ledger.ChainedLedger.append", die)
        with pytest.raises(KeyboardInterrupt):
            log.place("case", SCOPE, *WHY)
    assert tags(catalog) == tags(catalog, PAYMENTS) == {"legal-hold-case"} and not log.standing()
    with pytest.raises(HoldRefused, match="knows no hold of the tag legal-hold-case of curated"):
        log.in_force()  # he may have meant it
    assert log.place("case", SCOPE, *WHY).name == "case"
    assert [hold.name for hold in log.in_force()] == ["case"]


def test_who_dies_while_releasing_is_made_good_by_releasing_again(
    catalog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = HoldLog(catalog)
    log.place("case", SCOPE, *WHY)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(hold_log, "unpin", die)
        with pytest.raises(KeyboardInterrupt):
            log.release("case", *WHY)
    assert not log.standing() and not log.in_force() and tags(catalog)
    log.release("case", *WHY)
    assert not tags(catalog) and len(log.history()) == 2


def test_of_two_who_place_the_same_name_one_gets_it(catalog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = HoldLog(catalog), HoldLog(catalog)
    original = hold_log.pin

    def other_first(*arguments: Any) -> int:
        monkeypatch.setattr(hold_log, "pin", original)
        second.place("case", Scope("acct-2"), *WHY)
        return original(*arguments)

    monkeypatch.setattr(hold_log, "pin", other_first)
    with pytest.raises(HoldRefused, match="already"):
        first.place("case", SCOPE, *WHY)
    assert [hold.scope for hold in first.standing()] == [Scope("acct-2")]
    assert tags(catalog) == {"legal-hold-case"}


def roll_back(catalog: Any) -> None:
    table = catalog.load_table(LEGAL_HOLDS)
    to = list(ancestry(table.metadata, table.current_snapshot()))[1]
    catalog.commit_table(table, (), (branch_to(MAIN, to.snapshot_id),))


def forge(catalog: Any, *rows: Any) -> None:
    table = catalog.load_table(LEGAL_HOLDS)
    table.append(pa.Table.from_pylist(list(rows), table.scan().to_arrow().schema))


def released(log: HoldLog, **more: Any) -> Any:
    """The row that would end the hold, linked rightly, by whom nobody asked."""
    (last,) = log.history()
    (row,) = chained([{**last, "event": "released"}], Tail(last["seq"], last["link"]))
    return {**row, **more}


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        (lambda catalog, _: roll_back(catalog), "removed at row 1"),
        (lambda catalog, log: forge(catalog, released(log)), "added at row 2"),
        (lambda catalog, log: forge(catalog, released(log, link="f" * 64)), "altered at row 2"),
        (lambda catalog, _: catalog.load_table(LEGAL_HOLDS).delete("seq = 1"), "removed at row 1"),
        (lambda catalog, _: catalog.drop_table(LEGAL_HOLDS), "knows no hold of the tag legal-hold-case"),
    ],
    ids=["rolled back", "released past us", "forged", "deleted", "dropped"],
)
def test_a_hold_does_not_vanish_with_its_row(catalog: Any, deed: Any, said: str) -> None:
    log = HoldLog(catalog)
    log.place("case", SCOPE, *WHY)
    assert [hold.name for hold in log.in_force()] == ["case"]
    deed(catalog, log)
    with pytest.raises(HoldRefused, match=said):
        log.in_force()
