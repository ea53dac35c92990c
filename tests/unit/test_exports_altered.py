"""Exports that somebody altered, by whatever means: verifying names it, and never breaks off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.definitions import PAYMENTS
from lakehouse.exports.chain import link_of
from lakehouse.exports.manifest import MANIFEST, SIGNATURE, Manifest, statement_of
from lakehouse.exports.signing import made_signer
from lakehouse.exports.verification import Verifier
from tests.offices import LINES, Office, found, office_in


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """One export of few rows: its pages are so small that zstd stores some as they are."""
    office = office_in(tmp_path_factory.mktemp("small"), LINES[:12])
    office.export(name="it", csv=True)
    return office


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """Three exports in a chain."""
    office = office_in(tmp_path_factory.mktemp("three"), LINES[:40])
    for name, scope in (("a", "all"), ("b", "partner:bank"), ("c", "account:nobody")):
        office.export(scope, name=name)
    return office


@contextmanager
def altered(path: Path, data: bytes) -> Iterator[None]:
    """Replace a file's bytes while a block runs, or add it."""
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(data)
    try:
        yield
    finally:
        path.unlink() if before is None else path.write_bytes(before)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_byte_is_flipped_in_whatever_file_it_is_named(small: Office, data: Any) -> None:
    name = data.draw(st.sampled_from(sorted(small.store.names())), "file")
    content = bytearray((small.store.root / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1), "at")] ^= data.draw(st.integers(1, 255), "flipped")
    with altered(small.store.root / name, bytes(content)):
        for keys in ([small.signer.public_key], []):
            findings = Verifier(small.store, keys).run().findings
            assert any(f.where == name or name in f.what for f in findings)


@pytest.mark.parametrize(
    "key", ["rows", "money", "pinned", "request", "tool", "schemas", "created", "reconciliation"]
)
def test_a_manifest_whose_words_are_altered_is_named(small: Office, key: str) -> None:
    path = small.store.root / "it" / MANIFEST
    spoilt = path.read_bytes().replace(f'\n "{key}": '.encode(), f'\n "x{key}": '.encode())
    with altered(path, spoilt):
        said = found(small.verify(lake=(small.lake.catalog, 256)))
    assert any(s.startswith(f"it/{MANIFEST}: altered") for s in said)


@pytest.mark.slow  # beside the test of any byte of any file: a process is started for every flip
def test_a_file_of_rows_with_a_page_that_is_no_text_is_named(small: Office) -> None:
    path = next((small.store.root / "it" / PAYMENTS).glob("*.parquet"))
    name, data = path.relative_to(small.store.root).as_posix(), path.read_bytes()
    for at in range(4, min(len(data), 400), 7):
        with altered(path, data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]):
            assert any(f.where == name for f in small.verify().findings), at


def test_an_export_that_was_replaced_by_a_copy_of_another_is_missing(three: Office, tmp_path: Path) -> None:
    root = three.store.root
    shutil.move(root / "b", tmp_path / "b")
    shutil.copytree(root / "a", root / "b")
    try:
        said = found(three.verify())
    finally:
        shutil.rmtree(root / "b")
        shutil.move(tmp_path / "b", root / "b")
    assert f"b/{MANIFEST}: is the manifest of a" in said
    assert f"b: missing: the export of {link_of(2)} is gone" in said
    assert three.verify().whole


def test_a_copy_beside_the_exports_is_named(three: Office) -> None:
    shutil.copytree(three.store.root / "a", three.store.root / "d")
    try:
        assert found(three.verify()) == [f"d/{MANIFEST}: is the manifest of a"]
    finally:
        shutil.rmtree(three.store.root / "d")


@pytest.mark.parametrize("same", ["name", "id"])
def test_two_links_of_one_export_are_named(three: Office, same: str) -> None:
    links = [three.store.root / link_of(number) for number in (2, 3)]
    value = json.loads(links[1].read_bytes())
    value["export"][same] = json.loads(links[0].read_bytes())["export"][same]
    forged = Manifest.made(value)
    signature = three.signer.sign(statement_of(forged.data))
    with altered(links[1], forged.data), altered(Path(f"{links[1]}.sig"), signature):
        said = found(three.verify())
    assert any(s.startswith(f"{link_of(3)}: is of the ") and link_of(2) in s for s in said)


@pytest.mark.parametrize("name", [".added.csv", f"{PAYMENTS}/.more.parquet", ".hidden/file"])
def test_an_added_file_that_is_hidden_is_named(three: Office, name: str) -> None:
    path = three.store.root / "a" / name
    path.parent.mkdir(exist_ok=True)
    with altered(path, b"x"):
        assert [f.where for f in three.verify().findings] == [f"a/{name}"]
    if path.parent.name == ".hidden":
        path.parent.rmdir()


def test_what_a_killed_process_left_in_the_chain_is_no_finding(three: Office) -> None:
    with altered(three.store.root / "chain" / ".00000004.json.0a1b2c3d", b"{"):
        verified = three.verify()
    assert verified.whole
    assert "killed" in verified.remarks[0]


def test_without_a_key_the_chains_signatures_are_held_against_those_in_the_exports(three: Office) -> None:
    path = three.store.root / f"{link_of(2)}.sig"
    assert Verifier(three.store).run().whole
    with altered(path, bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]):
        said = Verifier(three.store).run().findings
    assert [f.where for f in said] == [f"{link_of(2)}.sig"]


def test_a_chain_that_several_keys_signed_is_verified_by_all_of_them(tmp_path: Path) -> None:
    office = office_in(tmp_path, LINES[:12])
    office.export("account:nobody", name="old")
    old, office.signer = office.signer, made_signer(tmp_path / "second.pem")
    office.export("account:nobody", name="new")
    said = found(office.verify())
    assert [s.split(":")[0] for s in said] == [f"{link_of(1)}.sig", f"old/{SIGNATURE}"]
    assert Verifier(office.store, [office.signer.public_key, old.public_key]).run().whole
