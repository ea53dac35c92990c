"""Pins: a tag is where it was asked for, or it is said that it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

from lakehouse.definitions import BY_NAME, RAW
from lakehouse.errors import LostRace
from lakehouse.pins import pin, unpin
from lakehouse.refs import MAIN
from lakehouse.tables import ensure_tables


class Catalog(SqlCatalog):
    """One whose next answers to commits are errors: before or after the commit was applied."""

    refused: int = 0
    unanswered: int = 0

    def commit_table(self, *arguments: Any) -> Any:
        """Commit as the catalog does, or not."""
        if self.refused:
            self.refused -= 1
            raise CommitFailedException("somebody was faster")
        done = super().commit_table(*arguments)
        if self.unanswered:
            self.unanswered -= 1
            raise CommitStateUnknownException("no answer")
        return done


@pytest.fixture
def catalog(tmp_path: Path) -> Any:
    """Raw with two snapshots."""
    made: Any = Catalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")
    ensure_tables(made, 4, [replace(BY_NAME[RAW], properties={"format-version": "2"}, hour_of=None)])
    table = made.load_table(RAW)
    table.append(table.scan().to_arrow())
    return made


def refs(catalog: Any) -> dict[str, int]:
    return {name: ref.snapshot_id for name, ref in catalog.load_table(RAW).metadata.refs.items()}


def test_a_pin_is_set_at_main_once_and_stays_there(catalog: Any) -> None:
    main = refs(catalog)[MAIN]
    assert pin(catalog, RAW, "t") == main == refs(catalog)["t"]
    table = catalog.load_table(RAW)
    table.append(table.scan().to_arrow())
    assert pin(catalog, RAW, "t") == main == refs(catalog)["t"] != refs(catalog)[MAIN]
    assert unpin(catalog, RAW, "t") and "t" not in refs(catalog)
    assert not unpin(catalog, RAW, "t")


def test_a_pin_is_set_at_a_snapshot_wherever_it_was(catalog: Any) -> None:
    first = catalog.load_table(RAW).metadata.snapshots[0].snapshot_id
    pin(catalog, RAW, "t")
    for _ in range(2):
        assert pin(catalog, RAW, "t", first) == first == refs(catalog)["t"]


def test_who_lost_a_race_or_an_answer_sets_it_all_the_same(catalog: Any) -> None:
    catalog.refused, catalog.unanswered = 2, 1
    assert pin(catalog, RAW, "t") == refs(catalog)["t"]


def test_a_pin_that_cannot_be_set_is_told_with_its_cause(catalog: Any) -> None:
    catalog.refused = 100
    with pytest.raises(LostRace, match="somebody was faster"):
        pin(catalog, RAW, "t")
    with pytest.raises(LostRace, match="expired"):
        pin(catalog, RAW, "t", 1)
    assert "t" not in refs(catalog)
