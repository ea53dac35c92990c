"""Which objects there are, who was granted what, what is attached to what; kept in one file.

Belongs here: the state and its file. Does not: statements (`statements.py`), the tables' rows (`engine.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

from local.errors import StackError
from local.services.base import write_private
from local.snowflake import answers
from local.snowflake.kinds import SYSTEM_ROLES
from local.snowflake.words import Name

_VERSION = 1


@dataclass
class Entry:
    """One object. `text` is the statement that made it, `state` what it went through since."""

    kind: str
    name: Name
    options: dict[str, Any]
    text: str = ""
    owner: str = "ACCOUNTADMIN"
    created: float = field(default_factory=time.time)
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """All parts of its name, with dots."""
        return ".".join(self.name)

    @property
    def created_on(self) -> datetime:
        """When it was made."""
        return datetime.fromtimestamp(self.created, UTC)


@dataclass(frozen=True)
class Grant:
    """A privilege on an object (of a role: USAGE), and who has it."""

    privilege: str
    on_kind: str
    on: Name
    to_kind: str
    to: Name
    option: bool = False
    by: str = "ACCOUNTADMIN"
    created: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Attached:
    """A policy or tag on an object or a column of it, with the tag's value or the policy's columns."""

    kind: str
    what: Name
    on_kind: str
    on: Name
    column: str = ""
    value: str = ""
    columns: tuple[str, ...] = ()


class Registry:
    """The state. Hold `lock` for what must not be seen half done, and call `save` after every change."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, RLock()
        self.entries: list[Entry] = [Entry("ROLE", (name,), {}) for name in SYSTEM_ROLES]
        self.grants: list[Grant] = []
        self.attached: list[Attached] = []
        if path.exists():
            self._load()

    def find(self, kind: str, name: Name) -> Entry | None:
        """The object of that name, if there is one."""
        return next((entry for entry in self.entries if (entry.kind, entry.name) == (kind, name)), None)

    def need(self, kind: str, name: Name) -> Entry:
        """The object of that name; an error as Snowflake's if there is none."""
        entry = self.find(kind, name)
        if entry is None:
            raise answers.missing(kind, ".".join(name))
        return entry

    def of_kind(self, kind: str, within: Name = ()) -> Iterator[Entry]:
        """The objects of a kind in an account, database or schema, by name."""
        found = (one for one in self.entries if one.kind == kind and one.name[: len(within)] == within)
        return iter(sorted(found, key=lambda one: one.name))

    def add(self, entry: Entry) -> None:
        """Put an object in the place of the one of that name, which loses its grants, or at the end."""
        if len(entry.name) > 1:
            self.need("SCHEMA" if len(entry.name) == 3 else "DATABASE", entry.name[:-1])
        old = self.find(entry.kind, entry.name)
        if old is None:
            self.entries.append(entry)
        else:
            self._forget(old)
            self.entries[self.entries.index(old)] = entry

    def drop(self, entry: Entry) -> list[Entry]:
        """Remove an object, with what is in it if it is a database or schema; returns what went."""
        within = entry.kind in ("DATABASE", "SCHEMA")
        inner = [one for one in self.entries if within and one.name[: len(entry.name)] == entry.name]
        gone = [one for one in inner if len(one.name) > len(entry.name)]
        for one in (*gone, entry):
            self._forget(one)
            self.entries.remove(one)
        return [*gone, entry]

    def _forget(self, entry: Entry) -> None:
        me = (entry.kind, entry.name)
        self.grants = [one for one in self.grants if me not in ((one.on_kind, one.on), (one.to_kind, one.to))]
        self.attached = [
            one for one in self.attached if me not in ((one.kind, one.what), (one.on_kind, one.on))
        ]

    def save(self) -> None:
        """Write the state, whole or not at all."""
        with self.lock:
            kept: dict[str, Any] = {"version": _VERSION}
            for part in ("entries", "grants", "attached"):
                kept[part] = [asdict(one) for one in getattr(self, part)]
            write_private(self.path, json.dumps(kept, indent=1))

    def _load(self) -> None:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            self.entries = [Entry(**_named(one)) for one in kept["entries"]]
            self.grants = [Grant(**_named(one)) for one in kept["grants"]]
            self.attached = [Attached(**_named(one)) for one in kept["attached"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StackError(f"cannot read {self.path}: {error}", hint="put it back, or remove it") from error


def _named(values: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "on", "to", "what", "columns")
    return {key: tuple(value) if key in names else value for key, value in values.items()}
