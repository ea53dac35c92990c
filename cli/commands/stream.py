"""`paywave stream`: the streaming jobs. Belongs here: their options and progress. Does not: the jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable

import click

from cli.context import catalog_of, spark_of, stop_on_signals
from cli.logs import start_logs
from cli.output import Output, with_output
from cli.progress import progress
from cli.telemetry import start_telemetry
from config.settings import Settings, load_settings
from streaming.counting_job import CountingJob, CountingSettings
from streaming.curated_job import CuratedJob, CuratedSettings
from streaming.profile.count import TALLY
from streaming.raw_job import RawJob, RawSettings
from streaming.schemas.drift_job import DriftJob
from streaming.transactions_job import TransactionsJob, TransactionsSettings


@click.group()
def stream() -> None:
    """Run the streaming jobs: Kafka to raw, raw to curated, payments to transactions."""


@stream.command()
@click.option("--once", is_flag=True, help="Drain what is there, then end.")
@with_output
def raw(once: bool, out: Output) -> None:
    """Copy the topic into the raw table. Ends after the batch at hand on SIGTERM."""
    settings = load_settings()
    job = RawJob(catalog_of(settings), spark_of(settings, "raw"), raw_settings(settings))
    records = _run(job, "raw", once, out)
    out.result({"records": records}, lambda console: console.print(f"raw: {records:,} records"))


@stream.command()
@click.option("--once", is_flag=True, help="Catch up with raw, then end.")
@with_output
def curated(once: bool, out: Output) -> None:
    """Fold raw into event_versions, payments and quarantine. Ends after the batch at hand on SIGTERM."""
    settings = load_settings()
    job = CuratedJob(catalog_of(settings), spark_of(settings, "curated"), curated_settings(settings))
    records = _run(job, "curated", once, out)
    out.result({"records": records}, lambda console: console.print(f"curated: {records:,} records"))


@stream.command()
@click.option("--once", is_flag=True, help="Fold what payments hold now, then end.")
@click.option("--rebuild", is_flag=True, help="Fold everything anew first: after a change of the rules.")
@with_output
def transactions(once: bool, rebuild: bool, out: Output) -> None:
    """Bring curated.transactions to what changed in payments. Ends after the fold at hand on SIGTERM.

    It runs beside the curated job, every minute unless it is told to run once.
    """
    settings = load_settings()
    job = TransactionsJob(
        catalog_of(settings), spark_of(settings, "transactions"), transactions_settings(settings)
    )
    _serve(job.stop, once, out)
    with progress(out, "transactions", None) as meter:
        changed = job.run(
            once, rebuild, report=lambda done, total: meter(done, f"{done} of {total} buckets folded")
        )
    value = {change: changed[change] for change in ("insert", "update", "delete")}
    said = f"{value['insert']:,} new, {value['update']:,} changed, {value['delete']:,} gone"
    out.result(value, lambda console: console.print(f"transactions: {said}"))


@stream.command()
@click.option("--once", is_flag=True, help="Catch up with raw, then end.")
@with_output
def drift(once: bool, out: Output) -> None:
    """Count the fields that partners send beside the contract. Ends after the batch at hand on SIGTERM.

    It runs beside the other jobs, every minute unless it is told to run once.
    """
    settings = load_settings()
    job = DriftJob(catalog_of(settings), spark_of(settings, "drift"), CountingSettings())
    records = _run(job, "drift", once, out)
    out.result({"records": records}, lambda console: console.print(f"drift: {records:,} records looked at"))


@stream.command()
@click.option("--once", is_flag=True, help="Catch up with raw, then end.")
@with_output
def profile(once: bool, out: Output) -> None:
    """Count what each partner's hours look like. Ends after the batch at hand on SIGTERM.

    `paywave quality` compares and shows them. It runs beside the other jobs, every minute unless it is told
    to run once.
    """
    settings = load_settings()
    job = CountingJob(catalog_of(settings), spark_of(settings, "profile"), TALLY, CountingSettings())
    records = _run(job, "profile", once, out)
    out.result({"records": records}, lambda console: console.print(f"profile: {records:,} records counted"))


def _serve(stop: Callable[[], None], once: bool, out: Output) -> None:
    start_telemetry()
    if not once:  # a service: say what happens
        start_logs(logging.DEBUG if out.debug else logging.INFO)
    stop_on_signals(stop)


def _run(job: RawJob | CuratedJob | CountingJob, name: str, once: bool, out: Output) -> int:
    _serve(job.stop, once, out)
    with progress(out, name, None) as meter:
        return job.run(once, on_batch=lambda done, left: meter(done, f"{done:,} records, {left:,} to come"))


def raw_settings(settings: Settings) -> RawSettings:
    """Hand the raw job what it needs of the settings."""
    return RawSettings(
        settings.kafka.topic,
        settings.kafka_properties(),
        settings.kafka_source_options(),
        trigger_seconds=settings.streaming.trigger_s,
        needs_durable=not settings.is_embedded,
    )


def curated_settings(settings: Settings) -> CuratedSettings:
    """Hand the curated job what it needs of the settings."""
    return CuratedSettings(settings.tables.buckets)


def transactions_settings(settings: Settings) -> TransactionsSettings:
    """Hand the transactions job what it needs of the settings."""
    return TransactionsSettings(settings.tables.buckets)
