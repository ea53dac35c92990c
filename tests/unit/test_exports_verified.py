"""Verifying exports of a small lake: any change of a file, of the chain or of a row is named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.chain import Tail
from lakehouse.definitions import PAYMENTS, RAW, VERSIONS
from lakehouse.errors import ExportError
from lakehouse.exports import verifier
from lakehouse.exports.chain import link_of
from lakehouse.exports.manifest import MANIFEST, SIGNATURE, Manifest, statement_of
from lakehouse.exports.parts import write_part
from lakehouse.exports.proof import prove
from lakehouse.exports.signing import made_signer
from lakehouse.exports.store import FolderStore
from lakehouse.exports.verification import Verifier
from tests.offices import LINES, Office, found, office_in


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return office_in(tmp_path, LINES[:80])


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
    changed[1]["amount"] += 1
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
