"""Asking Snowflake how its tables stand, and refreshing them by hand; the account answers as told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from lakehouse.definitions import PAYMENTS
from snowflake_external.apply import NotAll, apply, recorded
from snowflake_external.ddl import Statement
from snowflake_external.deployment import Bearer, Deployment, RestCatalog, S3Volume
from snowflake_external.errors import (
    CatalogUnreachable,
    Denied,
    Missing,
    NoWarehouse,
    SnowflakeError,
    Unreachable,
)
from snowflake_external.estate import EXPOSED
from snowflake_external.freshness import Freshness, State
from snowflake_external.plan import Action, Change
from snowflake_external.resources import Key, Kind
from snowflake_external.sql import identifier
from snowflake_external.watch import (
    Refreshed,
    freshness_of,
    held_snapshots,
    readers_stopped,
    refresh,
    standing,
    take_newest,
)

DEPLOYMENT = Deployment(S3Volume("s3://b/w"), RestCatalog("https://c.example", Bearer("t")))
NAME = ("PAYWAVE_LAKE", "CURATED", "PAYMENTS")
ALTER = 'ALTER ICEBERG TABLE "PAYWAVE_LAKE"."CURATED"."PAYMENTS"'
REFRESH, OFF, ON = f"{ALTER} REFRESH", f"{ALTER} SET AUTO_REFRESH = FALSE", f"{ALTER} SET AUTO_REFRESH = TRUE"
NOW = datetime.now(UTC)


def lake(*snapshots: int) -> Catalog:
    """A catalog that knows payments only, with a commit a minute, the last one just now."""

    def load_table(name: str) -> Any:
        if name != PAYMENTS:
            raise NoSuchTableError(name)
        moments = [datetime.now(UTC) - timedelta(minutes=age) for age in reversed(range(len(snapshots)))]
        entries = [
            SimpleNamespace(snapshot_id=snapshot, timestamp_ms=int(moment.timestamp() * 1000))
            for snapshot, moment in zip(snapshots, moments, strict=True)
        ]
        return SimpleNamespace(metadata=SimpleNamespace(snapshots=entries), history=lambda: entries)

    return cast(Catalog, SimpleNamespace(load_table=load_table))


@dataclass
class Account:
    """One table. `fails` are the errors of the next statements that alter it, one each."""

    shows: int | None = 2
    state: str | None = "RUNNING"
    newest: int = 3
    fails: list[SnowflakeError | None] = field(default_factory=list)
    history: SnowflakeError | None = None
    says_while_on: SnowflakeError | None = None
    sent: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def ask(self, text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        if not text.startswith("ALTER"):
            return self._told(text)
        self.sent.append(text)
        if self.fails and (error := self.fails.pop(0)):
            raise error
        if text.endswith("= FALSE"):
            self.state = None
        elif text.endswith("= TRUE"):
            self.state = "RUNNING"
        elif self.says_while_on and self.state is not None:
            raise self.says_while_on
        else:
            self.shows = self.newest
        return []

    def _told(self, text: str) -> list[dict[str, Any]]:
        self.asked.append(text)
        if "HISTORY" in text:
            if self.history:
                raise self.history
            return [{"snapshot_id": str(self.shows), "refreshed_on": NOW}]
        if self.state is None:
            return [{"status": None}]
        said = {"executionState": self.state, "invalidExecutionStateReason": "why", "lastUpdatedTime": "2026"}
        return [{"status": json.dumps({**said, "currentSnapshotId": self.shows})}]


def late(account: Account) -> Freshness:
    found = freshness_of(DEPLOYMENT, lake(1, 2, 3), account.ask)
    return next(one for one in found if one.table == PAYMENTS)


def refreshed(account: Account, pauses: list[float] | None = None) -> Refreshed:
    sleep = ([] if pauses is None else pauses).append
    (done,) = refresh(DEPLOYMENT, lake(1, 2, 3), account.ask, [late(account)], sleep)
    return done


def test_looking_takes_no_warehouse() -> None:
    account = Account(history=NoWarehouse("none runs"))
    assert (late(account).behind, late(account).delays_s) == (1, None)
    assert not any("INFORMATION_SCHEMA" in text for text in account.asked)
    (told,) = (one for one in freshness_of(DEPLOYMENT, lake(3), account.ask, True) if one.table == PAYMENTS)
    assert told.delays_s is None, "what only the history says is left out"
    account.history = None
    (told,) = (one for one in freshness_of(DEPLOYMENT, lake(3), account.ask, True) if one.table == PAYMENTS)
    assert told.delays_s is not None


def test_a_table_without_automated_refresh_stands_where_its_history_says() -> None:
    found = late(Account(shows=3, state=None))
    assert (found.state, found.behind) == (State.OFF, 0)
    unseen = late(Account(shows=3, state=None, history=NoWarehouse("none runs")))
    assert (unseen.state, unseen.behind) == (State.OFF, 3), "where it stands is not known"


def test_a_state_that_is_not_documented_is_told_in_its_own_word() -> None:
    found = late(Account(state="PAUSED_FOR_NOW"))
    assert (found.state, found.reason, found.needs_refresh) == (State.UNKNOWN, "why", True)


@pytest.mark.parametrize("error", [Denied("may not", "GRANT it"), Missing("no such object", "GRANT it")])
def test_a_table_that_is_denied_or_missing_blinds_nobody_to_the_others(error: SnowflakeError) -> None:
    account, refused = Account(state="STOPPED"), identifier(*NAME)

    def ask(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        if refused in text:
            raise error
        return account.ask(text)

    found = {one.table: one for one in freshness_of(DEPLOYMENT, lake(1, 2, 3), ask)}
    assert set(found) == set(EXPOSED)
    denied = found.pop(PAYMENTS)
    assert (denied.state, denied.behind, denied.needs_refresh) == (State.UNKNOWN, 3, True)
    assert denied.reason == f"{error}; GRANT it"
    assert {one.state for one in found.values()} == {State.STOPPED}
    done = refresh(DEPLOYMENT, lake(1, 2, 3), ask, [denied, *found.values()], lambda _: None)
    assert [one.error for one in done] == [f"{error}; GRANT it", None, None]

    def gone(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        raise Unreachable("nobody is there")

    with pytest.raises(Unreachable):
        freshness_of(DEPLOYMENT, lake(1, 2, 3), gone)


HOUSE = {"name": "PAYWAVE_READERS", "state": "SUSPENDED", "auto_resume": "true", "resource_monitor": "M"}
MONITOR = {"name": "M", "credit_quota": "100.00", "used_credits": "99.9", "suspend_at": "100%"}


@pytest.mark.parametrize(
    ("house", "monitor", "says"),
    [
        ({}, {}, None),  # it is suspended until somebody asks
        ({}, {"used_credits": "100.00"}, "credits are used up"),
        ({}, {"used_credits": "90.00", "suspend_immediately_at": "90%"}, "credits are used up"),
        ({}, {"used_credits": "900", "suspend_at": None}, None),
        ({}, {"used_credits": "900", "credit_quota": None}, None),
        ({}, {"used_credits": "900", "name": "OTHER"}, None),
        ({"resource_monitor": "null"}, {"used_credits": "900"}, None),
        ({"auto_resume": "false"}, {}, "does not resume"),
        ({"auto_resume": "false", "state": "STARTED"}, {}, None),
        ({"name": "OTHER"}, {}, "is missing"),
    ],
)
def test_a_warehouse_that_runs_nobodys_queries_is_seen_without_one(
    house: dict[str, str], monitor: dict[str, str | None], says: str | None
) -> None:
    monitors = [MONITOR | {"suspend_immediately_at": None} | monitor]
    shown = {"SHOW WAREHOUSES": [HOUSE | house], "SHOW RESOURCE MONITORS": monitors}

    def ask(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        return [dict(row) for row in shown[text]]

    said = readers_stopped(DEPLOYMENT, ask)
    assert said is None if says is None else says in str(said)


@pytest.mark.parametrize(("fails", "attempts", "is_done"), [(0, 1, True), (2, 3, True), (9, 4, False)])
def test_a_refresh_is_tried_again_with_longer_pauses_and_then_told(
    fails: int, attempts: int, is_done: bool
) -> None:
    pauses: list[float] = []
    account = Account(fails=[CatalogUnreachable("it timed out")] * fails)
    done = refreshed(account, pauses)
    assert account.sent == [REFRESH] * attempts
    assert (done.attempts, done.error is None) == (attempts, is_done)
    assert pauses == sorted(pauses)
    assert len(pauses) == attempts - 1


@pytest.mark.parametrize("error", [Denied("may not"), Missing("no such table")])
def test_what_no_pause_mends_is_told_at_once(error: SnowflakeError) -> None:
    pauses: list[float] = []
    done = refreshed(Account(fails=[error]), pauses)
    assert (done.attempts, done.error, pauses) == (1, str(error), [])


@pytest.mark.parametrize("state", ["STOPPED", "ICEBERG_TABLE_NOT_INITIALIZED", None])
def test_what_has_stopped_is_switched_off_and_on_again_once(state: str | None) -> None:
    account = Account(state=state)
    assert refreshed(account).error is None
    assert account.sent == [OFF, REFRESH, ON]
    account = Account(state=state, fails=[None, CatalogUnreachable("gone"), None, CatalogUnreachable("gone")])
    assert refreshed(account).error is None
    assert account.sent == [OFF, REFRESH, ON, REFRESH, REFRESH], "on again though the refresh failed"


def test_a_refresh_that_went_through_and_changed_nothing_is_no_success() -> None:
    done = refreshed(Account(newest=2))
    assert done.error == "it shows snapshot 2, and the lake has 3"
    stalled = refreshed(Account(state="STALLED"))
    assert stalled.error == "it shows the newest snapshot, but its automated refresh is STALLED: why"


def test_where_a_refresh_by_hand_is_refused_while_the_automated_one_is_on_that_is_off_meanwhile() -> None:
    account = Account(says_while_on=SnowflakeError("not while AUTO_REFRESH is on"))
    assert refreshed(account).error is None
    assert account.sent == [REFRESH, OFF, REFRESH, ON]


def test_an_outage_or_a_missing_privilege_switches_nothing_off() -> None:
    for error in (Denied("may not"), Unreachable("gone"), CatalogUnreachable("timed out")):
        account = Account(fails=[error])
        with pytest.raises(type(error)):
            take_newest(account.ask, NAME)
        assert account.sent == [REFRESH]


def test_history_is_kept_from_where_snowflake_stands() -> None:
    stands = standing(DEPLOYMENT, Account(shows=2).ask)
    assert stands == dict.fromkeys(EXPOSED, 2)
    assert held_snapshots(lake(1, 2, 3), stands, timedelta(hours=1)) == {2}
    assert held_snapshots(lake(1, 2, 3), stands, timedelta(seconds=30)) == {2}, "what it lacks is young"
    behind = dict.fromkeys(EXPOSED, 1)
    assert held_snapshots(lake(1, 2, 3), behind, timedelta(seconds=30)) == set()
    assert held_snapshots(lake(1, 2, 3), {}, timedelta(seconds=90)) == {2}, "it may be anywhere in that time"


def change(action: Action, kind: Kind, name: str, differs: str = "") -> Change:
    because = ((differs, "a", "b"),) if differs else ()
    return Change(action, str(Key(kind, (name,))), (Statement(name, name),), because)


def test_tables_are_at_their_newest_before_a_view_is_shaped_after_them(tmp_path: Path) -> None:
    tag, first = change(Action.CREATE, Kind.TAG, "T"), change(Action.ALTER, Kind.VIEW, "V1", "BODY")
    second, gone = change(Action.CREATE, Kind.VIEW, "V2"), change(Action.DROP, Kind.VIEW, "V3")
    sent: list[str] = []

    def ask(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        sent.append(text)
        return []

    apply([tag, first, second, gone], ask, tmp_path / "log", allow_destroy=True, tables=[NAME])
    assert sent == ["T", REFRESH, "V1", "V2", "V3"]
    sent.clear()
    open_view = change(Action.ALTER, Kind.VIEW, "V4", "POLICIES")
    apply([tag, open_view, gone], ask, tmp_path / "log", allow_destroy=True, tables=[NAME])
    assert sent == ["T", "V4", "V3"], "a view is closed without asking the lake's catalog"


def test_a_catalog_that_does_not_answer_keeps_no_view_from_being_shaped(tmp_path: Path) -> None:
    first, gone = change(Action.CREATE, Kind.VIEW, "V1"), change(Action.DROP, Kind.VIEW, "V2")
    sent: list[str] = []
    lacks_column = False

    def ask(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        sent.append(text)
        if text == REFRESH:
            raise CatalogUnreachable("no answer from the catalog", "see that it runs")
        if text == "V1" and lacks_column:
            raise SnowflakeError("invalid identifier NEW")
        return []

    apply([first, gone], ask, tmp_path / "log", allow_destroy=True, tables=[NAME])
    assert sent == [REFRESH, "V1", "V2"]
    lacks_column = True
    with pytest.raises(NotAll, match=r"invalid identifier NEW.*no answer from the catalog") as refused:
        apply([first, gone], ask, tmp_path / "log", allow_destroy=True, tables=[NAME])
    assert refused.value.hint == "see that it runs"


def test_a_change_that_fails_half_way_leaves_a_record_of_what_was_sent_of_it(tmp_path: Path) -> None:
    texts = ("DROP V", "DROP C", "CREATE C", "CREATE V")
    whole = Change(Action.REPLACE, "C", tuple(Statement(text, f"{text} …") for text in texts))

    def ask(text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        if text == "CREATE C":
            raise CatalogUnreachable("no answer from the catalog")
        return []

    first, log = change(Action.CREATE, Kind.TAG, "T"), tmp_path / "log"
    with pytest.raises(NotAll, match=r"2 of its 4 statements went through; 1 of 2 changes stand"):
        apply([first, whole], ask, log, allow_destroy=True)
    done, failed = recorded(log)
    assert (done["what"], "failed" in done) == ("TAG T", False)
    assert (failed["sent"], failed["failed"]) == (["DROP V …", "DROP C …"], "no answer from the catalog")
