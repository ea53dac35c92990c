"""The account: registry, engine and refresher together, and what is shared by statements and functions.

Belongs here: names as a session means them, what is allowed, making all anew after a restart.
Does not: any statement (`statements.py`, `attaching.py`), any function (`functions.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from local.snowflake import answers
from local.snowflake.catalogs import Catalogs
from local.snowflake.engine import Engine
from local.snowflake.kinds import KINDS
from local.snowflake.refresh import Refresher
from local.snowflake.registry import Entry, Registry
from local.snowflake.trouble import Trouble, read_trouble
from local.snowflake.words import Name, Words

_RELATIONS = ("ICEBERG TABLE", "VIEW")
_ADMINISTRATOR = "ACCOUNTADMIN"
_log = logging.getLogger("local.snowflake")


@dataclass
class Session:
    """What a connection has chosen."""

    user: str
    role: str = _ADMINISTRATOR
    warehouse: str | None = None
    database: str | None = None
    schema: str | None = None
    tag: str = ""


class Account:
    """The whole stand-in but its HTTP."""

    def __init__(self, home: Path, properties: Callable[[], Mapping[str, str]]) -> None:
        self.home = home
        self.registry = Registry(home / "snowflake" / "state.json")
        self.engine = Engine(properties())
        self.catalogs = Catalogs(self.engine, properties)
        self.refresher = Refresher(home, self.registry, self.engine, self.catalogs)
        self._unmade: list[Entry] = []
        for entry in self.registry.entries:
            if entry.kind in ("DATABASE", "SCHEMA"):
                self._make(entry)
            elif entry.kind in _RELATIONS:
                self._unmade.append(entry)
        self.make_relations()

    def _make(self, entry: Entry) -> None:
        if entry.kind == "DATABASE":
            self.engine.create_database(entry.name[0])
        elif entry.kind == "SCHEMA":
            self.engine.create_schema(entry.name)
        elif entry.kind == "ICEBERG TABLE":
            self.refresher.show(entry)
        else:
            self.engine.create_view(entry.name, entry.state["columns"], entry.state["body"])

    def make_relations(self) -> None:
        """Make tables and views that could not be made yet: no object store, or a view's table was gone."""
        waiting, self._unmade = self._unmade, []
        for entry in waiting:
            try:
                self._make(entry)
            except Exception as error:
                _log.warning("%s cannot be made now: %s", entry.full_name, error)
                self._unmade.append(entry)

    def forget(self, entry: Entry) -> None:
        """An object is gone: nothing of it is to be made any more."""
        self._unmade = [one for one in self._unmade if one is not entry]
        self.engine.drop(entry.kind, entry.name)
        if entry.kind == "ICEBERG TABLE":
            self.refresher.forget(entry)

    @property
    def trouble(self) -> Trouble:
        """What is acted out now."""
        return read_trouble(self.home)

    def full(self, kind: str, name: Name, session: Session) -> Name:
        """A name with the database and schema that the session means."""
        missing = KINDS[kind].parts - len(name)
        if missing < 0:
            raise answers.invalid(f"Invalid identifier {'.'.join(name)}.")
        here = (session.database, session.schema)[: KINDS[kind].parts - 1]
        before = here[:missing]
        if None in before or len(before) < missing:
            lacking = "database" if session.database is None else "schema"
            raise answers.invalid(f"This session does not have a current {lacking}. Use a qualified name.")
        return (*(part for part in before if part), *name)

    def named(self, kind: str, text: str, session: Session) -> Entry:
        """The object that a function's argument names; it may not be denied."""
        return self.need(kind, Words(text).name(), session)

    def need(self, kind: str, name: Name, session: Session) -> Entry:
        """The object of that name, as the session means it; an error if there is none, or it is denied."""
        entry = self.registry.need(kind, self.full(kind, name, session))
        if self.trouble.meets("denied", entry.full_name):
            raise answers.denied(kind, entry.full_name)
        return entry

    def need_relation(self, name: Name, session: Session) -> Entry:
        """The Iceberg table or view of that name; an error if there is none, or it is denied."""
        full = self.full("VIEW", name, session)
        entry = next((one for kind in _RELATIONS if (one := self.registry.find(kind, full))), None)
        if entry is None:
            raise answers.missing("Object", ".".join(full), "42S02")
        if self.trouble.meets("denied", entry.full_name) or not self._may_read(entry, session):
            raise answers.denied("TABLE" if entry.kind == "ICEBERG TABLE" else "VIEW", entry.full_name)
        if entry in self._unmade:
            self.make_relations()
        if entry in self._unmade:
            self._make(entry)  # says why it cannot be
        return entry

    def _may_read(self, entry: Entry, session: Session) -> bool:
        """Whether the session's role may read a table or view, and use what it is in."""
        roles = self.roles(session)
        places = (("DATABASE", entry.name[:1]), ("SCHEMA", entry.name[:2]))
        used = all(self._may("USAGE", self.registry.need(*place), roles) for place in places)
        return used and self._may("SELECT", entry, roles)

    def _may(self, privilege: str, entry: Entry, roles: set[Name]) -> bool:
        if (entry.owner,) in roles or (_ADMINISTRATOR,) in roles:
            return True
        wanted = (privilege, entry.kind, entry.name, "ROLE")
        given = (one for one in self.registry.grants if one.to in roles)
        return any((one.privilege, one.on_kind, one.on, one.to_kind) == wanted for one in given)

    def roles(self, session: Session) -> set[Name]:
        """The session's role with all that was granted to it, directly or not."""
        found: set[Name] = set()
        waiting: set[Name] = {(session.role,), ("PUBLIC",)}
        while waiting:
            found |= waiting
            kinds = ("ROLE", "ROLE")
            held = (one for one in self.registry.grants if (one.on_kind, one.to_kind) == kinds)
            waiting = {one.on for one in held if one.to in waiting} - found
        return found

    def need_warehouse(self, session: Session) -> None:
        """Reading tables takes a warehouse that runs or resumes."""
        entry = session.warehouse and self.registry.find("WAREHOUSE", (session.warehouse,))
        if not entry or not self._may("USAGE", entry, self.roles(session)):
            raise answers.no_warehouse()
        monitor, struck = (
            entry.options.get("RESOURCE_MONITOR"),
            self.trouble.meets("suspended", entry.full_name),
        )
        if struck and monitor:
            raise answers.exhausted(entry.full_name, monitor)
        if struck or (entry.options["STATE_"] == "SUSPENDED" and not entry.options["AUTO_RESUME"]):
            raise answers.suspended(entry.full_name)
        if entry.options["STATE_"] == "SUSPENDED":
            entry.options["STATE_"] = "STARTED"
            self.registry.save()
