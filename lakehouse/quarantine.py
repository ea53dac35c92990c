"""Reading quarantine: the records that are meant, in groups or one by one, and their bytes in raw.

Belongs here: reading. Does not: what a record is (`quarantined.py`), changing any (`streaming/redrive/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions import And, GreaterThanOrEqual, In, LessThanOrEqual

from lakehouse.definitions import QUARANTINE, RAW
from lakehouse.errors import LakehouseError
from lakehouse.fold import Coordinates
from lakehouse.quarantined import Group, Quarantined, RawRecord, Selection, variable
from lakehouse.query import run_query
from quality.contract import Violation

# A record is "valid" or "quarantined" once the publish that calls it redriven is seen: it was part of that.
_RECORDS = f"""
    SELECT q.topic_id, q.topic, q.partition, q.offset, q.kafka_ts, coalesce(q.source, '') AS source,
           q.violations, q.contract_version, q.state, q.redrive_of, q.redriven_by, q.redriven_at,
           CASE WHEN q.redriven_by IS NULL THEN NULL
                WHEN again.redrive_of IS NULL THEN 'valid' ELSE 'quarantined' END AS became
    FROM {QUARANTINE} q
    LEFT JOIN (SELECT redrive_of, concat_ws('/', topic_id, partition, "offset") AS coordinates
               FROM {QUARANTINE} WHERE redrive_of IS NOT NULL) again ON again.coordinates = q.redriven_by
"""  # noqa: S608  # the names are those of lakehouse/definitions/, here and below
_GROUPS = f"""
    SELECT v.rule, v.field, source, state, count(DISTINCT (topic_id, partition, "offset")) AS records,
           min(kafka_ts) AS first, max(kafka_ts) AS last
    FROM (SELECT *, unnest(violations) AS v FROM (SELECT q.* REPLACE (coalesce(source, '') AS source)
          FROM {QUARANTINE} q WHERE {{where}}))
    GROUP BY ALL ORDER BY records DESC, v.rule, v.field, source, state
"""  # noqa: S608
# pyiceberg's plugin for mypy knows no positional arguments
_in: Any = In
_from: Any = GreaterThanOrEqual
_to: Any = LessThanOrEqual
_PLACE = ("kafka_ts", *Coordinates._fields)
_ORDER = ", ".join(f"q.{name}" for name in _PLACE)


class NotQuarantined(LakehouseError):
    """There is no such record in quarantine."""


class QuarantineReader:
    """Reads quarantine and the raw records behind it, as they are now."""

    def __init__(self, catalog: RestCatalog, properties: Mapping[str, str]) -> None:
        self._catalog = catalog
        self._properties = properties

    def groups(self, selection: Selection) -> list[Group]:
        """Count the records that are meant by rule, field, partner and state, the most frequent first."""
        where, values = selection.condition()
        return [Group(*row) for row in self._run(_GROUPS.format(where=where), values)]

    def count(self, selection: Selection) -> int:
        """Count the records that are meant."""
        where, values = selection.condition()
        ((count,),) = self._run(f"SELECT count(*) FROM {QUARANTINE} q WHERE {where}", values)  # noqa: S608
        return int(count)

    def records(self, selection: Selection, most: int, after: Quarantined | None = None) -> list[Quarantined]:
        """Read records in the order in which Kafka took them, at most so many, those behind `after`."""
        where, values = selection.condition()
        if after is not None:
            where += f" AND ({_ORDER}) > ({', '.join(map(variable, _PLACE))})"
            values |= dict(zip(_PLACE, after.place, strict=True))
        rows = self._run(f"{_RECORDS} WHERE {where} ORDER BY {_ORDER} LIMIT {most:d}", values)
        return [_quarantined(row) for row in rows]

    def record(self, where: Coordinates) -> Quarantined:
        """Read one record. Raises `NotQuarantined`."""
        names = " AND ".join(f"q.{name} = {variable(name)}" for name in where._fields)
        rows = self._run(f"{_RECORDS} WHERE {names}", where._asdict())
        if not rows:
            raise NotQuarantined(
                f"there is no record {where.topic_id}/{where.partition}/{where.offset} in {QUARANTINE}",
                "`paywave quarantine list --records` shows coordinates; the curated job may lag behind raw",
            )
        return _quarantined(rows[0])

    def raw(self, records: Sequence[Quarantined]) -> dict[Coordinates, RawRecord]:
        """Read what raw has of these records, a few thousand at most, from the files of their time."""
        if not records:
            return {}
        moments, offsets = [r.kafka_ts for r in records], {r.offset for r in records}
        # a range, for of a list of more than 200 pyiceberg asks no file's statistics
        time = And(_from("kafka_ts", min(moments).isoformat()), _to("kafka_ts", max(moments).isoformat()))
        scan = self._catalog.load_table(RAW).scan(
            row_filter=And(time, _in("offset", offsets)),
            selected_fields=(*Coordinates._fields, "key", "value", "headers"),
        )
        found = {
            Coordinates(*(row[name] for name in Coordinates._fields)): RawRecord(
                row["key"], row["value"], tuple((h["key"], h["value"]) for h in row["headers"] or ())
            )
            for row in scan.to_arrow().to_pylist()
        }
        return {r.where: found[r.where] for r in records if r.where in found}

    def _run(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return run_query(self._catalog, self._properties, sql, variables=values).rows


def _quarantined(row: tuple[Any, ...]) -> Quarantined:
    found = Quarantined(*row)
    violations: tuple[Any, ...] = found.violations  # structs, as DuckDB has them
    return found._replace(violations=tuple(Violation(*map(v.get, Violation._fields)) for v in violations))
