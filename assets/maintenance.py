"""Maintenance as assets: compaction, expiry, orphans, manifests; and the daily reconciliation.

Belongs here: when each runs, with which options, and how its outcome is shown. Does not: the work
(`lakehouse/maintenance/`, `streaming/reconcile/`), which the same commands do that a person would type.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from assets.chain_heads import CHAIN_HEAD, noted_heads
from assets.lake import Lake
from assets.tables import OWNER, key_of, spec_of
from assets.work import FIRST, SPARK_POOL, Work
from lakehouse.definitions import BY_NAME, FILE_DIGESTS, RAW, RECONCILIATION
from lakehouse.maintenance.rewrite import REWRITTEN

# A run is idempotent, so whatever made it fail, trying again later is right.
_RETRY = dg.RetryPolicy(max_retries=3, delay=60, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
_REWRITTEN = [key_of(name) for name in REWRITTEN]
_ALL = [key_of(name) for name in BY_NAME]


class Options(dg.Config):
    """What a person may ask of one run: some tables only, or to change nothing."""

    tables: list[str] = Field(default=[])
    dry_run: bool = False

    def arguments(self) -> list[str]:
        """Render as the command's options."""
        named = [argument for table in self.tables for argument in ("--table", table)]
        return [*named, *(["--dry-run"] if self.dry_run else [])]


def _maintain(name: str, deps: Sequence[dg.AssetKey], description: str) -> Any:
    """Decorate the asset of one kind of maintenance."""
    return dg.asset(
        key=["maintenance", name],
        deps=deps,
        description=description,
        group_name="maintenance",
        owners=[OWNER],
        tags={"layer": "maintenance"},
        kinds={"iceberg", "spark"},
        pool=SPARK_POOL,
        retry_policy=_RETRY,
    )


Rows = Callable[[dict[str, Any]], list[dict[str, Any]]]
"""From what the command says to a row per table."""


def _over_tables(
    name: str, command: str, deps: Sequence[dg.AssetKey], description: str, rows: Rows
) -> dg.AssetsDefinition:
    """Make the asset of a maintenance that takes tables and a dry run."""

    @_maintain(name, deps, description)
    def maintained(
        context: dg.AssetExecutionContext, lake: Lake, work: Work, config: Options
    ) -> dg.MaterializeResult[Any]:
        found = work.run(context, ["maintain", command, *config.arguments()])
        return _result(found, rows(found), lake)

    made: dg.AssetsDefinition = maintained
    return made


