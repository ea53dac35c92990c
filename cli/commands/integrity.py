"""`paywave integrity`: raw's files held to their digests, and the lock on the bucket that they are in.

Belongs here: options, progress and how it looks. Does not: the audit (`lakehouse/integrity/`), what a bucket
must be (`lakehouse/immutability/`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from cli.context import catalog_of
from cli.output import Output, with_output
from cli.params import Head, Span
from cli.progress import progress
from cli.telemetry import start_telemetry
from cli.trail import recorded
from config.settings import Settings, load_settings

if TYPE_CHECKING:
    from lakehouse.chain import Tail
    from lakehouse.immutability.bucket import Bucket
    from lakehouse.immutability.policy import Change
    from lakehouse.integrity.check import Checked
    from lakehouse.integrity.keeper import Recorded
    from lakehouse.integrity.verdict import Finding


@click.group()
def integrity() -> None:
    """Prove that no file of raw was changed, removed or cut off since it was published."""


def _with_heads(function: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--head",
        "heads",
        type=Head(),
        metavar="SEQ:LINK",
        multiple=True,
        help="A head of the ledger's chain that was noted elsewhere before: it must still be in it. May be "
        "given again.",
    )(function)


@integrity.command()
@_with_heads
@with_output
def record(heads: tuple[Tail, ...], out: Output) -> None:
    """Record the digests of raw's files that have none yet, each read once. It goes on where it was.

    A file whose size is not what the metadata says is named, and not recorded (exit 1). Nothing is recorded
    in a ledger that was cut off, rolled back or written anew: that would bear out what was done to raw since.
    """
    from lakehouse.integrity.keeper import DigestKeeper

    catalog = catalog_of(load_settings())
    start_telemetry()
    with progress(out, "digests", 1.0) as meter:
        done = DigestKeeper(catalog, lambda n, of, said: meter(n / max(1, of), said)).run(heads)
    out.result(done.as_json(), lambda console: _show_recorded(console, done))
    if not done.is_whole:
        raise SystemExit(1)


@integrity.command()
@click.option("--sample", type=click.IntRange(min=1), help="Look at so many files, chosen at random.")
@click.option(
    "--one-in",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Read one in so many files, others each day; of the rest see that they are there, and their size.",
)
@click.option(
    "--recorded-within",
    type=Span(),
    default="6h",
    show_default=True,
    help="A file that has no digest so long after its snapshot fails the check: nobody can prove it.",
)
@_with_heads
@with_output
def check(
    sample: int | None, one_in: int, recorded_within: timedelta, heads: tuple[Tail, ...], out: Output
) -> None:
    """Hold every file of every retained snapshot of raw to its digest, and the ledger to its chain.

    Exits 1 and names what is missing, cut off, altered or unreadable, and where files were not recorded in
    time. Younger ones are named apart: they came since the last `paywave integrity record`. Note the head of
    the chain somewhere else: with it nobody can take back what the ledger says.
    """
    from lakehouse.integrity.check import Selection
    from lakehouse.integrity.check import check as audit

    selection = Selection(one_in, sample, heads, recorded_within)
    catalog = catalog_of(load_settings())
    start_telemetry()
    with progress(out, "integrity", 1.0) as meter:
        found = audit(catalog, selection, meter)
    out.result(found.as_json(), lambda console: _show_checked(console, found))
    if not found.is_whole:
        raise SystemExit(1)


@integrity.group()
def bucket() -> None:
    """Object Lock, versions and the policy against deletion, of the bucket that raw's files are in."""


@bucket.command()
@with_output
def plan(out: Output) -> None:
    """Show what differs from the settings (`immutability.*`). Exits 1 when something does."""
    settings = load_settings()
    changes = _bucket(settings).plan().changes if _is_asked_for(settings) else ()
    _show_changes(out, settings, changes, applied=False)
    if changes:
        raise SystemExit(1)


@bucket.command()
@click.option("--dry-run", is_flag=True, help="Show the steps, change nothing.")
@click.option(
    "--irreversible", is_flag=True, help="Accept that a lock of mode compliance cannot be taken back."
)
@with_output
def apply(dry_run: bool, irreversible: bool, out: Output) -> None:
    """Make the bucket so. Never loosens what is there; statements and rules of others stay."""
    settings = load_settings()
    wants_word = settings.immutability.mode == "compliance" and not (dry_run or irreversible)
    if wants_word:
        raise click.UsageError(
            "mode compliance: what is written from then on cannot be deleted by anybody before "
            f"{settings.immutability.years} years are over; say --irreversible, or look with --dry-run"
        )
    start_telemetry()
    changes: tuple[Change, ...] = ()
    if _is_asked_for(settings):
        of = _bucket(settings)
        wanted = of.plan()
        changes = wanted.changes
        if not dry_run:
            asked = {"mode": settings.immutability.mode, "years": settings.immutability.years}
            with recorded(settings, catalog_of(settings), "integrity bucket apply", of.name, asked) as access:
                of.apply(wanted)
                access.result = ", ".join(change.what for change in changes) or "nothing to change"
    _show_changes(out, settings, changes, applied=not dry_run)


