"""The chain of exports: each manifest has the next number and the digest of the manifest before it.

Belongs here: claiming a number, and what is wrong with a chain. Does not: what else a manifest says.

The folder `chain` holds a copy of every manifest under its number. Creating that copy is what claims the
number: of two exports at once each gets its own, and one that dies right after finds its manifest there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lakehouse.chain import Tail
from lakehouse.errors import ExportError
from lakehouse.exports.manifest import Manifest
from lakehouse.exports.store import Store

FOLDER = "chain"
_DIGITS = 8
_TRIES = 1000


def link_of(sequence: int) -> str:
    """Name the copy of a manifest in the chain."""
    return f"{FOLDER}/{sequence:0{_DIGITS}}.json"


def links_in(names: set[str]) -> list[int]:
    """Find the numbers of the copies among the names in the chain's folder."""
    numbers = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(int(number) for number in numbers if number.isascii() and number.isdecimal())


def claimed_by(store: Store, export_id: str, after: int) -> Manifest | None:
    """Find the manifest of an export that died after its claim: among those after a number, newest first."""
    links = links_in(store.under(FOLDER).names())
    read = (Manifest.read(store.read(link_of(n))) for n in reversed(links) if n > after)
    return next((found for found in read if found.id == export_id), None)


def claim(
    store: Store,
    make: Callable[[int, str | None], Mapping[str, Any]],
    sign: Callable[[Manifest], bytes],
    export_id: str,
    after: int = 0,
) -> tuple[Manifest, bytes]:
    """Put an export at the end of the chain; done again it finds itself there.

    Args:
        make: makes the manifest from its number and the digest of the one before.
        sign: signs a manifest.
        after: a number that was taken before this export began: it can only have a later one.

    Returns the manifest and its signature. Raises `ExportError` if others are faster again and again.
    """
    found = claimed_by(store, export_id, after)
    last = max(links_in(store.under(FOLDER).names()), default=0)
    for _ in range(_TRIES):
        if found is not None:
            return found, _signature(store, found, sign)
        previous = Manifest.read(store.read(link_of(last))).sha256 if last else None
        made = Manifest.made(make(last + 1, previous))
        there = made if store.create(link_of(last + 1), made.data) else _read(store, last + 1)
        # Where the answer to the first request was lost, the one that was sent again finds the file there:
        # who is there decides, and not who was told so.
        found = there if there is not None and there.id == export_id else None
        last += there is not None
    raise ExportError("other exports took every next number of the chain", "run it again")


def wrong_in_chain(links: Mapping[int, Manifest]) -> Iterator[tuple[str, str]]:
    """Name the links that are missing or do not follow from the one before, and what is wrong with them."""
    yield from _twice(links)
    last = 0
    for number, link in sorted(links.items()):
        if number == last + 2:
            yield link_of(last + 1), "missing: the export of this number is gone"
        elif number > last + 2:  # one finding: whoever plants a large number is not to have millions made
            missing = f"{link_of(last + 1)} to {link_of(number - 1)}"
            yield missing, f"missing: the {number - last - 1:,} exports of these numbers are gone"
        last, before = number, links.get(number - 1)
        if link.sequence != number:
            yield link_of(number), f"is the manifest of number {link.sequence}"
        elif before is not None and link.previous != before.sha256:
            yield link_of(number), f"does not follow {link_of(number - 1)}: one of the two was altered"
        elif number == 1 and link.previous is not None:
            yield link_of(1), "says that there was one before it"


def wrong_by_heads(links: Mapping[int, Manifest], heads: Iterable[Tail]) -> Iterator[tuple[str, str]]:
    """Name what a chain has not any more, of ends of it that were noted elsewhere when they were its last."""
    for head in heads:
        link = links.get(head.seq)
        if link is None:
            yield (
                link_of(head.seq),
                "missing: a head was noted of this number, so the chain's end was cut off",
            )
        elif link.sha256 != head.link:
            yield link_of(head.seq), "is not the manifest that was noted as the head: it was written anew"


def head_of(links: Mapping[int, Manifest]) -> Tail | None:
    """Tell a chain's last number and the digest of its manifest; None where there is no link."""
    last = max(links, default=None)
    return None if last is None else Tail(last, links[last].sha256)


def _twice(links: Mapping[int, Manifest]) -> Iterator[tuple[str, str]]:
    """Name what two links say to be: a name is one folder, so of two exports one would be there for both."""
    names: dict[str, int] = {}
    ids: dict[str, int] = {}
    for number, link in sorted(links.items()):
        first = names.setdefault(link.name, number)
        if first != number:
            yield link_of(number), f"is of the name {link.name}, as is {link_of(first)}"
        first = ids.setdefault(link.id, number)
        if first != number:
            yield link_of(number), f"is of the export {link.id}, as is {link_of(first)}"


def _read(store: Store, number: int) -> Manifest | None:
    try:
        return Manifest.read(store.read(link_of(number)))
    except FileNotFoundError:  # S3 refused as another request was under way, and that one failed
        return None


def _signature(store: Store, manifest: Manifest, sign: Callable[[Manifest], bytes]) -> bytes:
    """Sign a link, once: the key may be another by now."""
    name = f"{link_of(manifest.sequence)}.sig"
    try:
        return store.read(name)
    except FileNotFoundError:
        signature = sign(manifest)
    store.put(name, signature)
    return signature
