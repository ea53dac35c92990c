"""Exports that were cut off, or met others: what goes on comes to the same, or says why it cannot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from moto import mock_aws

from lakehouse import pins as tags
from lakehouse.definitions import PAYMENTS, VERSIONS
from lakehouse.errors import ExportError, NameTaken, SigningFailed, UnknownMoment
from lakehouse.exports import pins, verifier
from lakehouse.exports.export import Exporter
from lakehouse.exports.journal import locked
from lakehouse.exports.listing import listed_in
from lakehouse.exports.pins import EXPORTED, tag_of
from lakehouse.exports.signing import made_signer
from lakehouse.exports.store import S3Store
from lakehouse.exports.verification import Verifier
from lakehouse.maintenance.expire import Expirer, ExpireSettings
from lakehouse.refs import LAST_PINNED
from tests.offices import LINES, Killed, Office, files_of, found, office_in, request


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return office_in(tmp_path, LINES[:24])


@pytest.fixture
def buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[S3Store]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        for name in ("one", "two"):
            client.create_bucket(Bucket=name)
        yield [S3Store(client, name, "x/") for name in ("one", "two")]


def dying(at: str) -> Callable[..., None]:
    def report(_done: float, _total: float, part: str) -> None:
        if part.startswith(at):
            raise Killed

    return report


def killed_in_place(office: Office, name: str = "it") -> None:
    """Claim a number, and die before the export is in its place."""
    with patch.object(Exporter, "_put_in_place", side_effect=Killed), pytest.raises(Killed):
        office.export(name=name)


def to(
    office: Office, store: S3Store, report: Callable[..., None] = lambda *_: None, home: str = ""
) -> Exporter:
    return Exporter(office.lake.catalog, store, office.folder / home / "exports", office.signer, 256, report)


# -- another destination -------------------------------------------------------------------------------------


def test_what_was_begun_for_one_destination_does_not_go_on_at_another(
    office: Office, buckets: list[S3Store]
) -> None:
    one, two = buckets
    whole = office.export(name="whole")
    for name in (None, "named"):
        with pytest.raises(Killed):
            to(office, one, dying("raw")).run(request(), name)
        done = to(office, two).run(request(), name)
        assert not done.went_on
        assert {n for n in done.manifest.files if "/" in n} == set(files_of(whole))
        assert to(office, one).run(request(), name).went_on
    for store in buckets:
        assert found(Verifier(store, [office.signer.public_key]).run()) == []


def test_what_was_begun_in_the_folder_does_not_go_on_on_s3(office: Office, buckets: list[S3Store]) -> None:
    with pytest.raises(Killed):
        office.exporter(dying("raw")).run(request(), "it")
    assert not to(office, buckets[0]).run(request(), "it").went_on
    assert Verifier(buckets[0], [office.signer.public_key]).run().whole
    assert office.export(name="it").went_on


def test_a_part_that_is_gone_from_s3_is_done_again(office: Office, buckets: list[S3Store]) -> None:
    one = buckets[0]
    with pytest.raises(Killed):
        to(office, one, dying("raw")).run(request(), "it")
    gone = next(n for n in sorted(one.names()) if n.endswith(".parquet"))
    one.client.delete_object(Bucket=one.bucket, Key=one.prefix + gone)
    assert to(office, one).run(request(), "it").went_on
    assert Verifier(one, [office.signer.public_key]).run().whole


def test_what_was_begun_for_s3_is_listed_there_alone(office: Office, buckets: list[S3Store]) -> None:
    one, two = buckets
    with pytest.raises(Killed):
        to(office, one, dying("raw")).run(request(), "it")
    work = office.folder / "exports"
    assert [(e.name, e.state) for e in listed_in(one, work)] == [("it", "begun")]
    assert listed_in(two, work) == listed_in(office.store) == []


# -- between the claim and the place -------------------------------------------------------------------------


def test_another_release_leaves_the_verifier_that_the_claimed_manifest_names(
    office: Office, tmp_path: Path
) -> None:
    killed_in_place(office)
    other = tmp_path / "verifier.py"
    other.write_bytes(Path(verifier.__file__).read_bytes() + b"# a newer one\n")
    with patch.object(verifier, "__file__", str(other)):
        done = office.export(name="it")
    assert (done.went_on, done.manifest.sequence) == (True, 1)
    assert found(office.verify()) == []


def test_another_key_leaves_key_and_signature_of_a_claimed_manifest(office: Office, tmp_path: Path) -> None:
    killed_in_place(office)
    first, office.signer = office.signer, made_signer(tmp_path / "second.pem")
    done = office.export(name="it")
    office.signer = first
    assert done.went_on
    assert found(office.verify()) == []


def test_another_key_does_not_sign_what_was_claimed_and_not_signed(office: Office, tmp_path: Path) -> None:
    killed_in_place(office)
    (office.store.root / "chain" / "00000001.json.sig").unlink()
    first, office.signer = office.signer, made_signer(tmp_path / "second.pem")
    with pytest.raises(SigningFailed, match="another signing key"):
        office.export(name="it")
    office.signer = first
    assert office.export(name="it").went_on
    assert found(office.verify()) == []


def test_what_cannot_be_made_again_as_it_was_claimed_is_not_put_in_place(office: Office) -> None:
    killed_in_place(office)
    files = office.store.root / ".partial-it" / "files"
    (files / "verify.py").unlink()
    with (
        patch.object(verifier, "__file__", str(office.key_file())),
        pytest.raises(ExportError, match=r"verify\.py cannot be made again"),
    ):
        office.export(name="it")
    assert not (office.store.root / "it").exists()
    assert office.export(name="it").went_on
    assert found(office.verify()) == []


# -- several at once -----------------------------------------------------------------------------------------


def test_whoever_waited_for_the_lock_finds_the_export_finished(office: Office) -> None:
    first = office.export(name="it")
    asked: list[str] = []
    finished = Exporter._finished

    def late(self: Exporter, name: str) -> Any:
        asked.append(name)
        return finished(self, name) if (office.store.root / f".partial-{name}").exists() else None

    with patch.object(Exporter, "_finished", late):
        again = office.export(name="it")
        unnamed = [office.export().manifest.name for _ in range(2)]
    assert again.was_there
    assert again.manifest.data == first.manifest.data
    assert unnamed == [request().default_name, f"{request().default_name}-2"]
    assert found(office.verify()) == []
    assert not list(office.store.root.glob(".partial-*"))


def refs_of(office: Office) -> list[set[str]]:
    return [set(office.lake.load(table).metadata.refs) for table in EXPORTED]


def test_a_folder_of_that_name_that_is_no_export_is_not_taken(office: Office) -> None:
    (office.store.root / "it").mkdir(parents=True)
    (office.store.root / "it" / "notes.txt").touch()
    before = refs_of(office)
    with pytest.raises(NameTaken, match="no finished export"):
        office.export(name="it")
    assert not (office.store.root / "chain").exists()
    assert not list(office.store.root.glob(".partial-*"))
    assert refs_of(office) == before


def test_two_machines_do_not_write_one_export_on_s3(office: Office, buckets: list[S3Store]) -> None:
    one = buckets[0]

    def meanwhile(*_: Any) -> None:
        with pytest.raises(NameTaken, match="was begun"):
            to(office, one, home="elsewhere").run(request(), "it")
        names.add(to(office, one, home="elsewhere").run(request()).manifest.name)

    names: set[str] = set()
    to(office, one, meanwhile).run(request(), "it")
    assert to(office, one).run(request()).manifest.name not in names
    assert found(Verifier(one, [office.signer.public_key]).run()) == []


def test_a_renewal_whose_machine_is_gone_takes_the_next_number_on_s3(
    office: Office, buckets: list[S3Store]
) -> None:
    one = buckets[0]

    def dies(*_: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        to(office, one, dies, home="gone").run(request(), "it")
    with pytest.raises(NameTaken, match="was begun"):
        to(office, one).run(request(), "it")
    again = [to(office, one).run(request(), "it", or_next=True) for _ in range(2)]
    assert [(done.manifest.name, done.was_there) for done in again] == [("it-2", False), ("it-2", True)]
    assert found(Verifier(one, [office.signer.public_key]).run()) == []


def test_a_lock_on_a_folder_that_was_removed_keeps_nobody_and_holds_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    samestat, times = os.path.samestat, []

    def removed_once(*stats: os.stat_result) -> bool:
        times.append(stats)
        return len(times) > 1 and samestat(*stats)

    with (
        patch("os.path.samestat", removed_once),
        locked(folder),
        pytest.raises(ExportError, match="another process"),
        locked(folder),
    ):
        pass
    assert len(times) == 2


# -- lost answers --------------------------------------------------------------------------------------------


def test_a_lost_answer_of_the_claim_takes_one_number(office: Office, buckets: list[S3Store]) -> None:
    one, create = buckets[0], S3Store.create

    def lossy(self: S3Store, name: str, data: bytes) -> bool:
        create(self, name, data)
        return create(self, name, data)  # what was sent again, as no answer came

    with patch.object(S3Store, "create", lossy):
        for name in ("first", "second"):
            to(office, one).run(request(), name)
    assert [e.sequence for e in listed_in(one)] == [1, 2]
    assert found(Verifier(one, [office.signer.public_key]).run()) == []


# -- expiry beside it ----------------------------------------------------------------------------------------


def expirer(office: Office) -> Expirer:
    return Expirer(office.lake.catalog, lambda: None, ExpireSettings(1))


def test_expiry_that_chose_a_snapshot_before_it_was_pinned_does_not_take_it(office: Office) -> None:
    old = office.lake.load(PAYMENTS)
    snapshot_id = old.metadata.snapshots[0].snapshot_id
    for tag in (tag_of("x"), LAST_PINNED):
        tags.pin(office.lake.catalog, PAYMENTS, tag, snapshot_id)
    assert not expirer(office)._forget(old, [snapshot_id])
    assert tag_of("x") in office.lake.load(PAYMENTS).metadata.refs


def test_a_snapshot_that_expired_before_its_tag_was_there_is_chosen_anew(office: Office) -> None:
    keep, times = tags.pin, []

    def late(catalog: Any, name: str, tag: str, snapshot_id: int) -> int:
        times.append(tag)
        # as if the first had been dropped with its snapshot
        return keep(catalog, name, tag, snapshot_id) if len(times) > 1 else snapshot_id

    with patch.object(tags, "pin", late):
        done = office.export(name="it")
    assert len(times) == 16
    assert all(tag_of(done.manifest.id) in office.lake.load(t).metadata.refs for t in EXPORTED)


def test_the_contract_version_is_known_beyond_the_history_that_expired(office: Office) -> None:
    manifest = office.export(name="it").manifest
    known, pinned, table = (
        manifest.value["contract_version"],
        manifest.snapshots[VERSIONS],
        office.lake.load(VERSIONS),
    )
    with patch.object(pins, "newest_stamp", return_value=None):  # as of what only rewrites files
        assert pins.contract_at(office.lake.catalog, table, pinned) is None, "nothing was logged"
        office.lake.expire(VERSIONS)
        assert pins.contract_at(office.lake.catalog, office.lake.load(VERSIONS), pinned) == known == 1


def lose_pin(office: Office) -> None:
    """Let the journal name a snapshot that is gone."""
    journal = next(office.store.root.glob(".partial-it/journal.jsonl"))
    kept = str(office.lake.load(PAYMENTS).current_snapshot().snapshot_id)  # type: ignore[union-attr]
    journal.write_text(journal.read_text().replace(kept, "12345"))


def test_an_export_whose_snapshot_is_gone_is_pinned_anew_while_nothing_was_derived(office: Office) -> None:
    with patch.object(Exporter, "_parts", side_effect=Killed), pytest.raises(Killed):
        office.export(name="it")
    lose_pin(office)
    assert office.export(name="it").went_on
    assert found(office.verify(lake=(office.lake.catalog, 256))) == []


def test_an_export_whose_snapshot_is_gone_midway_says_how_to_give_it_up(office: Office) -> None:
    with pytest.raises(Killed):
        office.exporter(dying("raw")).run(request(), "it")
    lose_pin(office)
    with pytest.raises(ExportError, match="cannot go on") as gone:
        office.export(name="it")
    assert ".partial-it" in gone.value.hint


def test_a_file_of_the_lake_that_is_gone_is_no_bare_error(office: Office) -> None:
    with (
        patch("lakehouse.exports.derive.Derivation.parts", side_effect=FileNotFoundError("s3://lake/file")),
        pytest.raises(ExportError, match="s3://lake/file") as gone,
    ):
        office.export(name="it")
    assert "run it again" in gone.value.hint


def test_what_cannot_be_pinned_leaves_no_tag(office: Office) -> None:
    before = refs_of(office)
    with (
        patch.object(pins, "_are_kept", side_effect=UnknownMoment("gone", "hint")),
        pytest.raises(UnknownMoment),
    ):
        office.export(name="it")
    assert refs_of(office) == before


# -- a power cut ---------------------------------------------------------------------------------------------


@contextmanager
def synced() -> Iterator[set[Path]]:
    """Note which files and folders are brought to the disk."""
    paths: set[Path] = set()
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        paths.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    with patch("os.fsync", noting):
        yield paths


def test_notes_of_records_are_on_disk_before_their_part_is_noted(office: Office) -> None:
    with synced() as paths, pytest.raises(Killed):
        office.exporter(dying("curated")).run(request(), "it")
    notes = list((office.store.root / ".partial-it" / "coordinates").rglob("*"))
    assert notes
    assert set(notes) <= paths


def test_the_folders_of_an_export_are_on_disk_before_it_appears(office: Office) -> None:
    with synced() as paths:
        office.export(name="it")
    assert office.store.root / ".partial-it" / "files" / PAYMENTS in paths
