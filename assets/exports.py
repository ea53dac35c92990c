"""Audit exports that stand: made again where late data reached what they tell of.

Belongs here: the job that makes them. Does not: noticing late data (`hours.py`), choosing or making exports
(`lakehouse/exports/`).
"""

import dagster as dg

from assets.work import FIRST, Work


class LateHours(dg.Config):
    """Event hours that late data reached, as ISO 8601 times, and an id of who asks (`renew --id`)."""

    hours: list[str]
    call: str = ""


@dg.op(
    description="Makes those standing exports again that tell of hours which late data reached.",
    # Nobody asks for these hours again until the next late record: a hiccup is not to leave them stale.
    retry_policy=dg.RetryPolicy(max_retries=3, delay=60, backoff=dg.Backoff.EXPONENTIAL),
)
def renew_exports(context: dg.OpExecutionContext, config: LateHours, work: Work) -> None:
    hours = [word for hour in config.hours for word in ("--hour", hour)]
    call = ["--id", config.call] if config.call else []  # a run that is repeated goes on where it was
    told = work.run(context, ["audit", "renew", *hours, *call])
    context.log.info(f"{len(told['exports'])} exports made again")


@dg.job(description="`paywave audit renew`: asked for by late data; the earlier exports stay.")
def audit_renewal() -> None:
    renew_exports()


def renewal_of(hours: list[str], run_key: str) -> dg.RunRequest:
    """Ask for the job for some event hours."""
    config = {"ops": {renew_exports.name: {"config": {"hours": hours, "call": run_key}}}}
    return dg.RunRequest(run_key, run_config=config, tags=FIRST, job_name=audit_renewal.name)
