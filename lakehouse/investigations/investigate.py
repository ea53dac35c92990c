"""An investigation from its question to its story, and what it took to read.

Belongs here: the order of the steps, and saying where nothing was found. Does not: any of the steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog

from lakehouse.definitions import PAYMENTS, RAW, VERSIONS
from lakehouse.investigations.find import Finder, Span
from lakehouse.investigations.lookup import Effort, OnFile
from lakehouse.investigations.plot import tell
from lakehouse.investigations.seen import Readers
from lakehouse.investigations.story import Seen, Story
from lakehouse.investigations.subject import EVENT, TRANSACTION, NothingFound, Subject
from lakehouse.refs import read_head
from lakehouse.retired import Retired

_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        at: as readers saw it then; None: as they see it now.
        before: a time before `at`, to be compared with it.
        span: event time to look in, where that is known.
    """

    subject: Subject
    at: datetime | None = None
    before: datetime | None = None
    span: Span = Span()  # noqa: RUF009  # it never changes


@dataclass(frozen=True)
class Answer:
    """The story, and what it took, table by table."""

    story: Story
    efforts: tuple[Effort, ...]


def investigate(catalog: RestCatalog, question: Question, on_file: OnFile | None = None) -> Answer:
    """Find what the lake has of a subject and put its story together.

    Raises:
        NothingFound: nothing mentions the id; says where it was looked for.
        UnknownMoment: nothing was published yet at the time that is asked for.
    """
    attributes = {"kind": question.subject.kind}
    with _tracer.start_as_current_span("investigate", attributes=attributes):
        finder = Finder(catalog, question.subject, question.span, question.at, on_file)
        evidence = finder.find()
        if not evidence.records and not evidence.stored:
            raise _nothing(question, finder.efforts)
        readers = Readers(catalog, evidence, finder.groups)
        evidence.publishes = readers.publishes()
        seen = readers.at(question.at)
        before = readers.at(question.before) if question.before is not None else None
        retired = read_head(catalog, RAW).retired, read_head(catalog, VERSIONS).retired
        story = tell(evidence, seen, before, _notes(question, seen, before, *retired))
        if not story.entries and not story.missing:
            raise _nothing(question, finder.efforts)
        return Answer(story, tuple(e for e in (*finder.efforts, *readers.efforts) if e.files))


def _notes(
    question: Question, seen: Seen, before: Seen | None, retired: Retired, curated: Retired
) -> Iterator[str]:
    if question.at is not None:
        yield "only what readers had then is told; leave the time out for what came since"
    for state in (before, seen):
        if state is not None and state.folded_again and state.published is not None:
            yield (
                f"snapshot {state.published.snapshot_id} of {PAYMENTS} has expired: its rows were folded "
                "again from raw up to its logged offsets, by the contracts of the records' times"
            )
    if retired.before is not None:
        yield f"raw begins at {retired.before.isoformat()}: of older records only the versions are known"
    if curated.before is not None:
        yield f"versions and payments of events before {curated.before.isoformat()} went by retention"


def _nothing(question: Question, efforts: Iterable[Effort]) -> NothingFound:
    kind, id_ = question.subject
    looked = "; ".join(_looked(effort) for effort in efforts)
    times = [f" as of {question.at.astimezone(UTC).isoformat()}"] if question.at is not None else []
    if any(question.span):
        start, end = (t.isoformat() if t is not None else "open" for t in question.span)
        times.append(f" for event times from {start} to {end}")
    hint = "check the id, its upper and lower case too; the raw job may not have come to it yet"
    if kind == TRANSACTION:
        hint += "; a reference that only broken records carry is found by their account"
    if kind == EVENT:
        hint += (
            "; a record that is no JSON, or whose producer set no header ce_id, is not found by its event id"
        )
    return NothingFound(f"nothing mentions {kind} {id_}{''.join(times)}: looked in {looked}", hint)


def _looked(effort: Effort) -> str:
    left = effort.files - len(effort.planned)
    denied = len(effort.denied - effort.read.keys())
    return (
        f"{effort.table} ({effort.files:,} files: {left:,} ruled out by partition and statistics, "
        f"{denied:,} by Bloom filters, {len(effort.read):,} read)"
    )
