"""What the headers of a redriven record say: which one it stands for, when that came, which attempt this is.

Belongs here: writing and reading them. Does not: what follows from them (`streaming/redrive/state.py`,
`streaming/decode.py`). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from lakehouse.fold import Coordinates

Headers = tuple[tuple[str, bytes], ...]
OF, OF_TIME, FIRST_TIME, ATTEMPT = "redrive-of", "redrive-of-time", "redrive-first-time", "redrive-attempt"
MORE = "redrive-more"
NAMES = (OF, OF_TIME, FIRST_TIME, ATTEMPT, MORE)
# A topic's id is base64, by librdkafka with `+` and `/`: it ends at the last slash but one. No number is so
# long that a table could not hold it.
_WHERE = re.compile(r"([A-Za-z0-9+/=_-]{1,64})/([0-9]{1,9})/([0-9]{1,18})")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,5}")


class Mark(NamedTuple):
    """A record's claim to be the redrive of another one.

    Args:
        of: the record that it stands for.
        of_time: Kafka time of that one, by which the table's partition is found.
        first_time: Kafka time of the first one of all, if that was a redrive too; age is judged as of it.
        attempt: 1 for the redrive of a record that is none.
        has_more: another record for the same one follows in this partition, as from a file's row that stands
            for two events. Only the last one says that the first record is redriven: it is in when they are.
    """

    of: Coordinates
    of_time: datetime
    first_time: datetime
    attempt: int
    has_more: bool = False

    def headers(self) -> Headers:
        """Write it down."""
        texts = (written(self.of), _iso(self.of_time), _iso(self.first_time), str(self.attempt))
        said = tuple((name, text.encode()) for name, text in zip(NAMES[:-1], texts, strict=True))
        return (*said, (MORE, b"true")) if self.has_more else said


def read_mark(
    headers: Iterable[Mapping[str, Any]] | None, own: Coordinates, kafka_ts: datetime
) -> Mark | None:
    """Read a record's mark; None unless all of it is well-formed and can be true.

    Headers are bytes, and only some who write to the topic are ours: what makes no sense is no mark. A record
    stands for one that came before it, never for itself.

    Args:
        headers: of the record, as raw has them (`key`, `value`); of several of a name the first counts.
        own: where the record itself stands.
        kafka_ts: its Kafka time (UTC).
    """
    texts: dict[str, str] = {}
    for header in headers or ():
        if header["key"] in NAMES:
            texts.setdefault(header["key"], bytes(header["value"] or b"").decode("ascii", "replace"))
    of, of_time = read_coordinates(texts.get(OF, "")), _moment(texts.get(OF_TIME, ""))
    first_time, attempt = _moment(texts.get(FIRST_TIME, "")), texts.get(ATTEMPT, "")
    if of is None or of_time is None or first_time is None or not _ATTEMPT.fullmatch(attempt):
        return None
    if of == own or not first_time <= of_time <= kafka_ts:
        return None
    return Mark(of, of_time, first_time, int(attempt), MORE in texts)


def written(where: Coordinates) -> str:
    """Write coordinates as people and headers do: `TOPIC_ID/PARTITION/OFFSET`."""
    return f"{where.topic_id}/{where.partition}/{where.offset}"


def read_coordinates(text: str) -> Coordinates | None:
    """Read what `written` writes; None for anything else."""
    found = _WHERE.fullmatch(text)
    return Coordinates(found[1], int(found[2]), int(found[3])) if found else None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if _TIME.fullmatch(text) else None
    except ValueError:  # the 30th of February
        return None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
