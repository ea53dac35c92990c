"""`paywave audit`: make exports that anyone can verify, verify them, prove one row, list them.

Belongs here: their options, progress and how their results look. Does not: the work (`lakehouse/exports/`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from assets.export_store import export_store
from cli.context import catalog_of
from cli.output import Output, told_of, with_output
from cli.params import Head, Moment
from cli.progress import progress
from cli.scopes import check_partner
from cli.telemetry import start_telemetry
from cli.trail import recorded, who_runs
from config.settings import Settings, load_settings
from lakehouse.chain import Tail
from lakehouse.errors import ExportError, SigningFailed
from lakehouse.exports.end_notes import EndNote, notes_in
from lakehouse.exports.ending import check_end, check_release, ends_of, named
from lakehouse.exports.ending import end as end_of
from lakehouse.exports.export import Done, Exporter, look
from lakehouse.exports.listing import DONE, UNREADABLE, Listed, listed_in
from lakehouse.exports.pins import newest_of, pinned_in, release, tag_of
from lakehouse.exports.proof import prove as proof_of
from lakehouse.exports.renewal import name_of, to_renew
from lakehouse.exports.request import Request, parse_scope
from lakehouse.exports.signing import KmsSigner, LocalSigner, Signer, made_signer, public_key_of
from lakehouse.exports.store import FolderStore, S3Store
from lakehouse.exports.verification import Verified, Verifier
from lakehouse.hold_log import HoldLog

_NO_END = (
    "is not signed by the key that signs now, and ends nothing: end the export once more "
    "(`paywave audit end`), or remove the file"
)


@click.group()
def audit() -> None:
    """Exports for auditors: pinned, signed, chained; anyone can verify them without us."""


def _destination(function: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--destination",
        "--to-dir",
        "destination",
        metavar="FOLDER|s3://…",
        help="Where exports lie; audit.exports, or PAYWAVE_HOME/exports, unless given.",
    )(function)


@audit.command()
@click.option(
    "--scope",
    required=True,
    help="all, account:ID, transaction:REF, merchant:ID or partner:NAME.",
)
@click.option("--from", "start", type=Moment(), help="First event time, e.g. 2026-11-20T00:00:00Z.")
@click.option("--to", "end", type=Moment(), help="Event time before which it ends.")
@click.option("--as-of", type=Moment(), help="As readers saw it then; now, unless given.")
@click.option("--tag", help="As it was at a tag of the tables, e.g. that of an earlier export.")
@click.option("--reason", required=True, help="Why, for those who will read it.")
@click.option("--requested-by", metavar="NAME", help="Who asks for it; user and machine, unless given.")
@_destination
@click.option("--name", help="a-z, 0-9 and -; made of the request, unless given. Run again, it goes on.")
@click.option("--csv", is_flag=True, help="Write each file as CSV too.")
@click.option("--standing", is_flag=True, help="Have it made again when late data reach it.")
@click.option("--dry-run", is_flag=True, help="Say what there is to export; pin and write nothing.")
@with_output
def export(
    scope: str,
    start: datetime | None,
    end: datetime | None,
    as_of: datetime | None,
    tag: str | None,
    reason: str,
    requested_by: str | None,
    destination: str | None,
    name: str | None,
    csv: bool,
    standing: bool,
    dry_run: bool,
    out: Output,
) -> None:
    """Export payments, their versions, the records these came from, and quarantine, from pinned snapshots.

    The same request goes on where it was killed. The same scope at the same snapshots gives the same bytes.

    \b
    paywave audit export --scope account:a17 --from 2026-11-01T00:00Z --to 2026-12-01T00:00Z --reason "case 7"
    paywave audit export --scope all --tag audit-1f2e3d4c5b6a7089 --reason "once more, for the court"
    """
    settings = load_settings()
    with _usage():
        who = requested_by or who_runs()
        request = Request(parse_scope(scope), reason, who, start, end, as_of, tag, csv, standing)
        request.check_new(datetime.now(UTC), name)
    catalog = catalog_of(settings)
    with _usage():
        check_partner(settings, catalog, request.scope)
    start_telemetry()
    if dry_run:
        pins, estimate = look(catalog, request)
        value = {"dry_run": True, **estimate.as_json(), **pins.as_json()}
        out.result(value, lambda console: _print_estimate(console, value))
        return
    done = _made(settings, request, out, destination, name)
    out.result({"dry_run": False, **done.as_json()}, lambda console: _print_done(console, done))
    if _is_broken(done):
        raise SystemExit(1)


@audit.command()
@click.option(
    "--hour",
    "hours",
    type=Moment(),
    multiple=True,
    required=True,
    help="An event hour that late data reached.",
)
@click.option(
    "--id", "call", help="Id of this call: repeated with it, what it made before is not made again."
)
@_destination
@click.option("--dry-run", is_flag=True, help="Say which exports would be made again; make none.")
@with_output
def renew(
    hours: tuple[datetime, ...], call: str | None, destination: str | None, dry_run: bool, out: Output
) -> None:
    """Make standing exports again that tell of some event hours. The earlier ones stay, and stay true.

    Where one fails, the others are made; the same call goes on with it, and leaves those that it made.
    Without an id, a call is the same for the same hours while payments are. A note of an end that the signing
    key did not sign ends nothing: it is named, and the command fails.

    \b
    paywave audit renew --hour 2026-11-20T12:00:00Z
    """
    settings = load_settings()
    store = export_store(settings, destination)
    exports = listed_in(store)
    notes = _notes(settings, store)
    requests = to_renew(exports, hours, ends_of(notes))
    start_telemetry()
    done: list[Done] = []
    # Which request it was of, nobody can tell: its export may stand, and is not made again.
    failed = [
        (one.name, "it cannot be read, and is not made again") for one in exports if one.state == UNREADABLE
    ]
    failed += [(note.file, _NO_END) for note in notes if note.state != "signed"]
    if requests and not dry_run:
        call = call or " ".join((newest_of(catalog_of(settings)), *(h.isoformat() for h in hours)))
        for request in requests:
            if request not in to_renew(exports, hours, ends_of(_notes(settings, store))):  # ended meanwhile
                continue
            try:
                done.append(_made(settings, request, out, destination, name_of(request, call), or_next=True))
            except Exception as error:  # a full disk, a store that is gone: the next may do
                failed.append((str(request.scope), told_of(error)))
    value = {
        "dry_run": dry_run,
        "standing": [request.as_json() for request in requests],
        "exports": [one.as_json() for one in done],
        "failed": [{"what": what, "error": said} for what, said in failed],
    }
    out.result(value, lambda console: _print_renewed(console, requests, done, failed, dry_run))
    if failed or any(map(_is_broken, done)):
        raise SystemExit(1)


@audit.command()
@click.argument("name", metavar="EXPORT")
@click.option("--reason", required=True, help="Why it is not to be made again.")
@_destination
@click.option("--dry-run", is_flag=True, help="Say what would end; end nothing.")
@with_output
def end(name: str, reason: str, destination: str | None, dry_run: bool, out: Output) -> None:
    """End a standing export: late data no longer have it made again. What was made of it stays.

    The same export made once more with --standing stands again.
    """
    settings = load_settings()
    store = export_store(settings, destination, locks=True)
    with _usage():
        export = named(listed_in(store), name)
        request = check_end(export, reason)
    if not dry_run:
        asked = {"reason": reason, "destination": destination, "request": export.request}
        with recorded(settings, catalog_of(settings), "audit end", name, asked):
            end_of(store, _signer(settings), export, reason, who_runs(), datetime.now(UTC))
    value = {"dry_run": dry_run, "name": name, "request": request.as_json()}
    said = f"{'would not be' if dry_run else 'is not'} made again: {request.scope}: {request.reason}"
    out.result(value, lambda console: console.print(said, markup=False, soft_wrap=True))


@audit.command(name="release")
@click.argument("name", metavar="EXPORT")
@click.option("--reason", help="Why now, where the export is still to be kept (audit.retention_years).")
@_destination
@click.option("--dry-run", is_flag=True, help="Say which tags would be removed; remove none.")
@with_output
def release_pins(name: str, reason: str | None, destination: str | None, dry_run: bool, out: Output) -> None:
    """Remove the tags audit-ID of an export, so that expiry may take what only they kept.

    Its files, signature and chain stay; it cannot be derived from the lake again, nor exported by its tag.
    """
    settings = load_settings()
    export = named(listed_in(export_store(settings, destination), settings.home / "exports"), name)
    catalog = catalog_of(settings)
    holds = HoldLog(catalog).in_force()
    check_release(export, settings.audit.retention_years, reason, datetime.now(UTC), holds)
    if dry_run:
        tables = pinned_in(catalog, export.id)
    else:
        asked = {"reason": reason, "destination": destination, "tag": tag_of(export.id)}
        with recorded(settings, catalog, "audit release", name, asked) as access:
            tables = release(catalog, export.id)
            access.result = f"{tag_of(export.id)} of {len(tables)} tables"
    value = {"dry_run": dry_run, "name": name, "tag": tag_of(export.id), "tables": tables}
    what = "would be" if dry_run else "was"
    said = f"{tag_of(export.id)} {what} removed from: {', '.join(tables) or 'no table'}"
    out.result(value, lambda console: console.print(said, markup=False, soft_wrap=True))


@audit.command()
@click.argument("place", metavar="FOLDER|s3://…", required=False)
@click.option(
    "--public-key",
    "public_keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="A public key of the signer (PEM), once for each; the one beside the manifest proves less.",
)
@click.option("--against-lakehouse", is_flag=True, help="Derive every file again from the pinned snapshots.")
@click.option(
    "--head",
    "heads",
    type=Head(),
    metavar="SEQ:SHA256",
    multiple=True,
    help="A head of the chain that was noted elsewhere before: it must still be in it. May be given again.",
)
@with_output
def verify(
    place: str | None,
    public_keys: tuple[Path, ...],
    against_lakehouse: bool,
    heads: tuple[Tail, ...],
    out: Output,
) -> None:
    """Verify an export, or all exports and their chain: name what was altered, is missing or was added.

    Note the head of the chain somewhere else: only with it is seen that the last exports were removed.

    Needs the export and the public key only. Each export has a verifier of its own too: python verify.py.
    """
    settings = load_settings()
    keys = [public_key_of(path.read_bytes(), str(path)) for path in public_keys]
    lake = (catalog_of(settings), settings.audit.memory_mb) if against_lakehouse else None
    start_telemetry()
    with progress(out, "files", 1.0) as meter:
        report = lambda done, total, note: meter(done / max(1.0, total), note)  # noqa: E731
        found = Verifier(export_store(settings, place), keys, lake, report, heads).run()
    out.result(found.as_json(), lambda console: _print_verified(console, found))
    if not found.whole:
        raise SystemExit(1)


@audit.command()
@click.argument("name", metavar="EXPORT")
@click.option("--table", required=True, help="Table of the row, e.g. curated.payments.")
@click.option(
    "--key", required=True, help="The row's key, its parts joined by /; the last ones may be left out."
)
@click.option("--file", "path", type=click.Path(dir_okay=False, path_type=Path), help="Where to write it.")
@_destination
@with_output
def prove(name: str, table: str, key: str, path: Path | None, destination: str | None, out: Output) -> None:
    """Write a proof that one row is in an export: python verify.py PROOF.json verifies it alone."""
    settings = load_settings()
    store, asked = export_store(settings, destination), {"table": table, "destination": destination}
    with recorded(
        settings, catalog_of(settings), "audit prove", f"{name} {key}", asked, announced=False
    ) as access:
        proof = proof_of(store.under(name), table, key)
        access.result = f"row {proof['index']} of {proof['file']}"
    path = path or Path(f"proof-{name}-{proof['index']}.json")
    if path.exists():
        raise click.UsageError(f"the file {path} is there already; choose another --file")
    path.write_text(json.dumps(proof, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    value = {"file": str(path), "in": proof["file"], "index": proof["index"], "row": proof["row"]}

    def show(console: Console) -> None:
        console.print(f"written to {path}: row {proof['index']} of {proof['file']}", soft_wrap=True)
        console.print("verify it: python verify.py PROOF.json PUBLIC_KEY.pem, with the export's verify.py")

    out.result(value, show)


@audit.command(name="list")
@_destination
@with_output
def list_exports(destination: str | None, out: Output) -> None:
    """List the exports there are, in the order of their chain, and those that were begun and not finished."""
    settings = load_settings()
    found = listed_in(export_store(settings, destination), settings.home / "exports")
    value = {"exports": [one.as_json() for one in found]}
    out.result(value, lambda console: _print_list(console, found))


def _print_renewed(
    console: Console,
    requests: Sequence[Request],
    done: Sequence[Done],
    failed: Sequence[tuple[str, str]],
    dry_run: bool,
) -> None:
    if not requests:
        console.print("no standing export tells of these hours")
    for request in requests if dry_run else ():
        span = f"{request.start or 'the first'} to {request.end or 'now'}"
        said = f"would be made again: {request.scope}, {span}: {request.reason}"
        console.print(said, markup=False, soft_wrap=True)
    for one in done:
        _print_done(console, one)
    for what, said in failed:
        console.print(f"failed: {what}: {said}", markup=False, soft_wrap=True)


def _made(
    settings: Settings,
    request: Request,
    out: Output,
    destination: str | None,
    name: str | None = None,
    *,
    or_next: bool = False,
) -> Done:
    """Make an export, recorded in the access trail."""
    catalog = catalog_of(settings)
    store, signer = export_store(settings, destination, locks=True), _signer(settings)
    asked = {**request.as_json(), "destination": destination, "name": name}
    with (
        recorded(settings, catalog, "audit export", str(request.scope), asked) as access,
        progress(out, "rows", 1.0) as meter,
    ):
        report = lambda done, total, note: meter(done / max(1.0, total), note)  # noqa: E731
        exporter = Exporter(
            catalog, store, settings.home / "exports", signer, settings.audit.memory_mb, report
        )
        done = exporter.run(request, name, or_next=or_next)
        access.result = f"export {done.manifest.name}, root {done.manifest.root}"
    return done


def _is_broken(done: Done) -> bool:
    return bool(done.manifest.value["reconciliation"]["exported"]["breaks"])


def _signer(settings: Settings) -> Signer:
    ours = settings.audit
    if ours.kms_key is not None:
        return KmsSigner.in_region(ours.kms_region, ours.kms_key)
    if ours.signing_key is not None:
        return LocalSigner.from_file(ours.signing_key)
    if settings.dev_keys is None:
        raise SigningFailed(
            "exports are signed, and there is no key to sign with", "set audit.kms_key or audit.signing_key"
        )
    return made_signer(settings.dev_keys / "audit-signing.pem")


def _notes(settings: Settings, store: FolderStore | S3Store) -> list[EndNote]:
    """Read the notes of ends, held against the key that signs now, which is asked for if there are any."""
    is_any = next(notes_in(store, ()), None) is not None
    return list(notes_in(store, [_signer(settings).public_key])) if is_any else []


@contextmanager
def _usage() -> Iterator[None]:
    """Take a request that says nothing for wrong usage: nothing was done."""
    try:
        yield
    except ExportError as error:
        raise click.UsageError(f"{error}: {error.hint}") from None


# -- as text -------------------------------------------------------------------------------------------------


def _print_estimate(console: Console, value: dict[str, Any]) -> None:
    for table, rows in value["rows"].items():
        files = value["files"].get(table)
        console.print(f"{table}: {rows:,} rows at most" + (f", {files:,} files to read" if files else ""))
    console.print(f"about {value['bytes']:,} bytes; nothing was pinned or written")
    for remark in value["remarks"]:
        console.print(f"  {remark}", markup=False, soft_wrap=True)


def _print_done(console: Console, done: Done) -> None:
    value = done.as_json()
    begun = "was finished before" if done.was_there else "went on and is finished" if done.went_on else "done"
    console.print(f"export {value['name']}, number {value['sequence']} of the chain: {begun}", soft_wrap=True)
    for table, rows in value["rows"].items():
        console.print(f"  {table}: {rows:,} rows")
    for m in value["money"]:
        said = f"{m['event_type']} {m['status']}: {m['payments']:,} payments, {m['amount']} {m['currency']}"
        console.print(f"  {said}")
    exported = value["reconciliation"]["exported"]
    for line in (*exported["statement"], *value["remarks"]):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    for broken in done.manifest.breaks:
        console.print(f"  does not add up: {broken}", markup=False, soft_wrap=True)
    console.print(f"{value['place']}: {value['files']:,} files, {value['bytes']:,} bytes", soft_wrap=True)
    console.print(f"root over its rows: {value['root']}")
    console.print(
        f"verify it: paywave audit verify {value['place']}, or python verify.py there", soft_wrap=True
    )


def _print_verified(console: Console, found: Verified) -> None:
    for finding in found.findings:
        console.print(str(finding), markup=False, soft_wrap=True)
    for remark in found.remarks:
        console.print(f"note: {remark}", markup=False, soft_wrap=True)
    said = f"{len(found.exports):,} exports, {found.files:,} files, {found.rows:,} rows"
    console.print(f"{said}: {'whole' if found.whole else f'{len(found.findings):,} findings'}")
    if found.head is not None:
        console.print(f"head of the chain: {found.head}", soft_wrap=True)


def _print_list(console: Console, found: list[Listed]) -> None:
    if not found:
        console.print("no exports; make one: paywave audit export")
        return
    table = Table("no.", "name", "scope", "from", "to", "rows", "bytes", "created", "requested by", "reason")
    for one in found:
        asked = [one.request.get(what) or "" for what in ("scope", "from", "to", "requested_by", "reason")]
        sums = (f"{one.rows:,}", f"{one.bytes:,}", one.created)
        number = str(one.sequence) if one.state == DONE else f"{one.sequence or ''} {one.state}".strip()
        table.add_row(number, one.name, *asked[:3], *sums, *asked[3:])
    console.print(table)
