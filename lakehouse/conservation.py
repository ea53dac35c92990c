"""The conservation law over whole tables: nothing vanishes without a row that says why.

Belongs here: counting, and naming what does not add up. Does not: fixing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from pyiceberg.catalog.rest import RestCatalog

from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.query import run_query
from lakehouse.refs import read_head
from lakehouse.totals import RETIRED, told_by_no_row
from quality.contract import REVERSED

# A notice is a version of the event that it names and no event itself: `fold.fold_events`, said in SQL.
# The names are those of lakehouse/definitions/, nothing from outside.
_COUNTS = f"""
    WITH told AS (
        SELECT account_id, event_ts, event_type, event_id, original_event_id,
               status = '{REVERSED}' AND original_event_id IS NOT NULL AS may_be_notice
        FROM {VERSIONS}
    ),
    events AS (
        SELECT DISTINCT event_id FROM told v WHERE NOT may_be_notice
        OR EXISTS (FROM told own WHERE NOT own.may_be_notice AND own.event_id = v.event_id
                   AND own.account_id = v.account_id AND own.event_ts = v.event_ts)
        OR NOT EXISTS (FROM told named WHERE NOT named.may_be_notice AND named.event_id = v.original_event_id
                       AND named.account_id = v.account_id AND named.event_ts = v.event_ts
                       AND named.event_type = v.event_type)
    )
    SELECT (SELECT count(*) FROM {RAW}) AS raw,
           (SELECT count(*) FROM {VERSIONS}) AS versions,
           (SELECT count(*) FROM events) AS events,
           (SELECT count(*) FROM {PAYMENTS}) AS payments,
           (SELECT coalesce(sum(len(event_ids)), 0) FROM {PAYMENTS}) AS members,
           (SELECT count(*) FILTER (status = '{REVERSED}') FROM {PAYMENTS}) AS reversed_payments,
           (SELECT coalesce(sum(amount), 0) FROM {PAYMENTS} WHERE status <> '{REVERSED}') AS amount,
           (SELECT count(*) FROM {QUARANTINE}) AS quarantined
"""  # noqa: S608


@dataclass(frozen=True)
class Reading:
    """What one reader finds: payments, and the sum of those that are not REVERSED."""

    payments: int
    amount: Decimal


@dataclass(frozen=True)
class Stock:
    """Counts over whole tables, as the readers see them, and every sum that does not add up."""

    raw: int
    retired: int
    redelivered: int
    versions: int
    superseded: int
    events: int
    duplicates: int
    payments: int
    reversed_payments: int
    quarantined: int
    readers: dict[str, Reading]
    breaks: tuple[str, ...]

    @property
    def conserved(self) -> bool:
        return not self.breaks

    def as_json(self) -> dict[str, Any]:
        """Render for programs; amounts as text, so that nothing is rounded."""
        value = asdict(self)
        value["readers"] = {
            name: {"payments": r.payments, "amount": str(r.amount)} for name, r in self.readers.items()
        }
        return value | {"breaks": list(self.breaks), "conserved": self.conserved}


def take_stock(catalog: RestCatalog, properties: Mapping[str, str]) -> Stock:
    """Count every table with DuckDB and payments with pyiceberg too, and hold the sums against each other."""
    counted = run_query(catalog, properties, _COUNTS)
    n = dict(zip(counted.columns, counted.rows[0], strict=True))
    readers = {
        "duckdb": Reading(n["payments"], _money(n["amount"])),
        "pyiceberg": _read_by_pyiceberg(catalog),
    }
    totals = {name: read_head(catalog, name).totals for name in (VERSIONS, PAYMENTS, QUARANTINE)}
    redelivered = told_by_no_row(totals[VERSIONS], totals[QUARANTINE])
    retired = read_head(catalog, RAW).totals.get(RETIRED, 0)  # dropped by retention, and accounted for
    records = n["raw"] + retired
    sums = {
        "records = redelivered + versions + quarantined": (
            records,
            redelivered + n["versions"] + n["quarantined"],
        ),
        "events = members of payments": (n["events"], n["members"]),
        "payments by both readers": (readers["duckdb"], readers["pyiceberg"]),
    }
    for name, of_table in totals.items():
        sums[f"records = records consumed by {name}"] = (records, of_table.get("records", 0))
    return Stock(
        raw=n["raw"],
        retired=retired,
        redelivered=redelivered,
        versions=n["versions"],
        superseded=n["versions"] - n["events"],
        events=n["events"],
        duplicates=n["events"] - n["payments"],
        payments=n["payments"],
        reversed_payments=n["reversed_payments"],
        quarantined=n["quarantined"],
        readers=readers,
        breaks=tuple(
            f"{what}: {left} against {right}" for what, (left, right) in sums.items() if left != right
        ),
    )


def _read_by_pyiceberg(catalog: RestCatalog) -> Reading:
    table = catalog.load_table(PAYMENTS)
    live = table.scan(row_filter=f"status <> '{REVERSED}'", selected_fields=("amount",)).to_arrow()
    amounts = live["amount"].to_pylist()
    return Reading(
        table.scan(selected_fields=("status",)).to_arrow().num_rows, _money(sum(amounts, Decimal(0)))
    )


def _money(value: Any) -> Decimal:
    return Decimal(value).quantize(Decimal("0.0001"))