def _figures(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Show what was done to each table, with each of its figures before and after."""
    return [_row(table) for table in found["tables"]]


def _orphans(found: dict[str, Any]) -> list[dict[str, Any]]:
    columns = ("table", "listed", "files", "bytes", "young")
    rows = [{name: table[name] for name in columns} for table in found["tables"]]
    idle = [{"listed": one["files"], "young": 0} | one for one in found["scratch"]]
    return [*rows, *({name: one[name] for name in columns} for one in idle)]


def _row(table: dict[str, Any]) -> dict[str, Any]:
    done = {name: value for name, value in table.items() if isinstance(value, int)}
    pairs = {
        name.replace("_", " "): f"{was:,} → {table['after'][name]:,}"
        for name, was in table["before"].items()
        if was != table["after"][name]
    }
    return {"table": table["table"], **done, "changed": ", ".join(f"{n}: {p}" for n, p in pairs.items())}


def _result(found: dict[str, Any], rows: list[dict[str, Any]], lake: Lake) -> dg.MaterializeResult[Any]:
    """Show a row per table, with the snapshot that the table is at after it; a scratch table has none."""
    snapshots = lake.snapshots(row["table"] for row in rows if row["table"] in BY_NAME)
    told = [dg.TableRecord({**row, "snapshot_id": str(snapshots.get(row["table"], ""))}) for row in rows]
    return dg.MaterializeResult(
        metadata={"dry_run": found["dry_run"], "tables": dg.MetadataValue.table(told)}
    )


compaction = _over_tables(
    "compaction",
    "compact",
    _REWRITTEN,
    "Few large sorted files instead of many small ones, deletion vectors folded in; hours that still receive "
    "events are left alone, the neediest partitions come first.",
    _figures,
)
expiry = _over_tables(
    "expiry",
    "expire",
    _ALL,
    "Snapshots that no tag, branch, reader or job needs are forgotten, and the files that only they needed. "
    "What they said of themselves stays in curated.publish_log.",
    _figures,
)
orphan_removal = _over_tables(
    "orphan_removal",
    "orphans",
    _ALL,
    "Files in the tables' folders, old metadata files among them, that no snapshot of any branch or tag "
    "knows and that are older than the longest job; scratch tables that a replay or backfill left.",
    _orphans,
)
manifest_merge = _over_tables(
    "manifest_merge",
    "manifests",
    _REWRITTEN,
    "Small manifests are merged, so that planning a read opens few files.",
    _figures,
)


class Retired(dg.Config):
    """Which days of raw are dropped: those before this one. Without it the run only says what could go."""

    before: str = ""
    reason: str = ""
    approver: str = ""

    def command(self) -> list[str]:
        """Render as the command: with a day one that drops, which wants the rest too, else one that plans."""
        given = {"--before": self.before, "--reason": self.reason, "--approver": self.approver}
        options = [part for option, value in given.items() if value for part in (option, value)]
        return ["retention", "apply" if self.before else "plan", *options]


# No schedule: what is dropped cannot be brought back, so a person asks for it.
@_maintain(
    "raw_retention",
    [key_of(RAW)],
    "Whole days of raw older than 30 months, dropped only by an explicit run with reason and approver, which "
    "raw.retention_log keeps. A run without a day says what could go.",
)
def raw_retention(
    context: dg.AssetExecutionContext, lake: Lake, work: Work, config: Retired
) -> dg.MaterializeResult[Any]:
    """Drop old days of raw, or say which could go."""
    found = work.run(context, config.command())
    found = found.get("raw", found)  # a plan speaks of the other stores too
    days = [dg.TableRecord({"day": str(day["day"]), "records": day["records"]}) for day in found["days"]]
    return dg.MaterializeResult(
        metadata={
            "dry_run": found.get("dry_run", True),
            "snapshot_id": str(lake.snapshots([RAW]).get(RAW, "")),
            "records": found["records"],
            "bytes": found["bytes"],
            "held_by_tags": dg.MetadataValue.json(found["held_by_tags"]),
            "blocked_by": dg.MetadataValue.json(found["behind"]),
            "legal_holds": dg.MetadataValue.json(found["legal_holds"]),
            **({"days": dg.MetadataValue.table(days)} if days else {}),
        }
    )


class Span(dg.Config):
    """Which records to reconcile: those of so many hours of Kafka time until now; 0: all there are."""

    hours: int = 26


# Without a retry: books that do not balance will not do so in a minute.
@dg.multi_asset(name="reconciliation", specs=[spec_of(RECONCILIATION)], pool=SPARK_POOL)
def reconciliation(context: dg.AssetExecutionContext, work: Work, config: Span) -> dg.MaterializeResult[Any]:
    """Hold every record of the last hours to account; by counts the jobs do so after each hour."""
    since = datetime.now(UTC) - timedelta(hours=config.hours)
    found = work.run(context, ["reconcile", *(["--from", since.isoformat()] if config.hours else [])])
    identities = [
        dg.TableRecord({"identity": account["identity"], "balanced": str(account["balanced"])})
        for account in found["identities"]
    ]
    return dg.MaterializeResult(
        asset_key=key_of(RECONCILIATION),
        metadata={
            "balanced": found["balanced"],
            "scope": found["scope"],
            "records": found["records"],
            "identities": dg.MetadataValue.table(identities),
            "snapshots": dg.MetadataValue.json(found["snapshots"]),
        },
    )


class Held(dg.Config):
    """Whether the ledger must still have the heads noted here; not, if a person knows why it begins anew."""

    to_noted_heads: bool = True


# Often: what is changed before it is recorded is not told.
@dg.multi_asset(name="file_digests", specs=[spec_of(FILE_DIGESTS)], pool=SPARK_POOL, retry_policy=_RETRY)
def file_digests(context: dg.AssetExecutionContext, work: Work, config: Held) -> dg.MaterializeResult[Any]:
    """Record the digests of raw's files that are new, each read once."""
    heads = noted_heads(context.instance) if config.to_noted_heads else []
    found = work.run(context, ["integrity", "record", *heads])
    return dg.MaterializeResult(
        asset_key=key_of(FILE_DIGESTS),
        metadata={
            "files": found["files"],
            "bytes": found["bytes"],
            "snapshots": found["snapshots"],
            # Kept in Dagster's own store: with it a ledger that was cut off is told.
            CHAIN_HEAD: found[CHAIN_HEAD],
        },
    )


ASSETS = (
    compaction,
    expiry,
    orphan_removal,
    manifest_merge,
    raw_retention,
    reconciliation,
    file_digests,
)


def _schedule(name: str, asset: str, cron: str) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=name,
        target=dg.AssetSelection.assets(dg.AssetKey.from_user_string(asset)),
        cron_schedule=cron,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        tags=FIRST,
    )


# Compaction each hour, after the hour that has just closed; what reads the whole store at a quiet time.
SCHEDULES = (
    _schedule("compaction_hourly", "maintenance/compaction", "20 * * * *"),
    _schedule("expiry_daily", "maintenance/expiry", "40 3 * * *"),
    _schedule("manifest_merge_daily", "maintenance/manifest_merge", "10 4 * * *"),
    _schedule("orphan_removal_weekly", "maintenance/orphan_removal", "30 4 * * 0"),
    _schedule("file_digests_hourly", FILE_DIGESTS.replace(".", "/"), "50 * * * *"),
    _schedule("reconciliation_daily", RECONCILIATION.replace(".", "/"), "10 2 * * *"),
)
