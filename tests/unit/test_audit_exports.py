"""Audit exports of a small lake: what is in them, what changes no byte, and that any change is named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from lakehouse.chain import Tail
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import ExportError, UnknownMoment, WrongScope
from lakehouse.exports import statement, verifier
from lakehouse.exports.chain import link_of
from lakehouse.exports.export import Exporter, look
from lakehouse.exports.listing import listed_in
from lakehouse.exports.manifest import MANIFEST, SIGNATURE, Manifest, statement_of
from lakehouse.exports.parts import write_part
from lakehouse.exports.pins import EXPORTED, tag_of
from lakehouse.exports.proof import prove
from lakehouse.exports.request import COLUMN_OF
from lakehouse.exports.selection import Source
from lakehouse.exports.signing import made_signer
from lakehouse.exports.store import FolderStore, Lock, S3Access, S3Store, store_at
from lakehouse.exports.verification import Verifier
from lakehouse.fold import fold_events
from quality.contract import REVERSED
from tests.events import wire
from tests.offices import LINES, Killed, Office, files_of, found, office_in, request
from tests.reference import copy_of


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """An office whose lake no test changes."""
    return office_in(tmp_path_factory.mktemp("office"), LINES)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return office_in(tmp_path, LINES[:80])


# -- what is in an export ------------------------------------------------------------------------------------


def test_all_of_the_lake_is_there_and_adds_up(shared: Office) -> None:
    done = shared.export(csv=True)
    for table in (PAYMENTS, VERSIONS, QUARANTINE):
        want = shared.lake.load(table).scan().to_arrow().to_pylist()
        assert sorted(map(repr, shared.rows(done, table))) == sorted(map(repr, want)), table
    assert done.manifest.value["rows"][QUARANTINE] > 0
    exported = done.manifest.value["reconciliation"]["exported"]
    assert exported["breaks"] == []
    assert exported["raw"] == exported["versions"] + exported["quarantined"]
    assert exported["superseded"] > 0
    assert exported["duplicates"] > 0
    assert shared.verify(done.manifest.name).as_json()["findings"] == []


def test_of_each_version_the_record_lies_there_as_it_was_received(shared: Office) -> None:
    done = shared.export(name="records")
    raw = {(r["topic_id"], r["partition"], r["offset"]): r for r in shared.lake.raw}
    exported = shared.rows(done, RAW)
    wanted = {
        (row["topic_id"], row["partition"], row["offset"])
        for table in (VERSIONS, QUARANTINE)
        for row in shared.rows(done, table)
    }
    assert {(r["topic_id"], r["partition"], r["offset"]) for r in exported} == wanted
    assert len(exported) == len(wanted) < len(raw)  # redelivered copies are counted, not exported
    for row in exported:
        assert row["value"] == raw[row["topic_id"], row["partition"], row["offset"]]["value"]


@pytest.mark.parametrize("kind", ["account", "transaction", "merchant", "partner"])
def test_a_scope_takes_its_payments_and_the_versions_of_their_events(shared: Office, kind: str) -> None:
    column = COLUMN_OF[kind]
    payments = shared.lake.load(PAYMENTS).scan().to_arrow().to_pylist()
    value, _ = Counter(p[column] for p in payments if p[column]).most_common(1)[0]
    done = shared.export(f"{kind}:{value}")
    wanted = {p["business_key"]: p for p in payments if p[column] == value}
    assert {p["business_key"] for p in shared.rows(done, PAYMENTS)} == set(wanted)
    members = {event_id for p in wanted.values() for event_id in p["event_ids"]}
    events = fold_events(c for c in map(copy_of, shared.lake.raw) if c is not None)
    hashes = {v.content_hash for event in events if event.event_id in members for v in event.versions}
    assert {v["content_hash"] for v in shared.rows(done, VERSIONS)} == hashes
    broken = {(q["partition"], q["offset"]) for q in shared.rows(done, QUARANTINE)}
    of_partner = {
        (q["partition"], q["offset"])
        for q in shared.lake.load(QUARANTINE).scan().to_arrow().to_pylist()
        if kind == "partner" and q["source"] == value
    }
    assert broken == of_partner
    assert done.manifest.value["reconciliation"]["exported"]["breaks"] == []


def test_a_range_of_event_time_is_exact(shared: Office) -> None:
    payments = shared.lake.load(PAYMENTS).scan().to_arrow().to_pylist()
    times = sorted(p["event_ts"] for p in payments)
    start, end = times[len(times) // 4], times[len(times) // 2]
    done = shared.export(start=start, end=end)
    wanted = {p["business_key"] for p in payments if start <= p["event_ts"] < end}
    assert {p["business_key"] for p in shared.rows(done, PAYMENTS)} == wanted
    assert all(start <= v["event_ts"] < end for v in shared.rows(done, VERSIONS))


def test_money_is_summed_by_currency_type_and_status(shared: Office) -> None:
    done = shared.export(name="money")
    sums: dict[tuple[str, ...], Any] = {}
    for p in shared.rows(done, PAYMENTS):
        key = (p["currency"], p["event_type"], p["status"])
        sums[key] = sums.get(key, 0) + p["amount"]
    told = {(m["currency"], m["event_type"], m["status"]): m["amount"] for m in done.manifest.value["money"]}
    assert told == {key: format(amount, "f") for key, amount in sums.items()}
    assert any(key[2] == REVERSED for key in told)


def test_a_scope_without_rows_is_an_export_too(shared: Office) -> None:
    done = shared.export("account:nobody")
    assert done.manifest.value["rows"] == {}
    assert shared.verify(done.manifest.name).whole


def test_a_look_pins_and_writes_nothing(office: Office) -> None:
    refs = {t: set(office.lake.load(t).metadata.refs) for t in EXPORTED}
    pins, estimate = look(office.lake.catalog, request())
    assert estimate.rows[PAYMENTS] >= office.lake.load(PAYMENTS).scan().count()
    assert estimate.bytes > 0
    assert set(pins.snapshots) == set(EXPORTED)
    assert not office.store.root.exists()
    assert refs == {t: set(office.lake.load(t).metadata.refs) for t in EXPORTED}


def test_csv_says_what_the_rows_say(shared: Office) -> None:
    done = shared.export("account:nobody", name="empty-csv", csv=True)
    assert not list(Path(done.place).rglob("*.csv"))
    whole = shared.export(name="with-csv", csv=True)
    path = next((Path(whole.place) / PAYMENTS).glob("*.csv"))
    rows = pq.read_table(path.with_suffix(".parquet")).num_rows
    text = path.read_text().splitlines()
    assert text[0].startswith("event_id,event_type,event_ts,account_id")
    assert len(text) == rows + 1


# -- the same bytes ------------------------------------------------------------------------------------------


def test_new_data_other_files_and_expiry_change_no_byte(office: Office) -> None:
    first = office.export(name="first")
    tag = tag_of(first.manifest.id)
    moment = datetime.now(UTC)
    office.lake.fold(shuffle=7)  # the same rows in other files, as compaction and replay leave them
    refolded = office.export(name="refolded")
    assert files_of(refolded) == files_of(first)
    office.lake.take(LINES[80:160])
    later = office.export(name="later")
    assert files_of(later) != files_of(first)
    assert files_of(office.export(name="as-of", as_of=moment)) == files_of(first)
    for table in EXPORTED:
        office.lake.expire(table)
    assert files_of(office.export(name="by-tag", tag=tag)) == files_of(first)
    assert office.verify(lake=(office.lake.catalog, 256)).whole
    with pytest.raises(UnknownMoment) as unknown:
        office.export(as_of=moment - timedelta(days=1))
    assert "oldest moment" in unknown.value.hint


def test_snapshots_that_tell_of_the_same_records_are_read(office: Office) -> None:
    with patch.object(office.lake, "fold"):
        office.lake.take(LINES[80:100])  # raw is ahead
    ahead = office.lake.offsets
    done = office.export()
    offsets = done.manifest.value["pinned"]["offsets"]
    assert sum(offsets["topic-1"].values()) == 80 < ahead.next_offset("topic-1", 0) * 2
    assert done.manifest.value["reconciliation"]["exported"]["breaks"] == []


def test_an_unknown_tag_is_said_with_those_there_are(office: Office) -> None:
    tag = tag_of(office.export().manifest.id)
    with pytest.raises(UnknownMoment) as unknown:
        office.export(tag="audit-of-last-year")
    assert tag in unknown.value.hint
    assert not list(office.store.root.glob(".partial-*"))


def test_no_tag_of_an_export_reads_like_a_card_number(office: Office) -> None:
    like_a_card, other = "d4274284302046bc", "d" * 16
    with patch("lakehouse.exports.export.token_hex", side_effect=[like_a_card, other]):
        first = office.export(name="first")
    assert first.manifest.id == other
    assert files_of(office.export(name="by-tag", tag=tag_of(first.manifest.id))) == files_of(first)


def test_what_is_read_follows_the_export_and_not_the_tables(office: Office) -> None:
    times = [p["event_ts"] for p in office.lake.load(PAYMENTS).scan().to_arrow().to_pylist()]
    day = {"start": min(times), "end": max(times) + timedelta(seconds=1)}
    payment = office.lake.load(PAYMENTS).scan().to_arrow().to_pylist()[0]
    account = f"account:{payment['account_id']}"
    with files_read() as before:
        first = office.export(name="first", **day)
        office.export(account, name="first-account", **day)
    for days in range(3, 7):
        at = min(times) - timedelta(days=days)
        ids = {"event_ts": at.isoformat(), "ingest_ts": at.isoformat()}
        office.lake.take((wire(f"other-{days}-{i}", account_id=f"a{i}", **ids) for i in range(20)), "bank")
    with files_read() as after:
        second = office.export(name="second", **day)
        office.export(account, name="second-account", **day)
    assert after == before
    assert files_of(second) == files_of(first)


def with_reference(office: Office) -> dict[str, Any]:
    payments: list[dict[str, Any]] = office.lake.load(PAYMENTS).scan().to_arrow().to_pylist()
    return next(payment for payment in payments if payment["transaction_ref"])


def test_a_transaction_is_found_without_a_range_and_without_reading_all_payments(office: Office) -> None:
    payment = with_reference(office)
    scope = f"transaction:{payment['transaction_ref']}"
    with files_read() as before:
        first = office.export(scope, name="first")
    for days in range(3, 7):
        at = payment["event_ts"] - timedelta(days=days)
        ids = {"event_ts": at.isoformat(), "ingest_ts": at.isoformat()}
        # Within what statistics know of the others: they do not tell that it is not here.
        refs = ("tx-0", "tx-z")
        lines = (
            wire(f"o-{days}-{i}", account_id=f"a{i}", transaction_ref=refs[i % 2], **ids) for i in range(20)
        )
        office.lake.take(lines, "bank")
    with files_read() as after:
        second = office.export(scope, name="second")
    assert first.manifest.value["rows"][PAYMENTS] >= 1
    assert after == before
    assert files_of(second) == files_of(first)


@pytest.mark.parametrize("scope", ["all", "transaction", "account"])
def test_progress_is_of_what_there_is_to_look_at_and_comes_to_its_end(office: Office, scope: str) -> None:
    payment = with_reference(office)
    value = {"transaction": payment["transaction_ref"], "account": payment["account_id"]}.get(scope)
    told: list[float] = []
    exporter = office.exporter(lambda done, total, _part: told.append(done / total))
    exporter.run(request(scope if value is None else f"{scope}:{value}"), "it")
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)


def test_an_export_of_nothing_says_so_and_blanks_name_nobody(office: Office) -> None:
    nothing = office.export("partner:bnak", name="nothing")
    assert any("nothing was found of partner:bnak" in said for said in nothing.as_json()["remarks"])
    assert not any("nothing was found" in said for said in office.export("partner:bank").as_json()["remarks"])
    with pytest.raises(WrongScope, match="blanks"):
        office.export("account: a1")


def test_what_does_not_add_up_is_said_again_by_who_verifies(office: Office) -> None:
    broken = {"breaks": ["events = members of payments: 29 against 30"]}
    made = statement.reconciled
    with patch.object(statement, "reconciled", lambda counts: made(counts) | broken):
        office.export(name="odd")
    assert any("odd/manifest.json: does not add up: events" in said for said in office.verify().remarks)


@contextmanager
def files_read() -> Iterator[Counter[str]]:
    """Count the data files that are opened of each table."""
    found: Counter[str] = Counter()
    read = Source.read

    def counting(self: Source, wanted: Any, tasks: Any) -> Any:
        found[".".join(self.table.name())] += len(tasks)
        return read(self, wanted, tasks)

    with patch.object(Source, "read", counting):
        yield found


# -- killed and run again ------------------------------------------------------------------------------------


def test_an_export_that_was_killed_goes_on_and_comes_to_the_same(office: Office) -> None:
    whole = office.export(name="whole")
    done: list[str] = []

    def die(_done: float, _total: float, part: str) -> None:
        done.append(part)
        if len(done) in (1, 2, 4):
            raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            office.exporter(die).run(request(), "killed")
    journal = next(office.store.root.glob(".partial-killed/journal.jsonl"))
    with journal.open("ab") as file:
        file.write(b'{"part": "torn')
    assert [one.state for one in listed_in(office.store)] == ["done", "begun"]
    again = office.exporter(die).run(request(), "killed")
    assert again.went_on
    assert files_of(again) == files_of(whole)
    assert len(done) == len(set(done)), "a part was done twice"
    assert office.verify().whole


def test_a_part_whose_file_is_gone_is_done_again(office: Office) -> None:
    parts: list[str] = []

    def die_once(_done: float, _total: float, part: str) -> None:
        parts.append(part)
        if len(parts) == 1:
            raise Killed

    with pytest.raises(Killed):
        office.exporter(die_once).run(request(), "lost")
    next(office.store.root.glob(".partial-lost/files/*/*.parquet")).write_bytes(b"")
    office.exporter(die_once).run(request(), "lost")
    assert parts[0] == parts[1]
    assert office.verify().whole


def test_a_crash_after_the_number_was_claimed_leaves_no_gap(office: Office) -> None:
    with patch.object(Exporter, "_put_in_place", side_effect=Killed), pytest.raises(Killed):
        office.export(name="claimed")
    office.export(name="other")
    done = office.export(name="claimed")
    assert (done.manifest.sequence, done.went_on) == (1, True)
    assert office.verify().whole
    assert [one.sequence for one in listed_in(office.store)] == [1, 2]


def test_the_same_request_again_is_a_new_export_unless_it_is_named(office: Office) -> None:
    first, second = office.export(), office.export()
    assert second.manifest.name == f"{first.manifest.name}-2"
    assert second.manifest.previous == first.manifest.sha256
    named = office.export(name="named")
    again = office.export(name="named")
    assert again.was_there
    assert again.manifest.data == named.manifest.data
    with pytest.raises(ExportError, match="of another request: scope differ"):
        office.export("account:a", name="named")


def test_exports_at_once_get_numbers_of_their_own(office: Office) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda i: office.export(name=f"at-once-{i}"), range(4)))
    assert sorted(d.manifest.sequence for d in done) == [1, 2, 3, 4]
    assert office.verify().whole


def test_one_export_is_written_by_one_process(office: Office) -> None:
    def another(*_: Any) -> None:
        with pytest.raises(ExportError, match="another process"):
            office.exporter().run(request(), "mine")

    office.exporter(another).run(request(), "mine")


# -- what raw no longer has ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_recorded", [True, False])
def test_records_that_retention_dropped_are_counted_and_others_are_an_error(
    office: Office, is_recorded: bool
) -> None:
    office.lake.lose(10, is_recorded)
    if not is_recorded:
        with pytest.raises(ExportError, match=r"lacks [0-9]+ records"):
            office.export(name="lost")
        return
    exported = office.export(name="retired").manifest.value["reconciliation"]["exported"]
    assert 0 < exported["not_kept"] <= 10
    assert exported["raw"] + exported["not_kept"] == exported["versions"] + exported["quarantined"]
    assert exported["breaks"] == []


# -- altered, and named --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """An office with one export, which each test puts back as it was."""
    office = office_in(tmp_path_factory.mktemp("intact"), LINES[:120])
    office.export(name="it", csv=True)
    return office


@pytest.fixture
def alter(intact: Office) -> Iterator[Callable[[str, bytes | None], None]]:
    """Change a file below the exports' folder, remove it or add it; it is as it was after the test."""
    before: dict[Path, bytes | None] = {}

    def change(name: str, data: bytes | None) -> None:
        path = intact.store.root / name
        before.setdefault(path, path.read_bytes() if path.exists() else None)
        path.unlink() if data is None else path.write_bytes(data)

    yield change
    for path, data in before.items():
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)


