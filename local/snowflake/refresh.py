"""Iceberg tables follow the real REST catalog: by REFRESH, and by themselves every few seconds.

Belongs here: asking the catalog, keeping the metadata of what was refreshed, the status and the history.
Does not: how rows are read (`engine.py`).
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyiceberg.table import Table
from snowflake.connector.errors import ProgrammingError

from local.snowflake import answers
from local.snowflake.catalogs import Catalogs, said_as_snowflake, short
from local.snowflake.engine import Engine
from local.snowflake.registry import Entry, Registry
from local.snowflake.trouble import read_trouble

AUTOMATED = "AUTO_REFRESH"
_TICK_S = 0.1
_HISTORY = 500
_log = logging.getLogger("local.snowflake")


class Refresher:
    """Brings tables to their catalog's newest snapshot, and keeps what it took at every step."""

    def __init__(self, home: Path, registry: Registry, engine: Engine, catalogs: Catalogs) -> None:
        self._home, self._registry, self._engine, self._catalogs = home, registry, engine, catalogs
        self._looked: dict[str, float] = {}

    def start(self) -> None:
        """Follow the catalog from now on, in a thread."""
        threading.Thread(target=self._follow, name="auto-refresh", daemon=True).start()

    def refresh(self, entry: Entry, by: str) -> bool:
        """Let a table be its catalog's newest snapshot; returns whether there was anything new.

        By hand also what is no snapshot is taken, such as a new column; by itself it comes with the next one.

        Raises what Snowflake would say: no privilege, no catalog, or a refresh that was told to fail.
        """
        table = self._look(entry)
        self._act_out(entry, by)
        if entry.state.get("metadata") == table.metadata_location:
            return False
        snapshot = table.current_snapshot()
        if by == AUTOMATED and snapshot and entry.state.get("snapshot") == snapshot.snapshot_id:
            return False
        _check_same(entry, table)
        began = time.monotonic()
        while time.monotonic() - began < read_trouble(self._home).slow:
            time.sleep(_TICK_S)
        return self._take(entry, table, by)

    def _act_out(self, entry: Entry, by: str) -> None:
        """Fail as was told."""
        trouble, automated = read_trouble(self._home), bool(entry.options["AUTO_REFRESH"])
        if trouble.meets("stalled", entry.full_name):
            raise answers.unreachable(entry.options["CATALOG"], "the request timed out")
        if by == AUTOMATED and trouble.meets("stopped", entry.full_name):
            raise answers.invalid("There is no lineage between the target snapshot and the current one.")
        registered = self._registry.find(entry.kind, entry.name) is entry
        if by != AUTOMATED and automated and registered and trouble.meets("lacks", "REFRESH"):
            raise answers.unsupported("REFRESH while AUTO_REFRESH is on")

    def _look(self, entry: Entry) -> Table:
        """Ask the catalog for the table, and note how far behind we are."""
        integration = self._registry.need("CATALOG INTEGRATION", (entry.options["CATALOG"],))
        trouble = read_trouble(self._home)
        for one in (entry, integration):
            if trouble.meets("denied", one.full_name):
                raise answers.denied(one.kind, one.full_name)
        space = entry.options.get("CATALOG_NAMESPACE") or integration.options.get("CATALOG_NAMESPACE") or ""
        with said_as_snowflake(integration.full_name):
            name = (*space.split("."), entry.options["CATALOG_TABLE_NAME"])
            table: Table = self._catalogs.connect(integration).load_table(name)
        with self._registry.lock:
            entry.state["pending"] = [one.timestamp_ms for one in _newer(table, entry.state.get("snapshot"))]
        return table

    def _take(self, entry: Entry, table: Table, by: str) -> bool:
        """Keep the metadata, and let the table be that; false if another refresh was further already."""
        copy, facts = self._copied(entry, table), _facts(table)
        with self._registry.lock:
            if facts["order"] < entry.state.get("order", 0):
                (self._folder / copy).unlink()
                return False
            registered = self._registry.find(entry.kind, entry.name) is entry
            if registered:  # first of all: if it cannot be read, nothing has changed
                self._engine.show_table(entry.name, self._folder / copy)
            history = [*entry.state.get("history", []), _line(table, by)]
            copies = [*entry.state.get("copies", []), copy]
            entry.state |= {**facts, "copies": copies[-2:], "history": history[-_HISTORY:], "pending": []}
            if registered:
                self._registry.save()
        for old in copies[:-2]:  # the last one may be about to be opened by a query
            (self._folder / old).unlink(missing_ok=True)
        return True

    def _copied(self, entry: Entry, table: Table) -> str:
        """Copy the metadata file, for the catalog deletes old ones. Returns the copy's name."""
        content = table.io.new_input(table.metadata_location).open().read()
        if table.metadata_location.endswith(".gz.metadata.json"):
            content = gzip.decompress(content)
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{re.sub(r'[^A-Z0-9_.]', '_', entry.full_name)}-{time.time_ns()}.metadata.json"
        (self._folder / name).write_bytes(content)
        return name

    @property
    def _folder(self) -> Path:
        return self._home / "snowflake" / "metadata"

    def show(self, entry: Entry) -> None:
        """Let the table be read as it was refreshed last."""
        self._engine.show_table(entry.name, self._current(entry))

    def version(self, entry: Entry, snapshot: int) -> tuple[str, ...]:
        """The name under which an older snapshot is read; never one that was not refreshed yet."""
        return self._engine.show_version(entry.name, self._current(entry), snapshot)

    def metadata(self, entry: Entry) -> dict[str, Any]:
        """A table's metadata, as Iceberg writes it, at the last refresh."""
        found: dict[str, Any] = json.loads(self._current(entry).read_text(encoding="utf-8"))
        return found

    def forget(self, entry: Entry) -> None:
        """Remove what was kept of a table that was dropped."""
        for copy in entry.state.get("copies", []):
            (self._folder / copy).unlink(missing_ok=True)

    def _current(self, entry: Entry) -> Path:
        return self._folder / str(entry.state["copies"][-1])

    def _follow(self) -> None:
        while True:
            time.sleep(_TICK_S)
            for entry in list(self._registry.of_kind("ICEBERG TABLE")):
                integration = self._registry.find("CATALOG INTEGRATION", (entry.options["CATALOG"],))
                if _goes_on(entry) and integration and self._is_due(entry, integration):
                    self._looked[entry.full_name] = time.monotonic()
                    self._try(entry)

    def _is_due(self, entry: Entry, integration: Entry) -> bool:
        last = self._looked.get(entry.full_name, 0.0)
        return bool(time.monotonic() - last >= integration.options["REFRESH_INTERVAL_SECONDS"])

    def _try(self, entry: Entry) -> None:
        """Refresh one table; what goes wrong becomes its status. Unless that is STOPPED it is tried again."""
        before = (entry.state.get("auto"), entry.state.get("reason"))
        try:
            self.refresh(entry, AUTOMATED)
            now: tuple[str, str | None] = ("RUNNING", None)
        except ProgrammingError as error:
            # Only what no later attempt can mend stops it: the format version that another engine changed.
            now = ("STOPPED" if error.errno == 2043 else "STALLED", error.raw_msg)
        except Exception as error:
            _log.exception("the refresh of %s failed", entry.full_name)
            now = ("STALLED", short(error))
        if now != before:
            _log.info("%s is %s: %s", entry.full_name, *now)
            with self._registry.lock:
                entry.state |= {"auto": now[0], "reason": now[1]}
                self._registry.save()


