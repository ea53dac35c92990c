"""What Snowflake has of the lake, as data: each object with its properties, and who may do what with it.

Belongs here: the types. Does not: which objects there are (`estate.py`), their statements (`ddl.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from snowflake_external.sql import Group, Secret, Value, Word

# Ends the comment of every object that is ours: what carries it and is wanted no longer may be dropped.
MARK = "[paywave]"


class Kind(StrEnum):
    """Kinds of objects, in the order in which they are made: each stands on those before it."""

    MONITOR = "RESOURCE MONITOR"
    WAREHOUSE = "WAREHOUSE"
    ROLE = "ROLE"
    VOLUME = "EXTERNAL VOLUME"
    CATALOG = "CATALOG INTEGRATION"
    DATABASE = "DATABASE"
    SCHEMA = "SCHEMA"
    TAG = "TAG"
    ICEBERG_TABLE = "ICEBERG TABLE"
    MASKING_POLICY = "MASKING POLICY"
    ROW_POLICY = "ROW ACCESS POLICY"
    VIEW = "VIEW"


ORDER = {kind: place for place, kind in enumerate(Kind)}
UNCOMMENTED = frozenset({Kind.MONITOR})


@dataclass(frozen=True)
class Key:
    """Names one object: its kind and its name, of one to three parts."""

    kind: Kind
    name: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {'.'.join(self.name)}"


@dataclass(frozen=True)
class Resource:
    """One object as it should be.

    Args:
        body: the text after the name, of kinds that have one.
        shown: facts that Snowflake tells of it, and that no property states.
        on: what it stands on, besides what it is in.
    """

    key: Key
    meaning: str
    properties: tuple[tuple[str, Value], ...] = ()
    body: str = ""
    shown: tuple[tuple[str, Value], ...] = ()
    on: tuple[Key, ...] = ()

    @property
    def comment(self) -> str:
        return f"{self.meaning} {MARK}"

    @property
    def stands_on(self) -> tuple[Key, ...]:
        """All that must be there first: what it is in too."""
        containers = (Kind.DATABASE, Kind.SCHEMA)[: len(self.key.name) - 1]
        within = (Key(kind, self.key.name[:size]) for size, kind in enumerate(containers, start=1))
        return (*within, *self.on)

    def facts(self) -> dict[str, str]:
        """What can be compared with what there is: each property as text; no secrets."""
        facts = dict(_flat((*self.properties, *self.shown)))
        if self.body:
            facts["BODY"] = normal(self.body.split("->", 1)[-1])  # of a policy, its expression
        return facts if self.key.kind in UNCOMMENTED else facts | {"COMMENT": self.comment}


@dataclass(frozen=True)
class Grant:
    """A privilege on an object, or a role, that a role has."""

    privilege: str
    on: Key
    role: str

    def __str__(self) -> str:
        what = f"ROLE {self.on.name[0]}" if self.on.kind is Kind.ROLE else f"{self.privilege} ON {self.on}"
        return f"{what} TO ROLE {self.role}"


@dataclass(frozen=True)
class Estate:
    """All that Snowflake should have of the lake; `prefix` begins every name.

    `sealed` are objects that nobody may have a privilege on but who owns them.
    """

    resources: tuple[Resource, ...]
    grants: tuple[Grant, ...]
    prefix: str
    sealed: tuple[Key, ...] = ()

    def owns(self, key: Key) -> bool:
        """Whether an object is in this estate's names: an account may have another's, with the same mark."""
        return key.name[0] == self.prefix or key.name[0].startswith(f"{self.prefix}_")

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(r.key.name[0] for r in self.resources if r.key.kind is Kind.ROLE)


def listed(texts: Iterable[str]) -> str:
    """Several values as one fact, in whichever order they come: so one too many differs too."""
    return ", ".join(sorted(texts))


def unlisted(text: str) -> list[str]:
    """The values of such a fact."""
    return text.split(", ") if text else []


def hung(policy: tuple[str, ...], column: str) -> str:
    """Say that a policy is on a view, by a column of it; Snowflake has unquoted columns in capitals."""
    return f"{'.'.join(policy)} ON {column.upper()}"


def tagged(tag: tuple[str, ...], value: str) -> str:
    """Say that a tag is on a view."""
    return f"{'.'.join(tag)} = {value}"


def normal(text: str) -> str:
    """A statement's text without the freedom of spaces and of a last semicolon."""
    return " ".join(text.split()).rstrip("; ")


def _flat(properties: tuple[tuple[str, Value], ...], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in properties:
        yield from _facts_of(f"{prefix}{name}", value)


def _facts_of(name: str, value: Value) -> Iterator[tuple[str, str]]:
    if isinstance(value, Secret):
        return
    if isinstance(value, Group):
        yield from _flat(value.items, f"{name}.")
    elif isinstance(value, tuple) and all(type(one) is str for one in value):
        yield name, listed(str(one) for one in value)
    elif isinstance(value, tuple):
        for number, one in enumerate(value, start=1):
            yield from _facts_of(f"{name}.{number}", one)
    elif isinstance(value, bool | Word):
        yield name, str(value).upper()
    else:
        yield name, str(value)


def differing(wanted: Mapping[str, str], found: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Compare facts; by name what was found and what is wanted. What was not told is not compared."""
    return {name: (found[name], value) for name, value in wanted.items() if found.get(name, value) != value}
