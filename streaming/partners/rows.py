"""Rows of a partner's file become messages; a row that cannot be mapped goes on as it came.

Belongs here: applying a profile. Does not: what a profile is (`profile.py`), judging events (`quality/`).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from streaming.message import ARCHIVE, Headers, Message, message_from
from streaming.partners.profile import Profile

# The namespace of every id made from a row. Never change it: the same row must keep its id.
_NAMESPACE = UUID("6f1d3a52-8b1e-5c0a-9a57-2f6c7d1b4e90")
_PLACE = re.compile(r"\{([^{}]+)\}")
# Points stand between groups of three, one comma before the decimals.
_DECIMAL_COMMA = re.compile(r"-?(?:[0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+)(?:,[0-9]+)?")


class UnmappableRow(ValueError):
    """A row that does not fit its profile; it is sent as it came. Its message never says a value."""


class RowMapper:
    """Maps lines of one file. One line is one row: a quoted line end makes a row unmappable, not lost."""

    def __init__(self, profile: Profile, header: list[str], file: str, source: str | None = None) -> None:
        self._profile = profile
        self._header = header
        self._file = file.encode("utf-8", "replace")
        self._source = source or profile.source
        self._zone = ZoneInfo(profile.timezone)
        self._extra: Headers = ((ARCHIVE, b"true"),) if profile.archive else ()

    @property
    def profile(self) -> Profile:
        return self._profile

    @property
    def header(self) -> list[str]:
        """Names of the file's columns, in their order."""
        return self._header

    def messages(self, line: bytes, number: int) -> Iterator[Message]:
        """Yield the row's events; or its raw bytes with headers `file` and `line` if it cannot be mapped."""
        raw = without_line_end(line)
        if not raw:
            return
        try:
            events = self.events(raw)
        except UnmappableRow:
            where: Headers = (("file", self._file), ("line", b"%d" % number))
            yield message_from(raw, {}, self._source, (*self._extra, *where))
            return
        for fields in events:
            yield message_from(event_bytes(fields), fields, self._source, self._extra)

    def events(self, raw: bytes) -> list[dict[str, Any]]:
        """Map a row, without its line's end, to the events it stands for. Raises UnmappableRow."""
        return self._events(self._row(raw))

    def _row(self, raw: bytes) -> dict[str, str]:
        try:
            text = raw.decode(self._profile.encoding)
            (cells,) = csv.reader([text], delimiter=self._profile.delimiter, strict=True)
        except (UnicodeDecodeError, csv.Error, ValueError):
            raise UnmappableRow(f"no row of cells in {self._profile.encoding}") from None
        if len(cells) != len(self._header):
            raise UnmappableRow(f"{len(cells)} cells, {len(self._header)} columns")
        return {name: cell.strip() for name, cell in zip(self._header, cells, strict=True)}

    def _events(self, row: dict[str, str]) -> list[dict[str, Any]]:
        profile = self._profile
        fields: dict[str, Any] = {name: _fill(text, row) for name, text in profile.fields.items()}
        moment = self._moment(fields["event_ts"])
        fields["event_ts"] = _iso(moment)
        # derived from the row, so that a file sent again gives the same first ingest time
        fields["ingest_ts"] = _iso(moment + timedelta(seconds=profile.ingest_delay_seconds))
        fields["amount"] = self._amount(fields["amount"])
        fields["attributes"] = {name: _fill(text, row) for name, text in profile.attributes.items()}
        types = [fields["event_type"], *self._added(row)]
        return [{"event_id": self._id(kind, row), **fields, "event_type": kind} for kind in types]

    def _added(self, row: dict[str, str]) -> list[str]:
        adds = self._profile.adds
        if adds is None or row[adds.column] in adds.otherwise:
            return []
        if row[adds.column] not in adds.values:
            raise UnmappableRow(f"{adds.column} has a value that the profile does not know")
        return [adds.event_type]

    def _id(self, event_type: str, row: dict[str, str]) -> str:
        key = [self._profile.name, event_type, *(row[column] for column in self._profile.row_key)]
        return str(uuid5(_NAMESPACE, json.dumps(key)))

    def _moment(self, text: str) -> datetime:
        """Read a time; a naive one in the partner's zone. Of an hour that comes twice, the first is meant."""
        try:
            if self._profile.time_format == "iso":
                moment = datetime.fromisoformat(text)
            else:
                moment = datetime.strptime(text, self._profile.time_format)  # noqa: DTZ007  # zoned below
            if moment.tzinfo is None:
                local = moment.replace(tzinfo=self._zone)
                if local.astimezone(UTC).astimezone(self._zone).replace(tzinfo=None) != moment:
                    raise UnmappableRow(f"a time that does not exist in {self._profile.timezone}")
                moment = local
            return moment.astimezone(UTC)
        except UnmappableRow:
            raise
        except (ValueError, OverflowError):
            raise UnmappableRow(f"a time that is not written as {self._profile.time_format}") from None

    def _amount(self, text: str) -> str:
        """Make a decimal point of the partner's notation; whether it is an amount, the contract judges.

        A number in another notation is refused, never guessed at: 12.50 would become 1250.
        """
        if not self._profile.decimal_comma:
            return text
        if not _DECIMAL_COMMA.fullmatch(text):
            raise UnmappableRow("an amount that is not written with a decimal comma, as in 1.234,56")
        return text.replace(".", "").replace(",", ".")


def without_line_end(line: bytes) -> bytes:
    """A line's own bytes."""
    return line.removesuffix(b"\n").removesuffix(b"\r")


def event_bytes(fields: dict[str, Any]) -> bytes:
    """An event of a row as it goes to Kafka."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _fill(text: str, row: dict[str, str]) -> str:
    return _PLACE.sub(lambda place: row[place[1]], text)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
