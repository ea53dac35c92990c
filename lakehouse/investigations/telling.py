"""A story as lines of text for people. Pure.

Belongs here: words, order and layout. Does not: what happened (`plot.py`), printing (`cli/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from lakehouse.fold import Version
from lakehouse.investigations import story as kinds
from lakehouse.investigations.reasons import FLAGS, said, value
from lakehouse.investigations.rows import Row
from lakehouse.investigations.story import Entry, Publish, Seen, Story
from lakehouse.redrive_mark import written

LATE = timedelta(hours=1)
_NEW = (kinds.FIRST, kinds.DUPLICATE)
_HEADLINES = {
    kinds.FIRST: "{source} sent {what}",
    kinds.REDELIVERY: "{source} sent the same once more",
    kinds.CORRECTION: "{source} corrected it: {what}",
    kinds.SUPERSEDED: "{source} sent an older version: {what}",
    kinds.REVERSAL: "{source} took it back: {what}",
    kinds.DUPLICATE: "{source} sent the payment under another id: {what}",
    kinds.QUARANTINED: "{source} sent a record that breaks the contract: quarantined",
    kinds.HELD: "{source} sent a record while its slice was held: quarantined",
}


def lines_of(story: Story, most: int | None = None) -> Iterator[str]:
    """Tell the story, of at most so many records: the last ones."""
    letters = {event_id: _letter(i) for i, event_id in enumerate(story.events)}
    yield _title(story)
    if story.events:
        yield ""
        shown = list(letters.items())[: most or len(letters)]
        yield from (f"  event {letter}  {event_id}" for event_id, letter in shown)
        if len(shown) < len(letters):
            yield f"  and {len(letters) - len(shown):,} events more"
    yield from _headed("What happened, as Kafka took it", _entries(story, letters, most))
    yield from _headed(_state_title(story.seen), _state(story.seen, letters, most))
    if story.before is not None:
        yield from _headed(_state_title(story.before), _state(story.before, letters, most))
        yield from _headed("What changed between the two", story.changes or ("nothing",))
    publishes = story.publishes if most is None else story.publishes[-most:]
    yield from _headed("Since when readers see it, by what code and contract", map(_publish, publishes))
    yield from _headed("To note", story.notes)


def _title(story: Story) -> str:
    times = [s.at for s in (story.before, story.seen) if s is not None and s.at is not None]
    when = " and ".join(map(time_text, times)) or "now"
    return f"The story of {story.subject.kind} {story.subject.id}, as readers saw it {when}".replace(
        "saw it now", "see it now"
    )


def _headed(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield ""
        yield title
        yield from (f"  {line}" if line else "" for line in found)


def _entries(story: Story, letters: dict[str, str], most: int | None) -> Iterator[str]:
    numbers = {written(e.record.where): i for i, e in enumerate(story.entries, start=1)}
    left_out = max(0, len(story.entries) - most) if most is not None else 0
    if left_out:
        yield f"({left_out:,} earlier records are left out here; --limit shows more)"
    for entry in story.entries[left_out:]:
        yield from _entry(entry, letters, numbers)
    for version in story.missing:
        yield from _missing(version, letters)


def _entry(entry: Entry, letters: dict[str, str], numbers: dict[str, int]) -> Iterator[str]:
    r = entry.record
    number = numbers[written(r.where)]
    yield f"{number}. {time_text(r.kafka_ts)}  {_headline(entry, letters)}"
    came = f"   {r.way}; record {written(r.where)}"
    yield _numbered(came, numbers, but=number)
    if r.event is not None and r.kafka_ts - r.event.event_ts >= LATE:
        late = "late: " if entry.kind in _NEW else ""
        yield f"   {late}{span_text(r.kafka_ts - r.event.event_ts)} after it happened"
    yield from (f"   {_numbered(_lettered(why, letters), numbers)}" for why in entry.why)
    if r.event is None:
        yield f"   {_numbered(_quarantine(entry), numbers)}"
        return
    changes = "; ".join(_lettered(c, letters) for c in entry.changed) or "nothing"
    yield f"   changed in payments: {changes}"
    yield f"   {_since(entry.seen)}"
    if entry.superseded_by is not None and entry.kind != kinds.SUPERSEDED:
        yield _numbered(f"   superseded since, by record {written(entry.superseded_by)}", numbers)


def _headline(entry: Entry, letters: dict[str, str]) -> str:
    version, source = entry.record.version, entry.record.source or "somebody unnamed"
    what = ""
    if version is not None:
        reference = "" if version.transaction_ref is None else f", reference {version.transaction_ref}"
        what = f"{said(version)}{reference} ({_name(version, letters)})"
    return _HEADLINES[entry.kind].format(source=source, what=what)


def _quarantine(entry: Entry) -> str:
    state = entry.quarantine
    if state is None:
        return (
            f"judged here by contract {entry.record.contract_version}: the curated job has not come to it yet"
        )
    told = f"judged by contract {state.contract_version}; {state.state}"
    if state.redriven_by is None:
        return told
    when = "" if state.redriven_at is None else f" at {time_text(state.redriven_at)}"
    return f"{told}: sent again as record {state.redriven_by}{when}"


def _missing(version: Version, letters: dict[str, str]) -> Iterator[str]:
    where = "" if version.coordinates is None else f" (record {written(version.coordinates)})"
    yield f"-  {said(version)} ({_name(version, letters)}): raw has its record no more{where}"


def _name(version: Version, letters: dict[str, str]) -> str:
    return f"event {letters[version.event_id]}, version {version.content_hash[:8]}"


def _since(seen: Publish | None) -> str:
    if seen is None:
        return "readers have not seen it yet"
    return f"readers see it since {time_text(seen.published_at)}, snapshot {seen.snapshot_id}"


def _state_title(seen: Seen) -> str:
    if seen.at is None:
        return "What readers see now"
    how = "folded again from raw: its snapshot has expired" if seen.folded_again else "read at its snapshot"
    return f"What readers saw at {time_text(seen.at)} ({how})"


def _state(seen: Seen, letters: dict[str, str], most: int | None) -> Iterator[str]:
    if not seen.payments:
        yield "no payment"
    left_out = max(0, len(seen.payments) - most) if most is not None else 0
    if left_out:
        yield f"({left_out:,} earlier payments are left out here)"
    for row in seen.payments[left_out:]:
        reference = f", reference {row['transaction_ref']}" if row["transaction_ref"] is not None else ""
        yield (
            f"{row['event_type']} of {row['amount']} {row['currency']} at {row['merchant_id']}, "
            f"{row['status']}{reference}"
        )
        members = ", ".join(letters.get(e, e) for e in row["event_ids"])
        yield f"   account {row['account_id']}, happened {time_text(row['event_ts'])}, events {members}"
        yield from (f"   {flag}: {FLAGS.get(flag, '')}" for flag in row["flags"])
    for row in seen.transactions if most is None else seen.transactions[-most:]:
        yield _transaction(row)


def _transaction(row: Row) -> str:
    sums = ", ".join(
        f"{n.replace('_', ' ')} {row[n]}" for n in ("authorised", "captured", "refunded", "charged_back")
    )
    flags = f"; {value(row['flags'])}" if row["flags"] else ""
    name = row["transaction_ref"] or "without a reference"
    return f"transaction {name}: {row['status']}, net {row['net']} {row['currency']} ({sums}){flags}"


def _publish(publish: Publish) -> str:
    return (
        f"{time_text(publish.published_at)}  {publish.table} snapshot {publish.snapshot_id}"
        f"{'' if publish.is_kept else ' (expired since)'} by {publish.writer or 'somebody else'}, "
        f"contract {value(publish.contract_version)}, code {publish.code_version or 'not said'}"
    )


def _lettered(text: str, letters: dict[str, str]) -> str:
    for event_id, letter in letters.items():
        if event_id in text:
            text = text.replace(event_id, letter)
    return text


def _numbered(text: str, numbers: dict[str, int], but: int = 0) -> str:
    """Name records of the story by their numbers too."""
    for where, number in numbers.items():
        if number != but and text.partition(where)[1]:
            after = text.partition(where)[2]
            if not after[:1].isdigit():
                text = text.replace(where, f"{where} (no. {number})", 1)
    return text


def _letter(index: int) -> str:
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("A") + digit) + text
    return text


def time_text(moment: datetime) -> str:
    """Write a time in UTC, with as many digits as it has."""
    moment = moment.astimezone(UTC)
    digits = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%d %H:%M:%S}{digits}Z"


def span_text(span: timedelta) -> str:
    """Write a length of time in its two largest units."""
    minutes = span // timedelta(minutes=1)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    told = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(told[:2]) or "less than a minute"
