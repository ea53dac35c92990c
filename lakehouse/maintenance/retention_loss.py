"""What is lost with old days of raw, and to whom: said before they are dropped.

Belongs here: asking the tables for it. Does not: deciding (`retention.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.definitions import PARTNER_FILES, QUARANTINE, VERSIONS
from lakehouse.offsets import Range
from lakehouse.query import run_query

# The names are those of lakehouse/definitions/, nothing from outside.
_VERSIONS = f"SELECT count(*) FROM {VERSIONS} WHERE {{where}}"  # noqa: S608
_OPEN = f"""
    SELECT coalesce(source, ''), count(*) FROM {QUARANTINE} WHERE state = 'open' AND ({{where}})
    GROUP BY ALL ORDER BY ALL
"""  # noqa: S608
_FILES = f"""
    SELECT partner, count(DISTINCT digest) FROM {PARTNER_FILES}
    WHERE state = 'done' AND received_at < getvariable('cut') GROUP BY ALL ORDER BY ALL
"""  # noqa: S608


@dataclass(frozen=True)
class Loss:
    """What the tables will have no bytes for any more.

    Args:
        versions: rows of event_versions whose earliest copy goes: they stay, as they stand, and cannot be
            proven from raw, or judged by another contract, again.
        open_records: quarantined records, by partner, that can never be redriven then.
        files: files, by partner, whose lines cannot be held against their totals again.
    """

    versions: int = 0
    open_records: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)


def loss_of(
    catalog: RestCatalog, properties: Mapping[str, str], ranges: Iterable[Range], cut: datetime
) -> Loss:
    """Count what stands on records in these ranges of offsets, and on files from before the cut."""
    where = " OR ".join(map(_term, ranges)) or "false"

    def rows(table: str, sql: str) -> list[tuple[Any, ...]]:
        if not catalog.table_exists(table):  # dropped, to be rebuilt: then nothing may go, and that is said
            return []
        return run_query(catalog, properties, sql, variables={"cut": cut}).rows

    versions = rows(VERSIONS, _VERSIONS.format(where=where))
    still_open, files = rows(QUARANTINE, _OPEN.format(where=where)), rows(PARTNER_FILES, _FILES)
    return Loss(versions[0][0] if versions else 0, dict(still_open), dict(files))


def _term(r: Range) -> str:
    topic_id = r.topic_id.replace("'", "''")
    return (
        f"(topic_id = '{topic_id}' AND partition = {r.partition:d} "
        f'AND "offset" >= {r.start:d} AND "offset" < {r.end:d})'
    )
