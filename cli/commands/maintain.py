"""`paywave maintain`: compaction, expiry, orphans, manifests.

Belongs here: their options, progress and how their results look. Does not: the work
(`lakehouse/maintenance/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from pyiceberg.catalog.rest import RestCatalog
from rich.console import Console

from cli.context import catalog_of, spark_of
from cli.output import Output, with_output
from cli.params import Span
from cli.progress import progress
from cli.telemetry import start_telemetry
from cli.trail import Recording, recorded
from config.errors import ConfigError
from config.settings import Settings, load_settings
from lakehouse.definitions import BY_NAME, SNAPSHOTS_KEPT

if TYPE_CHECKING:
    from lakehouse.maintenance.compact import Compacted
    from lakehouse.maintenance.expire import Expired
    from lakehouse.maintenance.manifests import Merged

    _Found = Compacted | Expired | Merged


@click.group()
def maintain() -> None:
    """Keep the tables fit: few large files, few snapshots, no file that nobody knows."""


def with_tables(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every maintenance takes."""
    named = click.option(
        "--table",
        "tables",
        multiple=True,
        type=click.Choice(sorted(BY_NAME)),
        metavar="TABLE",
        help="This table only; may be given again. All that it is for, unless given.",
    )
    dry = click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
    return named(dry(function))


@maintain.command()
@with_tables
@click.option(
    "--closed-after",
    type=Span(),
    default="24h",
    show_default=True,
    help="An event hour is closed so long after its end.",
)
@click.option(
    "--quiet",
    type=Span(),
    default="1h",
    show_default=True,
    help="Leave partitions that were written to within this.",
)
@click.option(
    "--target-mb",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Size of a file that is large enough.",
)
@click.option(
    "--least-saved",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Rewrite a partition if its readers then open so many files fewer.",
)
@with_output
def compact(
    tables: tuple[str, ...],
    dry_run: bool,
    closed_after: timedelta,
    quiet: timedelta,
    target_mb: int,
    least_saved: int,
    out: Output,
) -> None:
    """Pack and sort the files of cold partitions and fold deletes in, the neediest partitions first.

    No row changes: counts and content hashes are compared before anything is published. Raw stays as it is.
    """
    from lakehouse.maintenance.compact import Compactor, CompactSettings
    from lakehouse.maintenance.need import MEGABYTE, Limits

    names = _rewritten(tables)
    settings, catalog = _begin()
    limits = Limits(target_bytes=target_mb * MEGABYTE, least_saved=least_saved)
    with _counting(out, "partitions") as report:
        compactor = Compactor(
            catalog,
            lambda: spark_of(settings, "maintain"),
            settings.catalog_properties(),
            CompactSettings(limits, closed_after, quiet),
            report,
        )
        found = [compactor.run(name, dry_run) for name in names]
    _show(out, found, dry_run, lambda f: _compacted(f, dry_run))
    if any(f.lost for f in found):
        raise SystemExit(1)


@maintain.command()
@with_tables
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=SNAPSHOTS_KEPT,
    show_default=True,
    help="Keep the newest so many snapshots of main.",
)
@click.option(
    "--older-than", type=Span(), default="6h", show_default=True, help="Keep younger snapshots too."
)
@with_output
def expire(tables: tuple[str, ...], dry_run: bool, keep: int, older_than: timedelta, out: Output) -> None:
    """Expire snapshots, and remove the files that only they needed.

    Kept are also: whatever a tag or a branch points to, what the jobs have still to read, and what Snowflake
    has still to take, for snowflake.hold_days at the most. What an expired snapshot said of itself stays in
    curated.publish_log.
    """
    from lakehouse.log_keeper import keep_log
    from lakehouse.maintenance.expire import Expirer, ExpireSettings

    settings, catalog = _begin()
    expirer = Expirer(
        catalog,
        lambda: keep_log(catalog, spark_of(settings, "maintain")),
        ExpireSettings(keep, older_than),
        _read_in_snowflake(settings, catalog, out),
    )
    asked = {"tables": tables, "keep": keep, "older_than": older_than}
    with _recorded(settings, catalog, "expire", asked, dry_run) as access:
        found = expirer.run(tables or BY_NAME, dry_run)
        access.result = _sums(found)
    done = "would go" if dry_run else "gone"
    _show(out, found, dry_run, lambda f: f"{f.snapshots:,} snapshots and {f.files:,} files {done}")


