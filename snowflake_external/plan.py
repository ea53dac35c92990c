"""What has to be done so that Snowflake has what it should.

Belongs here: comparing and ordering. Does not: reading (`existing.py`), statements (`ddl.py`), sending
(`apply.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from snowflake_external import ddl
from snowflake_external.ddl import Statement
from snowflake_external.resources import ORDER, Estate, Grant, Key, Resource, differing

Found = Mapping[Key, Mapping[str, str]]


class Action(StrEnum):
    """What is done to an object or a grant."""

    CREATE = "create"
    ALTER = "alter"
    REPLACE = "replace"
    GRANT = "grant"
    REVOKE = "revoke"
    DROP = "drop"


_DESTROYS = frozenset({Action.REPLACE, Action.REVOKE, Action.DROP})


@dataclass(frozen=True)
class Change:
    """One step. `because` says by property what was found and what is wanted."""

    action: Action
    what: str
    statements: tuple[Statement, ...]
    because: tuple[tuple[str, str, str], ...] = ()

    @property
    def destroys(self) -> bool:
        return self.action in _DESTROYS

    def to_json(self) -> dict[str, object]:
        return {
            "action": self.action.value,
            "what": self.what,
            "destroys": self.destroys,
            "because": [dict(zip(("property", "found", "wanted"), one, strict=True)) for one in self.because],
            "statements": [statement.shown for statement in self.statements],
        }


def plan(estate: Estate, found: Found, has: Collection[Grant], ours: Collection[Key]) -> tuple[Change, ...]:
    """Compare what should be with what is.

    Args:
        found: facts of the estate's objects that are there.
        has: grants that the estate's roles have.
        ours: objects that carry our mark, wanted or not.

    Returns the changes in the order in which they can be made: objects after what they stand on, grants, then
    what goes.
    """
    wanted = sorted(estate.resources, key=lambda resource: ORDER[resource.key.kind])
    changes = [change for resource in wanted if (change := _change(resource, found.get(resource.key)))]
    changes += [
        Change(Action.GRANT, str(one), (ddl.grant(one),))
        for one in sorted(set(estate.grants) - set(has), key=str)
    ]
    return (*changes, *_goes(estate, has, ours))


def _change(resource: Resource, found: Mapping[str, str] | None) -> Change | None:
    what = str(resource.key)
    if found is None:
        return Change(Action.CREATE, what, tuple(ddl.create(resource)))
    changed = differing(resource.facts(), found)
    if not changed:
        return None
    because = tuple((name, *pair) for name, pair in changed.items())
    altered = ddl.alter(resource, changed)
    if altered is not None:
        return Change(Action.ALTER, what, tuple(altered), because)
    anew = (ddl.drop(resource.key), *ddl.create(resource))
    return Change(Action.REPLACE, what, anew, because)


def _goes(estate: Estate, has: Collection[Grant], ours: Collection[Key]) -> Iterator[Change]:
    for one in sorted(set(has) - set(estate.grants), key=str):
        yield Change(Action.REVOKE, str(one), (ddl.revoke(one),))
    kept = {resource.key for resource in estate.resources}
    for key in sorted(set(ours) - kept, key=lambda key: (-ORDER[key.kind], key.name)):
        yield Change(Action.DROP, str(key), (ddl.drop(key),))
