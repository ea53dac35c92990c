"""The ledger of files as a state machine: what a look at a file means, given all that is written of it.

Belongs here: states, versions, claims. Does not: where the ledger is kept (`lakehouse/file_ledger.py`). Pure.

Entries are only ever added; the newest of a name, and of a version, is the one that holds:

    waiting -> overdue -> waiting ...       not complete; overdue once people were told
    reading -> reading ... -> done          claimed by one dropzone, renewed, or taken over after a kill
                          \\-> rejected      wrong as a whole: no row of it went to Kafka
    repeated                                content that was done before, under this name or another
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Where a file, or one version of it, stands."""

    WAITING = "waiting"
    OVERDUE = "overdue"
    READING = "reading"
    DONE = "done"
    REJECTED = "rejected"
    REPEATED = "repeated"


SETTLED = frozenset({State.DONE, State.REJECTED, State.REPEATED})


@dataclass(frozen=True)
class Entry:
    """One entry. `seq` counts the entries of a name; counts are of rows, `events` of what they stand for.

    `starts` is where the topic ended when reading began, `offsets` the first and last record of the file,
    both per partition. `received_at` is when reading began first: rows are judged as of then. `totals`: the
    partner's control totals, as JSON.
    """

    partner: str
    name: str
    seq: int
    state: State
    changed_at: datetime
    fingerprint: str
    bytes: int
    version: int | None = None
    digest: str | None = None
    rows: int | None = None
    events: int | None = None
    accepted: int | None = None
    rejected: int | None = None
    topic_id: str | None = None
    starts: str | None = None
    offsets: str | None = None
    received_at: datetime | None = None
    owner: str | None = None
    claimed_until: datetime | None = None
    reason: str | None = None
    totals: str | None = None


class Found(NamedTuple):
    """A complete file: what it is called, what it holds, and the control totals that its partner says."""

    partner: str
    name: str
    fingerprint: str
    bytes: int
    digest: str
    totals: str | None = None


class Claim(NamedTuple):
    """Who wants to read, since when, and until when others stay away. `starts`: where the topic ends now."""

    owner: str
    now: datetime
    lease: timedelta
    topic_id: str
    starts: str


class Decision(NamedTuple):
    """What to write (None: nothing), and whether the version that it speaks of is ours to read now."""

    entry: Entry | None
    is_ours: bool


def newest(entries: Iterable[Entry], name: str) -> Entry | None:
    """Return the newest entry of a name."""
    return max((e for e in entries if e.name == name), key=lambda e: e.seq, default=None)


def open_versions(entries: Sequence[Entry]) -> list[Entry]:
    """List the versions that were begun and not settled, by the newest entry of each."""
    last: dict[tuple[str, int | None], Entry] = {}
    for entry in sorted(entries, key=lambda e: e.seq):
        if entry.version is not None:
            last[entry.name, entry.version] = entry
    return [entry for entry in last.values() if entry.state == State.READING]


def refuse(
    entries: Sequence[Entry], partner: str, name: str, fingerprint: str, size: int, *, why: str, now: datetime
) -> Entry | None:
    """Note that a file is refused without being read, once for each state in which it is seen."""
    if is_known(entries, name, fingerprint):
        return None
    seq = _next(entries, name)
    return Entry(partner, name, seq, State.REJECTED, now, fingerprint, size, reason=why)


def is_known(entries: Sequence[Entry], name: str, fingerprint: str) -> bool:
    """Tell whether a file stands settled just as it was seen, so that it need not be read."""
    last = newest(entries, name)
    return last is not None and last.state in SETTLED and last.fingerprint == fingerprint


def wait(
    entries: Sequence[Entry], partner: str, name: str, fingerprint: str, size: int, *,
    why: str, is_overdue: bool, now: datetime,
) -> Entry | None:  # fmt: skip
    """Note that a file is not complete: once when it is first seen, and once when that is too long."""
    last = newest(entries, name)
    state = State.OVERDUE if is_overdue else State.WAITING
    if last is not None and last.state in (State.WAITING, State.OVERDUE):
        is_same = last.fingerprint == fingerprint
        if last.state == state and (is_same or state == State.WAITING):
            return None
        if last.state == State.OVERDUE and is_same:
            return None
    return Entry(partner, name, _next(entries, name), state, now, fingerprint, size, reason=why)


