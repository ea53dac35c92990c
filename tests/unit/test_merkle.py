"""Merkle trees: against RFC 6962 as it is written, recursively; and each proof against its root."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.exports import verifier
from lakehouse.exports.merkle import EMPTY_ROOT, Tree, leaf_hash, node_hash, path_of, root_of

_leaves = st.lists(st.binary(max_size=4), max_size=70)


def naive_root(data: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = split(len(data))
    return hashlib.sha256(b"\x01" + naive_root(data[:k]) + naive_root(data[k:])).digest()


def naive_path(index: int, data: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(data) == 1:
        return []
    k = split(len(data))
    if index < k:
        return [*naive_path(index, data[:k]), naive_root(data[k:])]
    return [*naive_path(index - k, data[k:]), naive_root(data[:k])]


def split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def between(hashes: list[bytes]) -> Callable[[int, int], bytes]:
    return lambda first, last: root_of(hashes[first:last])


# The vectors of the reference implementation of Certificate Transparency.
CT_LEAVES = [
    b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57", b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "root"),
    [
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ],
)
def test_the_published_roots(size: int, root: str) -> None:
    assert root_of(map(leaf_hash, CT_LEAVES[:size])).hex() == root


def test_the_root_over_nothing() -> None:
    assert Tree().root == EMPTY_ROOT == naive_root([])


@given(_leaves)
def test_the_root_is_that_of_the_rfc_and_of_the_independent_verifier(data: list[bytes]) -> None:
    hashes = [leaf_hash(leaf) for leaf in data]
    tree = Tree()
    for number, leaf in enumerate(hashes, start=1):
        tree.add(leaf)
        assert tree.size == number
    assert tree.root == naive_root(data)
    assert verifier.root_of(hashes) == tree.root.hex()


def root_by_path(leaf: bytes, index: int, size: int, path: Iterable[bytes]) -> bytes | None:
    """The other way: the root that a leaf and its path lead to; None where it cannot be of that leaf."""
    if not 0 <= index < size:
        return None
    found, last = leaf, size - 1
    for other in path:
        if last == 0:
            return None
        if index % 2 or index == last:
            found = node_hash(other, found)
            while index % 2 == 0 and index:
                index, last = index >> 1, last >> 1
        else:
            found = node_hash(found, other)
        index, last = index >> 1, last >> 1
    return found if last == 0 else None


@given(_leaves.filter(bool), st.data())
def test_every_leaf_is_proven_by_its_path_and_by_no_other(data: list[bytes], draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, len(data) - 1))
    hashes = [leaf_hash(leaf) for leaf in data]
    path = path_of(index, len(data), between(hashes))
    assert path == naive_path(index, data)
    root = root_of(hashes)
    assert root_by_path(hashes[index], index, len(data), path) == root
    assert root_by_path(leaf_hash(data[index] + b"x"), index, len(data), path) != root
    assert root_by_path(hashes[index], index, len(data), [*path, root]) is None
    assert root_by_path(hashes[index], len(data), len(data), path) is None
    if path:
        assert root_by_path(hashes[index], index, len(data), path[:-1]) is None


def test_there_is_no_path_for_a_leaf_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="leaf 3 of 3"):
        path_of(3, 3, lambda _first, _last: b"")
