"""The checks that run every few minutes: which there are, and their one run.

Belongs here: the list of checks with their tables, and the op. Does not: what each looks at (`tables.py`,
`flow.py`), the check that folds again (`sample.py`).
"""

from collections.abc import Callable, Iterator

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from assets.checks import flow, tables
from assets.checks.finding import Finding
from assets.lake import Lake
from assets.notify import Notifier
from assets.tables import key_of, table_of
from assets.work import FIRST
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, RECONCILIATION, TRANSACTIONS, VERSIONS
from quality.policy import CONSERVATION, DUPLICATE_KEY, Action, gate

Look = Callable[[Lake, str], Finding]

# name of the check -> what it looks at, and of which tables
CHECKS: dict[str, tuple[Look, tuple[str, ...]]] = {
    "contract": (tables.contract, (RAW, VERSIONS, PAYMENTS, QUARANTINE, TRANSACTIONS)),
    "unique_key": (tables.unique_key, (VERSIONS, PAYMENTS)),
    "conservation": (tables.conservation, (VERSIONS,)),
    "file_health": (tables.file_health, (VERSIONS, PAYMENTS, TRANSACTIONS, QUARANTINE)),
    "freshness": (flow.freshness, (PAYMENTS,)),
    "completeness": (flow.completeness, (PAYMENTS,)),
    "gates": (flow.gates, (PAYMENTS,)),
    "open_quarantine": (flow.quarantine, (QUARANTINE,)),
    "balanced": (flow.balanced, (RECONCILIATION,)),
}
# What a gate stops before readers see it also stops what would be made of the table here.
_GATE_OF = {"conservation": CONSERVATION, "unique_key": DUPLICATE_KEY}
SPECS = [
    dg.AssetCheckSpec(
        check,
        asset=key_of(name),
        description=" ".join((look.__doc__ or "").split("\n\n")[0].split()),
        blocking=check in _GATE_OF and gate(_GATE_OF[check]).action is Action.BLOCK,
    )
    for check, (look, names) in CHECKS.items()
    for name in names
]


# In no pool: a run holds the pools of all that it does, and one that folds hours from their page does this.
@dg.multi_asset_check(name="standing_checks", specs=SPECS, can_subset=True)
def standing_checks(
    context: dg.AssetCheckExecutionContext, lake: Lake, notifier: Notifier
) -> Iterator[dg.AssetCheckResult]:
    """Run the checks that are wanted; one that cannot look fails by itself and says why."""
    for key in sorted(context.selected_asset_check_keys, key=lambda key: key.to_user_string()):
        found = _look(lake, key)
        context.log.info(f"{key.to_user_string()}: {found.text}")
        if not found.passed and not found.warns and _is_news(context.instance, key):
            notifier.tell("check_failed", f"{key.to_user_string()}: {found.text}", run_id=context.run.run_id)
        yield found.result(key)


def _look(lake: Lake, key: dg.AssetCheckKey) -> Finding:
    try:
        return CHECKS[key.name][0](lake, table_of(key.asset_key))
    except Exception as error:  # what keeps one check from looking must not keep the others
        hint = getattr(error, "hint", "")
        return Finding(False, f"could not look: {error}" + (f"; {hint}" if hint else ""))


def _is_news(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> bool:
    """Tell whether a check fails for the first time now: it passed before, or only warned."""
    ended = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=ended)
    event = history[0].event.dagster_event if history and history[0].event is not None else None
    if event is None:
        return True
    before = event.asset_check_evaluation_data
    return before.passed or before.severity is dg.AssetCheckSeverity.WARN


every_ten_minutes = dg.ScheduleDefinition(
    name="standing_checks_schedule",
    target=dg.AssetSelection.checks(*[spec.key for spec in SPECS]),
    cron_schedule="*/10 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    tags=FIRST,
)
