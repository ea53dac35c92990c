"""The hours of the curated tables, folded again from raw: one hour from its page, or many as a backfill.

Belongs here: the asset, and what becomes of each of its partitions. Does not: folding (`streaming/backfill/`,
which `paywave backfill` runs too), keeping the tables up to date, which the streaming jobs do.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from assets.hours import start_of
from assets.lake import Lake
from assets.metadata import of_hour
from assets.tables import key_of, spec_of
from assets.work import SPARK_POOL, Work
from lakehouse.definitions import PAYMENTS, VERSIONS
from streaming.backfill.state import Status

_NOTE = "The streaming jobs keep it; to materialize an hour folds that again from raw."
_SELF = "dagster"
_BACKFILL_TAG = "dagster/backfill"


class Why(dg.Config):
    """Why the hours are folded again, and who has approved it. Where there is no reviewed plan, say both."""

    reason: str = ""
    approver: str = ""


def curated_hours_asset(
    hours: dg.HourlyPartitionsDefinition, most_hours: int, retry_seconds: float
) -> dg.AssetsDefinition:
    """Make the asset.

    Args:
        most_hours: a backfill of many hours becomes runs of at most this many each.
        retry_seconds: a command that failed is tried again after these, then once more after twice these.
    """
    specs = [
        spec.replace_attributes(partitions_def=hours, description=f"{spec.description} {_NOTE}")
        for spec in map(spec_of, (VERSIONS, PAYMENTS))
    ]

    @dg.multi_asset(
        name="curated_hours",
        specs=specs,
        can_subset=False,
        pool=SPARK_POOL,
        retry_policy=dg.RetryPolicy(max_retries=2, delay=retry_seconds, backoff=dg.Backoff.EXPONENTIAL),
        backfill_policy=dg.BackfillPolicy.multi_run(most_hours),
    )
    def curated_hours(
        context: dg.AssetExecutionContext, lake: Lake, work: Work, config: Why
    ) -> Iterator[dg.MaterializeResult[Any]]:
        """Fold the hours of this run again, and say of each what changed, also where others failed."""
        keys = sorted(context.partition_keys)
        reason, approver = _reason(context, config.reason), _approver(lake, config.approver)
        options = ["--reason", reason, "--requested-by", _SELF, "--approver", approver]
        named = [part for key in keys for part in ("--hour", key)]
        # By its own word: where it ran (a pod, say) is also where it keeps its state.
        found = work.run(context, ["backfill", "run", *named, *options], may_fall_short=True)
        hours = {hour["hour"]: hour for hour in found["hours"]}
        snapshots = lake.snapshots((VERSIONS, PAYMENTS))  # which hold what was published, and maybe more
        if found["stopped"] or not all(_is_done(hours, key) for key in keys):
            _report_done(context, hours, keys, snapshots)
            raise dg.Failure(_why_not(hours, keys), metadata={"result": dg.MetadataValue.json(found)})
        for table in (VERSIONS, PAYMENTS):
            for key in keys:
                metadata = _metadata(hours[key], table, snapshots[table])
                context.add_asset_metadata(metadata, key_of(table), partition_key=key)
            yield dg.MaterializeResult(asset_key=key_of(table))

    return curated_hours


def _reason(context: dg.AssetExecutionContext, given: str) -> str:
    """Why, as the plan says it. A run that is tried again finds its plan; one launched anew makes another."""
    tags = context.run.tags
    is_retry = "dagster/retry_number" in tags
    run = (context.run.root_run_id if is_retry else None) or context.run.run_id
    launched = f"backfill {tags[_BACKFILL_TAG]}" if _BACKFILL_TAG in tags else f"run {run}"
    return f"{given or 'no reason given'} ({launched})"


def _approver(lake: Lake, given: str) -> str:
    """Who approved it. Only on a laptop may that be whoever launched it."""
    if given or lake.settings().is_local:
        return given or _SELF
    raise dg.Failure(
        "nobody has approved this: launch it with `approver` and `reason` in its config, "
        "or run a reviewed plan with `paywave backfill`",
        allow_retries=False,
    )


_Hours = Mapping[str, Mapping[str, Any]]
"""What the command says of each hour."""


def _is_done(hours: _Hours, key: str) -> bool:
    return key in hours and hours[key]["status"] == Status.DONE


def _report_done(
    context: dg.AssetExecutionContext, hours: _Hours, keys: Sequence[str], snapshots: Mapping[str, int]
) -> None:
    """Report the hours that are done, so that only the others are left to be launched again."""
    for key in keys:
        if _is_done(hours, key):
            for table in (VERSIONS, PAYMENTS):
                metadata = _metadata(hours[key], table, snapshots[table])
                context.log_event(dg.AssetMaterialization(key_of(table), partition=key, metadata=metadata))
        else:
            context.log.error(f"hour {key}: {_reason_of(hours, key)}")


def _why_not(hours: _Hours, keys: Sequence[str]) -> str:
    undone = [key for key in keys if not _is_done(hours, key)]
    if not undone:
        return "every hour is done, but conflicts of identity were not looked at: the command was stopped"
    first = f"{undone[0]}: {_reason_of(hours, undone[0])}"
    return f"{len(undone):,} of {len(keys):,} hours are not done; first {first}"


def _reason_of(hours: _Hours, key: str) -> str:
    return hours.get(key, {}).get("error") or "not come to, as the command was stopped"


def _metadata(hour: Mapping[str, Any], table: str, snapshot_id: int) -> dict[str, Any]:
    """Show what all runs of this plan changed in an hour of a table, and how to read the hour again."""
    changed = {
        what.removeprefix(f"{table}: "): count
        for what, count in hour["changed_in_all"].items()
        if what.startswith(f"{table}: ")
    }
    return {
        "rows_added": changed.get("added", 0),
        "rows_deleted": changed.get("deleted", 0),
        "attempts": hour["attempts"],
        **of_hour(table, snapshot_id, start_of(hour["hour"])),
    }
