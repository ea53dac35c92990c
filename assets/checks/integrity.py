"""The daily integrity audit of raw: every file is there, and is what was recorded of it.

Belongs here: its run, and how it looks. Does not: the audit (`lakehouse/integrity/`).
"""

from typing import Any

import dagster as dg

from assets.chain_heads import CHAIN_HEAD, noted_heads
from assets.notify import Notifier
from assets.tables import key_of
from assets.work import FIRST, SPARK_POOL, Work
from lakehouse.definitions import FILE_DIGESTS


class Reading(dg.Config):
    """How much of raw is read in one day: one in so many files, so that in as many days each is read once."""

    one_in: int = 1


@dg.asset_check(
    asset=key_of(FILE_DIGESTS),
    name="files_intact",
    description="Every file of every retained snapshot of raw is there with its digest, and the ledger's own "
    "chain holds, up to the head that was noted here before.",
    pool=SPARK_POOL,
)
def files_intact(
    context: dg.AssetCheckExecutionContext, work: Work, notifier: Notifier, config: Reading
) -> dg.AssetCheckResult:
    """Hold raw to its digests."""
    command = ["integrity", "check", "--one-in", str(config.one_in), *noted_heads(context.instance)]
    found = work.run(context.op_execution_context, command, may_fall_short=True)
    said = f"{found['files']:,} files are there, {found['read']:,} were read: nothing was changed"
    if not found["whole"]:
        bad = [one["path"] for one in found["damaged"]] + [one["said"] for one in found["ledger_breaks"]]
        if found["overdue"]:
            bad.append(
                f"{found['overdue']:,} files have no digest though they are old: is the keeper at work?"
            )
        said = (
            f"raw or its ledger is not as it was, or nobody can tell: {'; '.join(bad[:3])}; "
            "`paywave integrity check` names all"
        )
        notifier.tell("files_intact", said, run_id=context.run.run_id)
    return dg.AssetCheckResult(passed=found["whole"], description=said, metadata=_metadata(found))


def _metadata(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "files": found["files"],
        "read": found["read"],
        "bytes": found["bytes"],
        "unrecorded": found["unrecorded"],
        "overdue": found["overdue"],
        "damaged": dg.MetadataValue.json(found["damaged"][:100]),
        "ledger_breaks": dg.MetadataValue.json(found["ledger_breaks"][:100]),
        CHAIN_HEAD: found[CHAIN_HEAD],
    }


daily = dg.ScheduleDefinition(
    name="files_intact_daily",
    target=dg.AssetSelection.checks(files_intact),
    cron_schedule="10 5 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    tags=FIRST,
)