def take(entries: Sequence[Entry], found: Found, claim: Claim) -> Decision:
    """Decide what becomes of a complete file; `entries` are all of its partner that share name or digest.

    Content that is done is repeated, under whatever name. Content that was begun is left alone until its
    claim runs out. All else is a new version of its name, the first one included.
    """
    if is_known(entries, found.name, found.fingerprint):
        return Decision(None, is_ours=False)
    begun = [e for e in open_versions(entries) if e.digest == found.digest]
    if begun and begun[0].name != found.name:  # it is gone on with under its own name first
        return Decision(None, is_ours=False)
    if begun:
        return take_over(entries, begun[0], claim)
    done = next((e for e in entries if e.digest == found.digest and e.state == State.DONE), None)
    if done is not None:
        return Decision(_repeated(entries, found, done, claim.now), is_ours=False)
    return Decision(_begun(entries, found, claim), is_ours=True)


def is_held(begun: Entry, now: datetime) -> bool:
    """Tell whether a version that was begun is to be left alone yet.

    By whoever claimed it, too: of what it sent and got no answer for, a part may stand in Kafka where nobody
    can read it before the replicas agree. The claim outlasts that.
    """
    return begun.claimed_until is not None and begun.claimed_until > now


def take_over(entries: Sequence[Entry], begun: Entry, claim: Claim) -> Decision:
    """Claim a version that was begun once its claim has run out; where it began stays."""
    if is_held(begun, claim.now):
        return Decision(None, is_ours=False)
    return Decision(claimed(entries, begun, claim), is_ours=True)


def claimed(entries: Sequence[Entry], begun: Entry, claim: Claim) -> Entry:
    """Write a claim down: a new one, or ours for longer."""
    return replace(
        begun,
        seq=_next(entries, begun.name),
        changed_at=claim.now,
        owner=claim.owner,
        claimed_until=claim.now + claim.lease,
    )


def is_still_ours(entries: Sequence[Entry], ours: Entry) -> bool:
    """Tell whether the version that we claimed by this entry has not been claimed by another since."""
    last = next((e for e in open_versions(entries) if (e.name, e.version) == (ours.name, ours.version)), None)
    return last is not None and last.owner == ours.owner


def settle(entries: Sequence[Entry], ours: Entry, state: State, now: datetime, **counts: object) -> Entry:
    """Write down how the reading of a version ended."""
    settled = replace(
        ours, seq=_next(entries, ours.name), state=state, changed_at=now, claimed_until=None, owner=None
    )
    return replace(settled, **counts)  # type: ignore[arg-type]


def _begun(entries: Sequence[Entry], found: Found, claim: Claim) -> Entry:
    versions = [e.version for e in entries if e.name == found.name and e.version is not None]
    again = [e.version for e in entries if e.name == found.name and e.digest == found.digest]
    return Entry(
        found.partner,
        found.name,
        _next(entries, found.name),
        State.READING,
        claim.now,
        found.fingerprint,
        found.bytes,
        # content that was rejected and comes again (a profile was mended) stays the version it was
        version=max((v for v in again if v is not None), default=max(versions, default=0) + 1),
        digest=found.digest,
        topic_id=claim.topic_id,
        starts=claim.starts,
        received_at=claim.now,
        owner=claim.owner,
        claimed_until=claim.now + claim.lease,
        totals=found.totals,
    )


def _repeated(entries: Sequence[Entry], found: Found, done: Entry, now: datetime) -> Entry:
    return replace(
        done,
        name=found.name,
        seq=_next(entries, found.name),
        state=State.REPEATED,
        changed_at=now,
        fingerprint=found.fingerprint,
        reason=f"the same content as {done.name}, version {done.version}",
        totals=found.totals or done.totals,  # a partner may put right what it said of the same content
    )


def _next(entries: Iterable[Entry], name: str) -> int:
    last = newest(entries, name)
    return 1 if last is None else last.seq + 1
