"""What breaks, noticed at once: gates that close, partners held, quarantine that grows, books that differ.

Belongs here: the sensor that looks for news of these and has the checks look at once. Does not: the checks
(`checks/`), which also run without news.
"""

import json
from collections.abc import Iterable, Iterator

import dagster as dg
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchTableError

from assets.checks.standing import standing_checks
from assets.lake import Lake
from assets.notify import Notifier
from assets.tables import key_of
from assets.work import FIRST
from lakehouse.definitions import PAYMENTS, QUARANTINE, RECONCILIATION
from lakehouse.errors import LakehouseError
from lakehouse.gate_log import GateLog
from lakehouse.gates import CLOSED, HELD, GateEvent
from lakehouse.refs import read_head, total_of

# Which checks look again where one of these tables has news.
_LOOK = {QUARANTINE: "open_quarantine", RECONCILIATION: "balanced"}


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    asset_selection=dg.AssetSelection.checks(standing_checks),
    description="Has the checks look at once when a gate moves, quarantine grows or books were reconciled.",
)
def breaks(
    context: dg.SensorEvaluationContext, lake: Lake, notifier: Notifier
) -> dg.SensorResult | dg.SkipReason:
    """Compare what there is with the cursor: last event of the gate log, rows of the tables."""
    seen: dict[str, str] = json.loads(context.cursor or "{}")
    catalog = lake.catalog()
    events = GateLog(catalog).events()
    found = {"gates": str(events[-1].seq if events else 0), **dict(_sizes(catalog))}
    news = {name for name, at in found.items() if seen.get(name) != at}
    if not news:
        return dg.SkipReason("nothing has moved")
    if "gates" in news and "gates" in seen:  # what happened before the first look is what the check tells
        _tell_of_gates(notifier, (event for event in events if event.seq > int(seen["gates"])))
    keys = [dg.AssetCheckKey(key_of(PAYMENTS), "gates")] if "gates" in news else []
    keys += [dg.AssetCheckKey(key_of(name), check) for name, check in _LOOK.items() if name in news]
    key = "; ".join(found[name] for name in sorted(found))
    request = dg.RunRequest(key, asset_check_keys=keys, tags=FIRST)
    return dg.SensorResult([request], cursor=json.dumps(found))


def _sizes(catalog: RestCatalog) -> Iterator[tuple[str, str]]:
    """Tell what each table is at by its rows, as every batch publishes, often nothing."""
    for name in _LOOK:
        try:
            head = read_head(catalog, name)
        except (LakehouseError, NoSuchTableError):  # `new_snapshots` says so
            continue
        yield name, f"{head.rows} rows, {total_of(head.snapshot, 'position-deletes')} deleted"


def _tell_of_gates(notifier: Notifier, events: Iterable[GateEvent]) -> None:
    for event in events:
        if event.event in (CLOSED, HELD):
            notifier.tell(
                "gate",
                f"gate {event.gate} {event.event} {event.source or ''}: {event.reason}",
                next="paywave gate status says what to do",
            )
