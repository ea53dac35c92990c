"""The access trail on the real catalog: one chain of many writers, tampering named, commands recorded."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions import EqualTo, GreaterThan

from cli.commands.query import query
from cli.commands.trail import trail
from cli.trail import recorded
from config.settings import Settings
from lakehouse.access_log import Access, AccessLog, Entry
from lakehouse.catalog import connect
from lakehouse.chain import Tail, link_of
from lakehouse.definitions import ACCESS_LOG, BY_NAME, PAYMENTS
from lakehouse.errors import OutcomeUnknown, TrailUnwritable
from lakehouse.refs import MAIN
from lakehouse.tables import ensure_tables
from tests.lake import QUICK

pytestmark = pytest.mark.integration
# pydantic hides the signatures of these from the type checker
_equal: Any = EqualTo
_above: Any = GreaterThan


@pytest.fixture
def log(catalog: RestCatalog) -> AccessLog:
    """A lake without a trail yet: the first row makes it."""
    if catalog.table_exists(ACCESS_LOG):
        catalog.drop_table(ACCESS_LOG)
    return AccessLog(catalog, QUICK)


@pytest.fixture
def home(stack: Settings, tmp_path: Path) -> Settings:
    """The stack's settings with a home of this test's own, which has seen no trail yet."""
    return stack.model_copy(update={"home": tmp_path})


def access(number: int) -> Access:
    at = datetime.now(UTC)
    return Access(at, "ann@desk", "query", PAYMENTS, "{}", "done", f"{number:032x}")


def test_rows_of_many_writers_are_one_chain(stack: Settings, log: AccessLog) -> None:
    log.append(access(0))

    def write(writer: int) -> list[Entry]:
        own = AccessLog(connect(stack.catalog_properties()))
        return [own.append(access(10 * writer + n)) for n in range(3)]

    with ThreadPoolExecutor(2) as pool:
        written = [entry for entries in pool.map(write, (1, 2)) for entry in entries]
    entries = list(log.entries())
    assert [e.seq for e in entries] == list(range(1, 8))
    assert {e.link for e in written} == {e.link for e in entries[1:]}
    assert log.verify() == (7, Tail(7, entries[-1].link), None)


def test_a_row_that_was_altered_removed_or_cut_off_is_named(catalog: RestCatalog, log: AccessLog) -> None:
    for number in range(4):
        log.append(access(number))
    table = catalog.load_table(ACCESS_LOG)
    rows = table.scan(_equal("seq", 2)).to_arrow()
    actor = rows.schema.field("actor")
    forged = pa.array(["nobody@nowhere"], actor.type)
    table.overwrite(rows.set_column(rows.schema.get_field_index("actor"), actor, forged), _equal("seq", 2))
    broken = log.verify().broken
    assert broken is not None
    assert (broken.seq, broken.what) == (2, "altered")
    table.refresh().overwrite(rows, _equal("seq", 2))
    assert log.verify().broken is None
    table.refresh().delete(_above("seq", 3))  # the chain of what is left is whole
    broken = log.verify().broken
    assert broken is not None
    assert (broken.seq, broken.what) == (4, "removed")


def test_a_trail_whose_snapshots_say_nothing_goes_on_behind_its_last_row(
    catalog: RestCatalog, log: AccessLog
) -> None:
    first = log.append(access(0))
    table = catalog.load_table(ACCESS_LOG)
    rows = table.scan().to_arrow()
    catalog.drop_table(ACCESS_LOG)
    ensure_tables(catalog, 4, [BY_NAME[ACCESS_LOG]])
    catalog.load_table(ACCESS_LOG).append(rows)  # as after the expiry of every snapshot but a compaction's
    second = log.append(access(1))
    assert (second.seq, second.link) == (2, link_of(first.link, asdict(second)))
    assert log.verify() == (2, Tail(2, second.link), None)


def test_a_query_is_recorded_before_its_result_is_shown(
    stack: Settings, catalog: RestCatalog, log: AccessLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYWAVE_HOME", str(stack.home))
    ensure_tables(catalog, 4, [BY_NAME[PAYMENTS]])
    (stack.home / "trail" / "last-seen.json").unlink(missing_ok=True)
    sql = f"SELECT count(*) AS payments, '4111111111111111' AS card FROM {PAYMENTS}"
    asked = CliRunner().invoke(query, [sql, "--output", "json"])
    assert json.loads(asked.stdout)["columns"] == ["payments", "card"]
    failed = CliRunner().invoke(query, ["SELECT nothing FROM nowhere.table"])
    assert failed.exception is not None
    listed = CliRunner().invoke(trail, ["list", "--action", "query", "--output", "json"])
    one, other = json.loads(listed.stdout)["entries"]
    assert (one["action"], one["target"], one["result"]) == ("query", PAYMENTS, "done: 1 rows")
    assert "[card number]" in one["parameters"]["sql"]
    assert other["result"] == "failed: QueryError"
    verified = CliRunner().invoke(trail, ["verify", "--output", "json"])
    said = json.loads(verified.stdout)
    assert (verified.exit_code, said["rows"], said["whole"]) == (0, 2, True)
    held = CliRunner().invoke(trail, ["verify", "--known", f"1:{'f' * 64}", "--output", "json"])
    assert (held.exit_code, json.loads(held.stdout)["broken"]["sequence"]) == (1, 1)

    def unanswered(*_: object) -> None:
        raise OutcomeUnknown("the catalog is silent")

    monkeypatch.setattr(AccessLog, "append", unanswered)
    hidden = CliRunner().invoke(query, [sql, "--output", "json"])
    assert isinstance(hidden.exception, TrailUnwritable)
    assert hidden.stdout == ""


def test_what_changes_something_is_recorded_before_and_not_begun_otherwise(
    home: Settings, catalog: RestCatalog, log: AccessLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded(home, catalog, "maintain retention", "raw", {"reason": "old"}) as said:
        assert [e.result for e in log.entries()] == ["begun"]
        said.result = "3 records"
    with pytest.raises(ZeroDivisionError), recorded(home, catalog, "replay apply"):
        raise ZeroDivisionError("of 4111111111111111")
    entries = list(log.entries())
    assert [e.result for e in entries] == ["begun", "done: 3 records", "begun", "failed: ZeroDivisionError"]
    assert len({e.access_id for e in entries}) == 2
    assert catalog.load_table(ACCESS_LOG).metadata.refs[MAIN] is not None

    def unanswered(*_: object) -> None:
        raise OutcomeUnknown("the catalog is silent")

    monkeypatch.setattr(AccessLog, "append", unanswered)
    with pytest.raises(TrailUnwritable), recorded(home, catalog, "maintain retention", "raw"):
        pytest.fail("it was begun")