def independent(office: Office, target: Path) -> subprocess.CompletedProcess[str]:
    """Run a copy of the verifier that lies in the export, with nothing of ours on its path."""
    script = office.folder / "kept-verify.py"
    if not script.exists():
        script.write_bytes((office.store.root / "it" / "verify.py").read_bytes())
    return subprocess.run(
        [sys.executable, "-I", str(script), str(target), str(office.key_file())],
        cwd="/", env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_independent_verifier_is_short_and_finds_nothing_wrong(intact: Office) -> None:
    done = independent(intact, intact.store.root / "it")
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole: nothing was altered\n", "")
    text = (intact.store.root / "it" / "verify.py").read_text()
    assert len(text.splitlines()) < 100
    assert "lakehouse" not in text


def test_the_independent_verifier_says_when_it_takes_the_key_beside_it(intact: Office) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(intact.store.root / "it" / "verify.py")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    pem = (intact.store.root / "it" / "public-key.pem").read_bytes()
    assert done.returncode == 0, done.stderr
    assert f"may be replaced: compare sha256 {hashlib.sha256(pem).hexdigest()}" in done.stdout


def test_the_independent_verifier_breaks_off_at_nothing(
    intact: Office, alter: Callable[[str, bytes | None], None]
) -> None:
    alter(f"it/{SIGNATURE}", None)
    done = independent(intact, intact.store.root / "it")
    assert (done.returncode, SIGNATURE in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    alter(f"it/{MANIFEST}", b'{"files": 1}')
    done = independent(intact, intact.store.root / "it")
    assert (done.returncode, "cannot be read" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    assert "manifest.json: not what" in done.stderr, "what was found before is lost"


def test_a_proof_binds_its_index_and_table(intact: Office, tmp_path: Path) -> None:
    columns = pa.schema([("text", pa.string())])
    rows = pa.table({"text": ["one"]}, columns)
    entry = next(e for e in write_part(tmp_path, "t", "x", rows.to_batches(), columns, False) if e.root)
    data = json.dumps({"files": [entry.as_json()]})
    signature = intact.signer.sign(statement_of(data.encode())).hex()
    proof = {"table": "t", "file": entry.path, "index": 0, "row": {"text": "one"}, "path": []}
    proof |= {"manifest": data, "signature": signature}
    key = intact.signer.public_key.public_bytes_raw()
    assert list(verifier.wrong_in_proof(proof, key)) == []
    for change in ({"index": 1}, {"index": -1}, {"index": 40}, {"table": "u"}):
        assert list(verifier.wrong_in_proof(proof | change, key)) == [f"row: not in {entry.path}"], change


def test_one_flipped_byte_in_each_part_is_named_every_time(
    intact: Office, alter: Callable[[str, bytes | None], None]
) -> None:
    names = sorted(intact.store.names())
    assert {name.rsplit(".", 1)[-1] for name in names} == {
        "json",
        "sig",
        "parquet",
        "leaves",
        "csv",
        "py",
        "pem",
    }
    for number, name in enumerate(names):
        data = bytearray((intact.store.root / name).read_bytes())
        for position in {0, len(data) // 2, len(data) - 1}:
            flipped = bytearray(data)
            flipped[position] ^= 1 << number % 8
            alter(name, bytes(flipped))
            verified = intact.verify()
            assert any(f.where == name or name in f.what for f in verified.findings), (name, position)
        alter(name, bytes(data))
    assert intact.verify().whole


def test_the_independent_verifier_names_one_flipped_byte_too(
    intact: Office, alter: Callable[[str, bytes | None], None]
) -> None:
    kinds: dict[str, str] = {}
    for name in sorted(intact.store.under("it").names()):
        kinds[name.split("/")[0] + name.rsplit(".", 1)[-1]] = name
    for name in kinds.values():
        data = bytearray((intact.store.root / "it" / name).read_bytes())
        data[len(data) // 2] ^= 4
        alter(f"it/{name}", bytes(data))
        done = independent(intact, intact.store.root / "it")
        assert done.returncode == 1, name
        assert name in done.stderr or name in ("manifest.json",), (name, done.stderr)
        data[len(data) // 2] ^= 4
        alter(f"it/{name}", bytes(data))


def test_a_missing_a_truncated_and_an_added_file_are_named(
    intact: Office, alter: Callable[[str, bytes | None], None]
) -> None:
    first, second = [n for n in sorted(intact.store.names()) if n.endswith(".parquet")][:2]
    alter(first, None)
    alter(second, (intact.store.root / second).read_bytes()[:-100])
    alter("it/curated.payments/more.parquet", b"")
    said = found(intact.verify())
    assert f"{first}: missing" in said
    assert any(s.startswith(f"{second}: truncated") for s in said)
    assert any(s.startswith("it/curated.payments/more.parquet: not in the manifest") for s in said)


def test_the_row_that_was_altered_is_named(
    intact: Office, alter: Callable[[str, bytes | None], None]
) -> None:
    name = next(n for n in sorted(intact.store.names()) if f"{PAYMENTS}/" in n and n.endswith(".parquet"))
    rows = pq.read_table(intact.store.root / name)
    changed = rows.to_pylist()
    changed[1]["amount"] *= 2
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(changed, rows.schema), sink)
    alter(name, sink.getvalue().to_pybytes())
    said = [f.what for f in intact.verify().findings if f.where == name]
    assert len(said) == 1
    assert "row 1 (" in said[0]
    assert changed[1]["business_key"] in said[0]
    assert "row 0" not in said[0]


def test_a_manifest_that_says_other_sums_is_named_even_if_it_is_signed(
    intact: Office, alter: Callable[[str, bytes | None], None]
) -> None:
    value = json.loads((intact.store.root / "it" / MANIFEST).read_bytes())
    value["money"][0]["amount"] = "1.0000"
    value["rows"][PAYMENTS] += 1
    forged = Manifest.made(value)
    alter(f"it/{MANIFEST}", forged.data)
    alter(f"it/{SIGNATURE}", intact.signer.sign(statement_of(forged.data)))
    said = found(intact.verify("it"))
    assert said == [
        "manifest.json: its rows per table are not the sums of its files",
        "manifest.json: its totals of money are not those of its payments",
    ]


def test_another_key_and_the_key_beside_the_export(intact: Office, tmp_path: Path) -> None:
    stranger = made_signer(tmp_path / "stranger.pem")
    said = found(Verifier(intact.store.under("it"), [stranger.public_key]).run())
    assert said == [
        "manifest.json.sig: wrong: manifest.json or its signature was altered, or another key signed"
    ]
    beside = Verifier(intact.store.under("it")).run()
    assert beside.whole
    assert "--public-key" in beside.remarks[0]


def test_where_there_is_no_export_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no export in"):
        Verifier(FolderStore(tmp_path)).run()


# -- the chain -----------------------------------------------------------------------------------------------


def test_a_missing_export_and_a_missing_or_altered_link_are_named(office: Office) -> None:
    for name in ("one", "two", "three"):
        office.export("account:nobody", name=name)
    root = office.store.root
    (root / "two").rename(office.folder / "two")
    assert found(office.verify()) == [f"two: missing: the export of {link_of(2)} is gone"]
    link = root / link_of(2)
    data = link.read_bytes()
    link.unlink()
    assert f"{link_of(2)}: missing: the export of this number is gone" in found(office.verify())
    link.write_bytes(data.replace(b"case 4711", b"case 4712"))
    assert any(f.startswith(f"{link_of(3)}: does not follow {link_of(2)}") for f in found(office.verify()))
    link.write_bytes(data)
    (office.folder / "two").rename(root / "two")
    assert office.verify().whole


def test_a_chain_whose_end_was_cut_off_is_told_by_a_head_that_was_noted(office: Office) -> None:
    for name in ("one", "two"):
        office.export("account:nobody", name=name)
    head = office.verify().head
    assert head == Tail(2, office.export("account:nobody", name="three").manifest.previous or "")
    assert office.verify(heads=[head]).whole, "a head that is not the last one any more is still in it"
    for name, number in (("three", 3), ("two", 2)):
        shutil.rmtree(office.store.root / name)
        for end in ("", ".sig"):
            (office.store.root / f"{link_of(number)}{end}").unlink()
    assert office.verify().whole, "the folder alone tells it: then no head is needed"
    (said,) = found(office.verify(heads=[head]))
    assert said.startswith(f"{link_of(2)}: missing: ")
    office.export("account:somebody", name="two")
    (said,) = found(office.verify(heads=[head]))
    assert said.startswith(f"{link_of(2)}: is not the manifest that was noted")
    with pytest.raises(ExportError, match="no chain"):
        office.verify("one", heads=[head])


def test_the_lake_tells_what_an_export_that_was_signed_anew_should_say(office: Office) -> None:
    done = office.export(name="it")
    path = next((Path(done.place) / PAYMENTS).glob("*.parquet"))
    path.with_suffix(".leaves").unlink()
    path.unlink()
    value = json.loads(done.manifest.data)
    value["files"] = [f for f in value["files"] if not f["path"].startswith(f"{PAYMENTS}/{path.stem}")]
    forged = Manifest.made(value)
    (Path(done.place) / MANIFEST).write_bytes(forged.data)
    said = found(office.verify("it", lake=(office.lake.catalog, 256)))
    assert f"{PAYMENTS}/{path.name}: the lake gives this file too at the pinned snapshots" in said


# -- proofs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [PAYMENTS, VERSIONS, RAW])
def test_one_row_is_proven_without_the_rest(intact: Office, table: str) -> None:
    store, row = intact.store.under("it"), None
    path = sorted((intact.store.root / "it" / table).glob("*.parquet"))[0]
    row = pq.read_table(path).to_pylist()[-1]
    columns = {PAYMENTS: ["business_key", "transaction_ref"], VERSIONS: ["event_id", "content_hash"]}
    key = "/".join(str(row[c] or "-") for c in columns.get(table, ["topic_id", "partition", "offset"]))
    if table == RAW:
        key = f"{row['topic_id']}/{row['partition']}/{row['offset']}"
    proof = prove(store, table, key)
    file = intact.folder / "proof.json"
    file.write_text(json.dumps(proof))
    assert independent(intact, file).returncode == 0
    for change in ("row", "path", "manifest"):
        forged = json.loads(json.dumps(proof))
        if change == "row":
            forged["row"][next(k for k, v in forged["row"].items() if isinstance(v, str))] += "x"
        elif change == "path":
            forged["index"] += 1
        else:
            forged["manifest"] = forged["manifest"].replace("case 4711", "case 4712")
        file.write_text(json.dumps(forged))
        done = independent(intact, file)
        assert done.returncode == 1, change
        assert ("manifest" if change == "manifest" else "row") in done.stderr


def test_what_cannot_be_proven_is_said(intact: Office) -> None:
    store = intact.store.under("it")
    with pytest.raises(ExportError, match=r"no rows of curated\.nothing") as wrong:
        prove(store, "curated.nothing", "x")
    assert PAYMENTS in wrong.value.hint
    with pytest.raises(ExportError, match="no row of") as wrong:
        prove(store, PAYMENTS, "x")
    assert "BUSINESS_KEY/TRANSACTION_REF" in wrong.value.hint
    with pytest.raises(ExportError, match="no export in"):
        prove(intact.store.under("nothing"), PAYMENTS, "x")


# -- S3 with Object Lock: moto stands in for the store -------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="audit", ObjectLockEnabledForBucket=True)
        yield client


def test_on_s3_every_object_is_locked_and_verifies(office: Office, bucket: Any) -> None:
    store = store_at("s3://audit/exports", S3Access(), Lock("compliance", 7))
    assert isinstance(store, S3Store)
    local = office.export(name="local")
    exporter = Exporter(office.lake.catalog, store, office.folder / "work", office.signer, 256)
    done = exporter.run(request(), "remote")
    assert exporter.run(request(), "remote").was_there
    assert done.place == "s3://audit/exports/remote"
    assert done.manifest.files == local.manifest.files
    assert not list((office.folder / "work").glob(".partial-*"))
    for name in store.names():
        held = bucket.head_object(Bucket="audit", Key=f"exports/{name}")
        assert held["ObjectLockMode"] == "COMPLIANCE", name
        assert held["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(days=7 * 365)
    for part in (store, store.under("remote")):
        assert Verifier(part, [office.signer.public_key]).run().as_json()["findings"] == []
    assert [one.name for one in listed_in(store)] == ["remote"]
    key = office.rows(local, PAYMENTS)[0]["business_key"]
    assert prove(store.under("remote"), PAYMENTS, key)["table"] == PAYMENTS


def test_on_s3_a_number_is_claimed_once_and_an_export_that_was_killed_goes_on(
    office: Office, bucket: Any
) -> None:
    store = store_at("s3://audit", S3Access(), Lock())
    assert isinstance(store, S3Store)
    assert store.create("chain/00000001.json", b"a")
    assert not store.create("chain/00000001.json", b"b")
    bucket.delete_object(Bucket="audit", Key="chain/00000001.json")
    parts: list[str] = []

    def die_once(_done: float, _total: float, part: str) -> None:
        parts.append(part)
        if len(parts) == 1:
            raise Killed

    exporter = Exporter(office.lake.catalog, store, office.folder / "work", office.signer, 256, die_once)
    with pytest.raises(Killed):
        exporter.run(request(), "remote")
    assert exporter.run(request(), "remote").went_on
    assert len(parts) == len(set(parts))
    assert Verifier(store, [office.signer.public_key]).run().whole
    with pytest.raises(FileNotFoundError):
        store.read("nothing")


def test_a_folder_has_no_object_lock(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no Object Lock"):
        store_at(str(tmp_path), S3Access(), Lock("governance"))
