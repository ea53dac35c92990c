"""Merkle trees as in RFC 6962: a root over leaves, and the proof that one leaf is below it. Pure.

Belongs here: hashing. Does not: what a leaf is (`canonical_rows.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

EMPTY_ROOT = hashlib.sha256(b"").digest()
HASH_BYTES = 32


def leaf_hash(data: bytes) -> bytes:
    """Hash a leaf; the prefix keeps it apart from any node."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows leaf by leaf; keeps one hash for each binary digit of their number."""

    def __init__(self) -> None:
        self.size = 0
        self._full: list[bytes] = []  # roots of the full subtrees, the greatest first

    def add(self, leaf: bytes) -> None:
        """Add a leaf's hash."""
        self._full.append(leaf)
        self.size += 1
        size = self.size
        while size % 2 == 0:
            right = self._full.pop()
            self._full[-1] = node_hash(self._full[-1], right)
            size //= 2

    @property
    def root(self) -> bytes:
        """The root over all leaves so far."""
        if not self._full:
            return EMPTY_ROOT
        *others, found = self._full
        for left in reversed(others):
            found = node_hash(left, found)
        return found


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaves' hashes."""
    tree = Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root


def path_of(index: int, size: int, root_between: Callable[[int, int], bytes]) -> list[bytes]:
    """Return the audit path of a leaf, from its sibling up.

    Args:
        root_between: root over the leaves from a position (inclusive) to another (exclusive).
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} of {size}")
    path: list[bytes] = []
    first, last = 0, size
    while last - first > 1:
        middle = first + (1 << (last - first - 1).bit_length() - 1)
        if index < middle:
            path.append(root_between(middle, last))
            last = middle
        else:
            path.append(root_between(first, middle))
            first = middle
    return path[::-1]
