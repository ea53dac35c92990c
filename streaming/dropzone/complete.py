"""Is a file complete? By a manifest, a checksum or a marker beside it, or by not having changed for long.

Belongs here: that decision. Does not: listing folders, computing digests (`landing.py`). Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from quality.control_totals import ControlTotal, WrongTotals, read_totals
from streaming.dropzone.names import DIGEST, DONE, MANIFEST, SIDECARS, is_under_way

Rule = Literal["marker", "stable"]
_SHA256 = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)


class BadSidecar(ValueError):
    """A manifest, checksum or marker that says nothing we understand."""


@dataclass(frozen=True)
class Seen:
    """A file as listed. `fingerprint` differs whenever it was written to; times are by the store's clock."""

    name: str
    size: int
    changed_at: datetime
    fingerprint: str


@dataclass(frozen=True)
class Promise:
    """What the partner says of a file; None where it says nothing of it.

    A file that breaks its `totals` is read all the same: they speak of money, and reconciliation of them.
    """

    digest: str | None = None
    size: int | None = None
    rows: int | None = None
    totals: tuple[ControlTotal, ...] | None = None


@dataclass(frozen=True)
class Copy:
    """What a file held when it was copied."""

    digest: str
    size: int
    ends_a_line: bool


@dataclass(frozen=True)
class Arrived:
    """A complete file: its copy, and what was said of it."""

    copy: Copy
    promise: Promise


@dataclass(frozen=True)
class Rules:
    """When a partner's files count as complete. `marker`: never without a word of the partner's."""

    complete: Rule = "marker"
    stable: timedelta = timedelta(minutes=5)
    overdue: timedelta = timedelta(hours=1)


@dataclass(frozen=True)
class Ready:
    """A file that may be read. Its content must keep the promise yet, see `breach`."""

    promise: Promise


@dataclass(frozen=True)
class Waiting:
    """A file that is not complete, and why. Overdue: it has not changed for so long that people must know.

    `copied` is the digest of a copy that was made to find out.
    """

    why: str
    is_overdue: bool
    copied: str | None = None


def look(
    file: Seen, beside: Mapping[str, tuple[Seen, bytes]], rules: Rules, now: datetime
) -> Ready | Waiting:
    """Decide by what can be seen without reading the file.

    Args:
        file: the file.
        beside: what goes with it, by suffix, with content.
        rules: the partner's.
        now: by the clock of the store.
    """
    age = now - file.changed_at
    try:
        promise = _promise(file, beside)
    except BadSidecar as error:
        return Waiting(str(error), age >= rules.overdue)
    if is_under_way(file.name):
        why = "the name says that its upload is under way"
    elif promise is None and rules.complete == "marker":
        why = "no marker, checksum or manifest beside it that is as new as the file"
    elif promise is None and age < rules.stable:
        why = "it has changed lately"
    elif promise is not None and promise.size not in (None, file.size):
        why = f"{file.size} bytes, the manifest says {promise.size}"
    else:
        return Ready(promise or Promise())
    return Waiting(why, age >= rules.overdue)


def breach(
    promise: Promise, copy: Copy, rows: int | None, seen: Seen, now: datetime, rules: Rules
) -> Waiting | None:
    """Decide by the content whether a file that is ready is cut off all the same; None: it is complete.

    A file without a promise must end with a line's end: else its last row may be cut in two. `rows` need
    only be counted where they were promised.
    """
    if promise.digest not in (None, copy.digest):
        why = "its sha256 is not the one that was promised"
    elif copy.size != seen.size:
        why = "it changed while it was read"
    elif promise == Promise() and rules.complete == "stable" and not copy.ends_a_line:
        why = "its last line has no end"
    elif promise.rows not in (None, rows):
        why = f"{rows} rows, the manifest says {promise.rows}"
    else:
        return None
    return Waiting(why, now - seen.changed_at >= rules.overdue)


def _promise(file: Seen, beside: Mapping[str, tuple[Seen, bytes]]) -> Promise | None:
    for suffix in SIDECARS:
        if suffix not in beside:
            continue
        sidecar, content = beside[suffix]
        promise = read_promise(suffix, content)
        # Without a digest only its time tells that it does not speak of what the file held before.
        if promise.digest is not None or sidecar.changed_at >= file.changed_at:
            return promise
    return None


def read_promise(suffix: str, content: bytes) -> Promise:
    """Read what stands beside a file: empty or a sha256 (`.done`), the output of `sha256sum`, or a manifest.

    Raises BadSidecar.
    """
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise BadSidecar(f"its {suffix} is not UTF-8") from None
    if suffix == DONE and not text:
        return Promise()
    if suffix in (DONE, DIGEST):
        first = text.split(maxsplit=1)[0].removeprefix("\\") if text else ""
        return Promise(digest=_digest(first, suffix))
    return _manifest(text)


def _manifest(text: str) -> Promise:
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BadSidecar(f"its {MANIFEST} is no JSON") from None
    if not isinstance(fields, dict) or not fields.keys() & {"sha256", "bytes", "rows"}:
        raise BadSidecar(f"its {MANIFEST} says none of sha256, bytes and rows")
    digest, totals = fields.get("sha256"), fields.get("totals")
    return Promise(
        None if digest is None else _digest(digest, MANIFEST),
        _count(fields, "bytes"),
        _count(fields, "rows"),
        None if totals is None else _totals(totals),
    )


def _totals(said: Any) -> tuple[ControlTotal, ...]:
    try:
        return read_totals(said)
    except WrongTotals as error:
        raise BadSidecar(f"its {MANIFEST} says totals that are none: {error}") from None


def _digest(text: Any, suffix: str) -> str:
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        raise BadSidecar(f"its {suffix} holds no sha256 in hex")
    return text.lower()


def _count(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise BadSidecar(f"its {MANIFEST} says {name} by no count")
    return value