@maintain.command()
@with_tables
@click.option(
    "--older-than",
    type=Span(),
    default="3d",
    show_default=True,
    help="Leave what is younger: somebody may be writing it.",
)
@click.option("--force", is_flag=True, help="Allow --older-than below 24h.")
@with_output
def orphans(tables: tuple[str, ...], dry_run: bool, older_than: timedelta, force: bool, out: Output) -> None:
    """Remove files in the tables' folders that no snapshot of any branch or tag knows.

    Unless tables are named, scratch tables too that a replay or backfill left, untouched for 30 days.
    """
    from lakehouse.maintenance.orphans import FLOOR, remove_orphans
    from lakehouse.maintenance.scratch import drop_idle

    if older_than < FLOOR and not force:
        raise click.UsageError("--older-than below 24h may remove what a job is writing; --force allows it")
    settings, catalog = _begin()
    asked = {"tables": tables, "older_than": older_than, "force": force}
    with (
        _recorded(settings, catalog, "orphans", asked, dry_run) as access,
        _counting(out, "orphans") as report,
    ):
        found = [
            remove_orphans(catalog, name, older_than, dry_run, partial(report, name))
            for name in tables or BY_NAME
        ]
        scratch = [] if tables else drop_idle(catalog, dry_run=dry_run)
        access.result = _sums(found) + (f", {len(scratch):,} scratch tables" if scratch else "")
    done = "would go" if dry_run else "gone"
    value = {
        "dry_run": dry_run,
        "tables": [f.as_json() for f in found],
        "scratch": [s.as_json() for s in scratch],
    }

    def show(console: Console) -> None:
        for f in found:
            said = (
                f"{f.files:,} of {f.listed:,} files {done}, {f.bytes:,} bytes; {f.young:,} too young to tell"
            )
            console.print(f"{f.table}: {said}", soft_wrap=True)
            for path in f.paths if dry_run else ():
                console.print(f"  {path}", markup=False, soft_wrap=True)
        for s in scratch:
            said = f"scratch, idle since {s.idle_since:%Y-%m-%d %H:%M}, {done}, {s.bytes:,} bytes"
            console.print(f"{s.table}: {said}", soft_wrap=True)

    out.result(value, show)


@maintain.command()
@with_tables
@click.option(
    "--at-least",
    type=click.IntRange(min=2),
    default=10,
    show_default=True,
    help="Merge where there are so many small manifests.",
)
@with_output
def manifests(tables: tuple[str, ...], dry_run: bool, at_least: int, out: Output) -> None:
    """Merge small manifests into few. The same files stay, as is checked before anything is published."""
    from lakehouse.maintenance.manifests import ManifestMerger

    names = _rewritten(tables)
    settings, catalog = _begin()
    merger = ManifestMerger(catalog, lambda: spark_of(settings, "maintain"), at_least)
    found = [merger.run(name, dry_run) for name in names]
    _show(out, found, dry_run, lambda f: f"{f.small:,} small manifests worth merging")


def _begin() -> tuple[Settings, RestCatalog]:
    settings = load_settings()
    catalog = catalog_of(settings)
    start_telemetry()
    return settings, catalog


def _read_in_snowflake(settings: Settings, catalog: RestCatalog, out: Output) -> set[int]:
    """Find the snapshots that Snowflake goes on from: without the next ones it never comes to the newest."""
    if settings.snowflake.account is None:
        return set()
    from assets.snowflake_account import deployment_of, login_of
    from snowflake_external.errors import SnowflakeError
    from snowflake_external.session import Session
    from snowflake_external.watch import held_snapshots, standing

    most = timedelta(days=settings.snowflake.hold_days)
    stands: dict[str, int | None] = {}
    try:
        with Session(login_of(settings), "maintain expire") as session:
            stands = standing(deployment_of(settings), session.ask)
    except (SnowflakeError, ConfigError) as error:  # the lake does not wait for Snowflake
        out.log.print(f"{error}: the snapshots of {most.days} days are kept for Snowflake", markup=False)
    return held_snapshots(catalog, stands, most)


@contextmanager
def _recorded(
    settings: Settings, catalog: RestCatalog, what: str, asked: Mapping[str, Any], dry_run: bool
) -> Iterator[Recording]:
    """Record what removes files in the access trail; a dry run removes none."""
    if dry_run:
        yield Recording("")
        return
    with recorded(settings, catalog, f"maintain {what}", "", asked) as access:
        yield access


def _sums(found: Sequence[Any]) -> str:
    return f"{sum(f.files for f in found):,} files gone"


def _rewritten(tables: tuple[str, ...]) -> tuple[str, ...]:
    from lakehouse.maintenance.rewrite import REWRITTEN

    if unfit := sorted(set(tables) - set(REWRITTEN)):
        raise click.UsageError(f"{unfit[0]} has append snapshots only: its files are never rewritten")
    return tables or REWRITTEN


@contextmanager
def _counting(out: Output, what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far the work on the table at hand is."""
    with progress(out, what, None) as meter:
        yield lambda table, done, total: meter(done, f"{table}: {done:,} of {total:,}")


def _compacted(found: Compacted, dry_run: bool) -> str:
    if dry_run:
        return f"{len(found.chosen):,} partitions worth rewriting"
    said = f"{found.done:,} of {len(found.chosen):,} partitions rewritten in {found.commits:,} commits"
    if found.overtaken:
        said += f"; {found.overtaken:,} done or written to by another meanwhile"
    if found.lost:
        said += f"; {found.lost:,} lost to other writers each time, run it again"
    return said


def _show(out: Output, found: Sequence[_Found], dry_run: bool, said: Callable[[Any], str]) -> None:
    """Print what became of each table, with its figures before and after where they differ."""
    value = {"dry_run": dry_run, "tables": [f.as_json() for f in found]}

    def show(console: Console) -> None:
        for f in found:
            console.print(f"{f.table}: {said(f)}", soft_wrap=True)
            for name, before in asdict(f.before).items():
                after = asdict(f.after)[name]
                if before != after:
                    console.print(f"  {name.replace('_', ' ')}: {before:,} before, {after:,} after")

    out.result(value, show)
