"""What becomes of one quarantined record: sent again, or why not.

Belongs here: that decision, and the message that is sent. Does not: Kafka, tables, whose turn it is. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lakehouse.fold import Coordinates
from lakehouse.quarantined import Quarantined, RawRecord
from lakehouse.redrive_mark import NAMES, Mark, read_mark
from quality.contract import Contract, Event
from quality.judge import judge
from streaming.dropzone.progress import Reason
from streaming.dropzone.rows import MASK, Taken
from streaming.message import ARCHIVE, Message
from streaming.partners.profile import Profile
from streaming.redrive.rows import taken_again

PASSES, BROKEN, TRIED, ON_ITS_WAY, HELD, MASKED, GONE = (
    "passes", "still broken", "tried too often", "on its way", "partner held", "card number masked",
    "not in raw",
)  # fmt: skip
# The trace of the first sending; the redrive has one of its own.
_TRACE = ("traceparent", "tracestate")


@dataclass(frozen=True)
class Terms:
    """What a record is held against.

    Args:
        contract: the version in force now.
        attempts: how often a record may be sent again before a person has to ask for more.
        on_their_way: records whose redrive Kafka holds already.
        profiles: of the partners that send CSV files, by source.
        held: partners, by source, whose slice a gate holds now: what is redriven goes past the hold.
    """

    contract: Contract
    attempts: int
    on_their_way: Collection[Coordinates] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    held: Collection[str] = ()


class Decision(NamedTuple):
    """What becomes of a record; `messages` where it passes, `rules` where it is still broken."""

    record: Quarantined
    outcome: str
    messages: tuple[Message, ...] = ()
    rules: tuple[str, ...] = ()


class Candidate(NamedTuple):
    """A quarantined record, what raw has of it, and the mark that it would be sent again with."""

    record: Quarantined
    raw: RawRecord
    mark: Mark


def decide(record: Quarantined, raw: RawRecord | None, terms: Terms) -> Decision:
    """Decide about one open record; `raw` is None where raw does not have it any more."""
    if raw is None:
        return Decision(record, GONE)
    candidate = Candidate(record, raw, _next_mark(record, raw))
    for outcome, keeps_back in _KEPT_BACK:
        if keeps_back(candidate, terms):
            return Decision(record, outcome)
    found = _judged(candidate, terms)
    if found.reasons:
        return Decision(record, BROKEN, rules=tuple(sorted({reason.rule for reason in found.reasons})))
    return Decision(record, PASSES, found.messages)


# What keeps a record back whatever its contract says, in the order in which it is asked.
_KEPT_BACK: tuple[tuple[str, Callable[[Candidate, Terms], bool]], ...] = (
    (ON_ITS_WAY, lambda c, terms: c.record.where in terms.on_their_way),
    (HELD, lambda c, terms: c.record.source in terms.held),
    (TRIED, lambda c, terms: c.mark.attempt > terms.attempts),
    # what stands there instead would pass for a value
    (MASKED, lambda c, _terms: MASK.encode() in (c.raw.value or b"")),
)


def _next_mark(record: Quarantined, raw: RawRecord) -> Mark:
    headers = [{"key": name, "value": value} for name, value in raw.headers]
    before = read_mark(headers, record.where, record.kafka_ts)
    first_time, attempts = (before.first_time, before.attempt) if before else (record.kafka_ts, 0)
    return Mark(record.where, record.kafka_ts, first_time, attempts + 1)


def _judged(candidate: Candidate, terms: Terms) -> Taken:
    """Judge a record as it came; a rejected row of a file is taken in again instead."""
    record, raw, mark = candidate
    profile = terms.profiles.get(record.source)
    row = taken_again(raw, record.source, mark.first_time, terms.contract, profile)
    if row is not None:
        *others, last = row.messages
        more = mark._replace(has_more=True)
        return row._replace(messages=(*(_marked(m, more) for m in others), _marked(last, mark)))
    verdict = judge(raw.value, mark.first_time, terms.contract, (ARCHIVE, b"true") in raw.headers)
    if isinstance(verdict, Event):
        headers = tuple((name, value) for name, value in raw.headers if value is not None)
        return Taken((_marked(Message(raw.value or b"", raw.key, headers), mark),))
    return Taken((), tuple(Reason(v.rule, v.field, v.message) for v in verdict))


def _marked(message: Message, mark: Mark) -> Message:
    """Add a mark, in the place of an earlier one."""
    kept = tuple((name, value) for name, value in message.headers if name not in (*NAMES, *_TRACE))
    return message._replace(headers=(*kept, *mark.headers()))
