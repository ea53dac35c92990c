"""Making the changes of a plan, one after the other, and keeping what was done.

Belongs here: that. Does not: deciding (`plan.py`), the connection (`session.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from snowflake_external.errors import Missing, SnowflakeError
from snowflake_external.existing import Account, Ask
from snowflake_external.plan import Action, Change, plan
from snowflake_external.privileges import held
from snowflake_external.resources import Estate, Kind
from snowflake_external.watch import take_newest

OnChange = Callable[[Change, int, int], None]
_MENDS = (Action.CREATE, Action.ALTER)


@dataclass(frozen=True)
class Applied:
    """What was done, and what was left: for want of leave to destroy, or as only a person can do it."""

    done: tuple[Change, ...]
    held: tuple[Change, ...]


class NotAll(SnowflakeError):
    """A change failed; those before it stand, and applying again goes on from there."""


def planned(estate: Estate, ask: Ask) -> tuple[Change, ...]:
    """Compare an estate with what an account has."""
    account = Account(ask)
    keys = [resource.key for resource in estate.resources]
    found = {key: facts for key in keys if (facts := account.facts(key)) is not None}
    told = held(ask, estate.roles, estate.sealed)
    ours = tuple(key for key in account.ours(keys) if estate.owns(key))
    return plan(estate, found, told.grants, ours, told.strange)


def split(changes: Sequence[Change], allow_destroy: bool) -> Applied:
    """Say what applying would do and what it would leave; nothing is done.

    A grant on what is missing, or open, waits with the replacement that would make it. What is made only as a
    replacement may wait is left out where it does not: it may fail for what that would mend.
    """
    waits = [one for one in changes if not one.statements or (one.destroys and not allow_destroy)]
    lacking = {key for one in waits for key in one.lacking}
    grants = [one for one in changes if one.action is Action.GRANT and not lacking.isdisjoint(one.keys)]
    held = [one for one in changes if one in waits or one in grants]
    replaced = {
        key for one in changes if one.action is Action.REPLACE and one not in held for key in one.keys
    }
    left = [one for one in changes if one.action in _MENDS and not replaced.isdisjoint(one.keys)]
    return Applied(tuple(one for one in changes if one not in (*held, *left)), tuple(held))


def apply(
    changes: Sequence[Change],
    ask: Ask,
    log: Path,
    allow_destroy: bool = False,
    on_change: OnChange | None = None,
    pauses: Sequence[float] = (),
    sleep: Callable[[float], None] = time.sleep,
    tables: Sequence[Sequence[str]] = (),
) -> Applied:
    """Make changes in their order; each is written to `log` (JSON lines) when it is done, or has failed.

    Of one that failed `sent` is what went through before: a replacement has dropped something by then.

    A statement that finds something missing is sent again after each of the pauses (seconds): a database that
    follows the catalog is made before it has found the tables.

    Args:
        tables: Iceberg tables that views stand on, refreshed before the first view whose query is new: an
            automated refresh does not take a column that was added if no row was written since. Where that
            fails, the view is tried nevertheless.

    Raises NotAll, which names the change that failed, how far it got, and how many stand.
    """
    asked = split(changes, allow_destroy)
    first_view = next((change for change in asked.done if _is_new_query(change)), None)
    for number, change in enumerate(asked.done):
        if on_change is not None:
            on_change(change, number, len(asked.done))
        sent: list[str] = []
        try:
            _make(change, ask, pauses, sleep, tables if change is first_view else (), sent)
        except SnowflakeError as error:
            _write(log, change, sent=sent, failed=str(error))
            parts = f"{len(sent)} of its {len(change.statements)} statements went through"
            stand = f"{number} of {len(asked.done)} changes stand"
            message = f"{change.action} {change.what} failed: {error} ({parts}; {stand})"
            raise NotAll(message, error.hint) from error
        _write(log, change)
    return asked


def _make(
    change: Change,
    ask: Ask,
    pauses: Sequence[float],
    sleep: Callable[[float], None],
    tables: Sequence[Sequence[str]],
    sent: list[str],
) -> None:
    """Send a change's statements; `sent` takes those that went through, as they may be kept."""
    stale = [error for table in tables if (error := _not_refreshed(table, ask, pauses, sleep)) is not None]
    try:
        for statement in change.statements:
            _patiently(partial(ask, statement.text), pauses, sleep)
            sent.append(statement.shown)
    except SnowflakeError as error:
        if not stale:
            raise
        told = f"{error}; nor were all tables refreshed before, which it may need: {stale[0]}"
        raise SnowflakeError(told, stale[0].hint) from error


def _not_refreshed(
    table: Sequence[str], ask: Ask, pauses: Sequence[float], sleep: Callable[[float], None]
) -> SnowflakeError | None:
    """Refresh a table; say why it was not."""
    try:
        _patiently(partial(take_newest, ask, table), pauses, sleep)
    except Missing:
        raise
    except SnowflakeError as error:
        return error
    return None


def _patiently(send: Callable[[], object], pauses: Sequence[float], sleep: Callable[[float], None]) -> None:
    for pause in (*pauses, None):
        try:
            send()
            return
        except Missing:
            if pause is None:
                raise
            sleep(pause)


def _is_new_query(change: Change) -> bool:
    is_new = change.action is Action.CREATE or "BODY" in (name for name, _, _ in change.because)
    return is_new and change.what.startswith(f"{Kind.VIEW} ")


def recorded(log: Path) -> Iterator[dict[str, Any]]:
    """What was ever applied from here, oldest first; what has `failed` was not, or only what it `sent`."""
    if log.exists():
        for line in log.read_text().splitlines():
            yield json.loads(line)


def _write(log: Path, change: Change, **failure: object) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    told = {"at": datetime.now(UTC).isoformat(), **change.to_json(), **failure}
    with log.open("a") as file:
        file.write(json.dumps(told) + "\n")