def _goes_on(entry: Entry) -> bool:
    """Whether a table refreshes itself: one that has stopped does not until that is switched off and on."""
    return bool(entry.options["AUTO_REFRESH"]) and entry.state.get("auto") != "STOPPED"


def _check_same(entry: Entry, table: Table) -> None:
    """Refuse what no later refresh can mend: another format version, or another table of that name."""
    if entry.state.get("format", table.format_version) != table.format_version:
        what = "another engine changed its format version"
    elif entry.state.get("uuid", str(table.metadata.table_uuid)) != str(table.metadata.table_uuid):
        what = "in the catalog it was dropped and created again"
    else:
        return
    raise answers.invalid(f"Iceberg table {entry.full_name} cannot be refreshed: {what}.")


def _facts(table: Table) -> dict[str, Any]:
    """What is kept of a table as the catalog has it now."""
    snapshot = table.current_snapshot()
    return {
        "order": int(getattr(table.metadata, "last_sequence_number", 0)),
        "metadata": table.metadata_location,
        "uuid": str(table.metadata.table_uuid),
        "format": table.format_version,
        "snapshot": snapshot.snapshot_id if snapshot else None,
    }


def _line(table: Table, by: str) -> dict[str, Any]:
    """A line of the history."""
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot else None
    return {
        "refreshed_on": datetime.now(UTC).isoformat(),
        "metadata": table.metadata_location,
        "snapshot": str(snapshot.snapshot_id) if snapshot else None,
        "sequence": str(snapshot.sequence_number) if snapshot else None,
        "schema": str(table.metadata.current_schema_id),
        "by": by,
        "summary": json.dumps(summary.model_dump()) if summary else None,
        "made_ms": snapshot.timestamp_ms if snapshot else None,
    }


def status_of(entry: Entry) -> str | None:
    """What SYSTEM$AUTO_REFRESH_STATUS says of a table; nothing where it does not refresh by itself."""
    if not entry.options["AUTO_REFRESH"]:
        return None
    state, last = entry.state, (entry.state.get("history") or [{}])[-1]
    pending = state.get("pending", [])
    said = {
        "executionState": state.get("auto", "RUNNING"),
        "invalidExecutionStateReason": state.get("reason"),
        "pendingSnapshotCount": len(pending),
        "oldestSnapshotTime": _moment(min(pending)) if pending else None,
        "currentSnapshotId": last.get("snapshot"),
        "currentSnapshotSummary": last.get("summary"),
        "lastSnapshotTime": _moment(last.get("made_ms")),
        "lastUpdatedTime": last.get("refreshed_on"),
        "currentMetadataFile": last.get("metadata"),
        "currentSchemaId": last.get("schema"),
    }
    return json.dumps({key: value for key, value in said.items() if value is not None})


def _newer(table: Table, known: int | None) -> list[Any]:
    """The snapshots of main after the one that is known, the newest first."""
    by_id = {one.snapshot_id: one for one in table.metadata.snapshots}
    found, at = [], table.current_snapshot()
    while at is not None and at.snapshot_id != known:
        found.append(at)
        at = by_id.get(at.parent_snapshot_id or -1)
    return found


def _moment(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
