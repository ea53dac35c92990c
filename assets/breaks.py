"""What breaks, noticed at once: gates that close, partners held, quarantine that grows, books that differ.

Belongs here: the sensor that looks for news of these and has the checks look at once. Does not: the checks
(`checks/`), which also run without news.
"""

import json
from collections.abc import Iterator

import dagster as dg
from pyiceberg.exceptions import NoSuchTableError

from assets.checks.standing import standing_checks
from assets.lake import Lake
from assets.metadata import of_head
from assets.notify import Notifier
from assets.tables import key_of
from assets.work import FIRST
from lakehouse.definitions import PAYMENTS, QUARANTINE, RECONCILIATION
from lakehouse.errors import LakehouseError
from lakehouse.gate_log import GateLog
from lakehouse.gates import CLOSED, HELD
from lakehouse.refs import read_head

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
    found = dict(_standing(lake))
    news = {name for name, at in found.items() if seen.get(name) != at}
    if not news:
        return dg.SkipReason("nothing has moved")
    if "gates" in news and "gates" in seen:  # what happened before the first look is what the check tells
        _tell_of_gates(lake, notifier, int(seen["gates"]))
    keys = [dg.AssetCheckKey(key_of(PAYMENTS), "gates")] if "gates" in news else []
    keys += [dg.AssetCheckKey(key_of(name), check) for name, check in _LOOK.items() if name in news]
    key = "; ".join(found[name] for name in sorted(found))
    request = dg.RunRequest(key, asset_check_keys=keys, tags=FIRST)
    return dg.SensorResult([request], cursor=json.dumps(found))


def _standing(lake: Lake) -> Iterator[tuple[str, str]]:
    """Tell what each of them is at: a table by its rows, as every batch publishes, often nothing."""
    catalog = lake.catalog()
    events = GateLog(catalog).events()
    yield "gates", str(events[-1].seq if events else 0)
    for name in _LOOK:
        try:
            metadata = of_head(read_head(catalog, name))
        except (LakehouseError, NoSuchTableError):  # `new_snapshots` says so
            continue
        yield name, f"{metadata['dagster/row_count']} rows, {metadata['deleted_rows']} deleted"


def _tell_of_gates(lake: Lake, notifier: Notifier, since: int) -> None:
    for event in GateLog(lake.catalog()).events():
        if event.seq > since and event.event in (CLOSED, HELD):
            notifier.tell(
                "gate",
                f"gate {event.gate} {event.event} {event.source or ''}: {event.reason}",
                next="paywave gate status says what to do",
            )