@bucket.command("check")
@click.option(
    "--objects",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Hold so many objects to the lock: half of them the newest, the others chosen at random.",
)
@with_output
def check_bucket(objects: int, out: Output) -> None:
    """See that the bucket is as the settings say, and that objects in it are locked. Exits 1 if not.

    To choose among all objects the whole bucket is listed: a request for each thousand.
    """
    settings = load_settings()
    if not _is_asked_for(settings):
        _show_changes(out, settings, (), applied=False)
        return
    of = _bucket(settings)
    changes, unlocked = of.plan().changes, list(of.unlocked(objects))
    value = {**_as_value(settings, changes, False), "unlocked": [one.as_json() for one in unlocked]}

    def show(console: Console) -> None:
        _print_changes(console, value)
        for one in unlocked:
            console.print(f"  {one.key}: {one.said}", markup=False, soft_wrap=True)

    out.result(value, show)
    if changes or unlocked:
        raise SystemExit(1)


def _is_asked_for(settings: Settings) -> bool:
    return settings.immutability.mode != "none"


def _bucket(settings: Settings) -> Bucket:
    """The bucket that the settings name, by the credentials of the store. Raises MissingSetting."""
    from lakehouse.immutability.bucket import Bucket, connect
    from lakehouse.immutability.policy import Protection

    asked, s3 = settings.immutability, settings.s3
    name = settings.need("immutability", "bucket")
    protection = Protection(name, asked.mode, asked.years, asked.prefix, asked.exempt_role_arn)
    options = {
        "region_name": s3.region,
        "endpoint_url": s3.endpoint,
        "aws_access_key_id": s3.access_key and s3.access_key.get_secret_value(),
        "aws_secret_access_key": s3.secret_key and s3.secret_key.get_secret_value(),
    }
    return Bucket(connect({key: value for key, value in options.items() if value}), protection)


def _show_recorded(console: Console, done: Recorded) -> None:
    said = f"{done.files:,} files recorded, {done.bytes:,} bytes read, of {done.snapshots:,} snapshots"
    console.print(f"{said}; head of the chain: {done.tail}", soft_wrap=True)
    _print_findings(console, done.findings)


def _show_checked(console: Console, found: Checked) -> None:
    said = f"{found.files:,} files of {found.snapshots:,} snapshots, {found.read:,} read whole"
    verdict = "nothing was changed" if not found.findings and not found.breaks else "NOT AS IT WAS"
    console.print(f"{said} ({found.bytes:,} bytes): {verdict}", soft_wrap=True)
    _print_findings(console, found.findings)
    for broken in found.breaks:
        console.print(f"  raw.file_digests: {broken.said}", markup=False, soft_wrap=True)
    if found.unrecorded:
        late = f", {found.overdue:,} of them too late: of these nobody can tell" if found.overdue else ""
        said = f"{found.unrecorded:,} files were never recorded (`paywave integrity record`){late}:"
        console.print(said, soft_wrap=True)
    for path in found.unrecorded_named:
        console.print(f"  {path}", markup=False, soft_wrap=True)
    console.print(f"head of the chain: {found.tail}", soft_wrap=True)


def _print_findings(console: Console, findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        said = f"  {finding.problem}: {finding.path} ({finding.kind}): {finding.said}"
        console.print(said, markup=False, soft_wrap=True)


def _as_value(settings: Settings, changes: tuple[Change, ...], applied: bool) -> dict[str, Any]:
    asked = settings.immutability
    return {
        "bucket": asked.bucket,
        "mode": asked.mode,
        "years": asked.years,
        "changes": [change.as_json() for change in changes],
        "applied": applied,
    }


def _show_changes(out: Output, settings: Settings, changes: tuple[Change, ...], applied: bool) -> None:
    value = _as_value(settings, changes, applied)
    out.result(value, lambda console: _print_changes(console, value))


def _print_changes(console: Console, value: dict[str, Any]) -> None:
    if value["mode"] == "none":
        console.print("immutability.mode is none: no lock is asked for")
    elif not value["changes"]:
        console.print(f"{value['bucket']} is as it should be", markup=False)
    else:
        console.print(f"{value['bucket']}: {'done' if value['applied'] else 'would change'}", markup=False)
    for step in value["changes"]:
        refused = " (impossible)" if step["impossible"] else ""
        console.print(f"  {step['what']}{refused}: {step['said']}", markup=False, soft_wrap=True)
