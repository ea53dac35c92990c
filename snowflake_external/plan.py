"""What has to be done so that Snowflake has what it should.

Belongs here: comparing and ordering. Does not: reading (`existing.py`), statements (`ddl.py`), sending
(`apply.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from snowflake_external import ddl
from snowflake_external.ddl import Statement
from snowflake_external.resources import ORDER, Estate, Grant, Key, Kind, Resource, differing

Facts = Mapping[str, str]
Found = Mapping[Key, Facts]
# By object and property, what was found and what is wanted.
Differing = Mapping[Key, Mapping[str, tuple[str, str]]]


class Action(StrEnum):
    """What is done to an object or a grant; BY_HAND is what a person has to do."""

    CREATE = "create"
    ALTER = "alter"
    REPLACE = "replace"
    RENEW = "renew"
    GRANT = "grant"
    REVOKE = "revoke"
    DROP = "drop"
    BY_HAND = "by hand"


_DESTROYS = frozenset({Action.REPLACE, Action.REVOKE, Action.DROP})


@dataclass(frozen=True)
class Change:
    """One step.

    Args:
        because: by property what was found and what is wanted.
        keys: objects that it makes or changes; of a grant, what it is on.
        lacking: of a replacement, those of them that are missing, or open, until it is made.
    """

    action: Action
    what: str
    statements: tuple[Statement, ...]
    because: tuple[tuple[str, str, str], ...] = ()
    keys: tuple[Key, ...] = ()
    lacking: tuple[Key, ...] = ()

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


# What keeps rows and columns of a view from who may not see them.
_PROTECTION = {"POLICIES", "SECURE", "TAGS"}
_TYPE = "REST_AUTHENTICATION.TYPE"


def plan(
    estate: Estate,
    found: Found,
    has: Collection[Grant],
    ours: Collection[Key],
    strange: Collection[str] = (),
) -> tuple[Change, ...]:
    """Compare what should be with what is.

    Args:
        found: facts of the estate's objects that are there.
        has: grants that the estate's roles have, and that anybody has on what is sealed.
        ours: objects that carry our mark, wanted or not.
        strange: privileges that should not be either, on or of what we cannot name in a REVOKE.

    Returns the changes in the order in which they can be made: what is revoked, which waits for nothing;
    objects after what they stand on, grants, then what goes, and what a person has to do.
    """
    wanted = sorted(estate.resources, key=lambda resource: ORDER[resource.key.kind])
    revoked = (Change(Action.REVOKE, str(one), (ddl.revoke(one),)) for one in set(has) - set(estate.grants))
    changes = [*sorted(revoked, key=lambda one: one.what), *_objects(wanted, found)]
    changes += [
        Change(Action.GRANT, str(one), (ddl.grant(one),), keys=(one.on,))
        for one in sorted(set(estate.grants) - set(has), key=str)
    ]
    by_hand = [_by_hand(one) for one in sorted(strange)]
    return (*changes, *_goes(estate, ours), *by_hand)


def renewals(estate: Estate, changes: Sequence[Change], held: Sequence[Change] = ()) -> tuple[Change, ...]:
    """What tells Snowflake a secret again, to go before those changes, unless one of them tells it anyway.

    While what is `held` would authenticate in another way, the secret is none that the integration has.
    """
    sent = {statement for change in changes for statement in change.statements}
    waits = {key for one in held if any(name == _TYPE for name, *_ in one.because) for key in one.keys}
    kept = [one for one in estate.resources if sent.isdisjoint(ddl.create(one)) and one.key not in waits]
    told = ((resource.key, ddl.renew(resource)) for resource in kept)
    return tuple(Change(Action.RENEW, str(key), (one,)) for key, one in told if one is not None)


def _objects(wanted: Sequence[Resource], found: Found) -> Iterator[Change]:
    changed = {r.key: differing(r.facts(), found[r.key]) for r in wanted if r.key in found}
    groups = _groups(wanted, changed)
    for at, resource in enumerate(wanted):
        group = next((group for group in groups if resource.key in group), None)
        if group is None:
            yield from _change(resource, changed.get(resource.key))
        elif not any(later.key in group for later in wanted[at + 1 :]):
            members = [one for one in wanted if one.key in group]
            # To replace may wait for leave: a view that is open or missing is not to wait with it.
            mended = [one for one in members if _is_lacking(one, changed) and _can_be(one, group, changed)]
            for one in mended:
                yield from _change(one, changed.get(one.key))
            # All that any of them stands on is there by now, and nothing before stands on one of them.
            yield _replace(members, found, changed, [one.key for one in mended])


def _is_lacking(one: Resource, changed: Differing) -> bool:
    """Whether something is missing, or a view shows what it should not."""
    return one.key not in changed or bool(changed[one.key].keys() & _PROTECTION)


def _can_be(one: Resource, group: Collection[Key], there: Differing) -> bool:
    """Whether a view can be made as it should be before what it stands on is replaced.

    A database that is to follow the catalog, or no longer, has its tables under other names. Of one that
    follows it nobody says which tables it has: a view that is missing there is left to the replacement.
    """
    needed = [key for key in one.stands_on if key in group or one.key not in there]
    is_renamed = any("LINKED" in there.get(key, ()) for key in one.stands_on)
    return one.key.kind is Kind.VIEW and not is_renamed and all(key in there for key in needed)


def _change(resource: Resource, changed: Mapping[str, tuple[str, str]] | None) -> Iterator[Change]:
    what = str(resource.key)
    if changed is None:
        yield Change(Action.CREATE, what, tuple(ddl.create(resource)), keys=(resource.key,))
    elif changed:
        statements = tuple(ddl.alter(resource, changed) or ())
        yield Change(Action.ALTER, what, statements, _because(changed), (resource.key,))


def _groups(wanted: Sequence[Resource], changed: Differing) -> list[set[Key]]:
    """What has to be made anew, with all that stands on it: Snowflake drops nothing that is stood on."""
    groups: list[set[Key]] = []
    for resource in wanted:
        if _is_fixed(resource, changed):
            group = {resource.key}
            for one in wanted:  # each after what it stands on
                if group.intersection(one.stands_on):
                    group.add(one.key)
            shared = [other for other in groups if other & group]
            groups = [*(other for other in groups if other not in shared), group.union(*shared)]
    return groups


def _is_fixed(resource: Resource, changed: Differing) -> bool:
    """Whether something differs that no ALTER changes."""
    differs = changed.get(resource.key)
    return bool(differs) and ddl.alter(resource, differs or {}) is None


def _replace(group: Sequence[Resource], found: Found, changed: Differing, mended: Collection[Key]) -> Change:
    """Drop what is there of a group, the last made first, and make all of it."""
    keys = {one.key for one in group}
    statements: list[Statement] = []
    for one in reversed(group):
        facts, inside = found.get(one.key), keys.intersection(one.stands_on[: len(one.key.name) - 1])
        if facts is None or inside or one.key.kind is Kind.VIEW:  # goes with what it is in; is made over
            continue
        statements += [ddl.close(one.key)] if facts.get("LINKED") == "TRUE" else []
        statements.append(ddl.drop(one.key))
    for one in group:
        statements += ddl.create(one)
    fixed = [one for one in group if _is_fixed(one, changed)]
    because = [reason for one in fixed for reason in _because(changed[one.key])]
    # What else is wrong with what stands on these, or is missing there, is mended with them only.
    for one in (one for one in group if one.key not in mended):
        if one.key not in found:
            because.append((str(one.key), "missing", "there"))
        elif one not in fixed:
            because += [(f"{name} of {one.key}", *pair) for name, pair in changed[one.key].items()]
    what = ", ".join(str(one.key) for one in fixed)
    lacking = [one.key for one in group if _is_lacking(one, changed) and one.key not in mended]
    made = tuple(one.key for one in group)
    return Change(Action.REPLACE, what, tuple(statements), tuple(because), made, tuple(lacking))


def _because(changed: Mapping[str, tuple[str, str]]) -> tuple[tuple[str, str, str], ...]:
    return tuple((name, *pair) for name, pair in changed.items())


def _goes(estate: Estate, ours: Collection[Key]) -> Iterator[Change]:
    kept = {resource.key for resource in estate.resources}
    for key in sorted(set(ours) - kept, key=lambda key: (-ORDER[key.kind], key.name)):
        yield Change(Action.DROP, str(key), (ddl.drop(key),))


def _by_hand(privilege: str) -> Change:
    return Change(Action.BY_HAND, f"revoke {privilege}", ())
