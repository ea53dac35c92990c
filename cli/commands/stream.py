"""`paywave stream`: the streaming jobs. Belongs here: their options and progress. Does not: the jobs."""

from __future__ import annotations

import logging

import click

from cli.context import catalog_of, spark_of, stop_on_signals
from cli.logs import start_logs
from cli.output import Output, with_output
from cli.progress import progress
from cli.telemetry import start_telemetry
from config.settings import Settings, load_settings
from streaming.curated_job import CuratedJob, CuratedSettings
from streaming.raw_job import RawJob, RawSettings


@click.group()
def stream() -> None:
    """Run the streaming jobs: Kafka to raw, raw to curated."""


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


def _run(job: RawJob | CuratedJob, name: str, once: bool, out: Output) -> int:
    start_telemetry()
    if not once:  # a service: say what happens
        start_logs(logging.DEBUG if out.debug else logging.INFO)
    stop_on_signals(job.stop)
    with progress(out, name, None) as meter:
        return job.run(once, on_batch=lambda done, left: meter(done, f"{done:,} records, {left:,} to come"))


def raw_settings(settings: Settings) -> RawSettings:
    """Hand the raw job what it needs of the settings."""
    return RawSettings(settings.kafka.topic, settings.kafka_properties(), settings.kafka_source_options())


def curated_settings(settings: Settings) -> CuratedSettings:
    """Hand the curated job what it needs of the settings."""
    return CuratedSettings(settings.tables.buckets)
