"""A file of events to send: JSONL as it is, or CSV through a partner profile.

Belongs here: telling which of the two it is, and reading messages off it. Does not: sending (`producer.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Literal

from streaming.dropzone.rows import masked_text, shows_card_number
from streaming.errors import InputFileError, ProfileError
from streaming.message import Message, message_of
from streaming.partners import Profile, RowMapper, find_profile, load_profiles, recognise

DEFAULT_SOURCE = "paywave-cli"
_PEEKED_LINES = 20
_NAMED_LINES = 20
_JSONL_NAMES = frozenset({".jsonl", ".ndjson", ".json"})


@dataclass
class Refused:
    """Lines that hold a card number in clear: how many, and the numbers of the first ones."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.lines) < _NAMED_LINES:
            self.lines.append(line)

    def __str__(self) -> str:
        named = ", ".join(map(str, self.lines)) + (", …" if self.count > len(self.lines) else "")
        return f"{self.count:,} not sent, with a card number in clear: line {named}"


class EventFile:
    """An open file; iterate `messages()` once. `bytes_read` of `size` (None: a pipe) is how far it is.

    Lines that hold a card number in clear are counted as `refused` instead, unless they are allowed.
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        size: int | None = None,
        *,
        profile: str | None = None,
        source: str | None = None,
        allow_card_numbers: bool = False,
    ) -> None:
        self.name = name
        self.refused = Refused()
        self._allows_card_numbers = allow_card_numbers
        self.size = size
        self.bytes_read = 0
        self._source = source
        self._stream = stream
        self._first = self._peek()
        self.profile = self._choose(profile)

    @property
    def format(self) -> Literal["jsonl", "csv"]:
        return "csv" if self.profile else "jsonl"

    def messages(self) -> Iterator[Message]:
        """Yield a message per line (JSONL) or event of a row (CSV). InputFileError if a read fails."""
        encoding = self.profile.encoding if self.profile else "utf-8"
        for number, of_line in self._mapped(self.profile) if self.profile else self._as_they_are():
            if self._allows_card_numbers or not any(shows_card_number(m.value, encoding) for m in of_line):
                yield from of_line
            else:
                self.refused.add(number)

    def _as_they_are(self) -> Iterator[tuple[int, list[Message]]]:
        source = self._source or DEFAULT_SOURCE
        for number, line in enumerate(self._lines(), start=1):
            yield number, [message_of(line.removesuffix(b"\n"), source)]

    def _mapped(self, profile: Profile) -> Iterator[tuple[int, list[Message]]]:
        lines = self._lines()
        header = profile.header(next(lines)) or []
        mapper = RowMapper(profile, header, masked_text(Path(self.name).name), self._source)
        for number, line in enumerate(lines, start=2):
            yield number, list(mapper.messages(line, number))

    def _lines(self) -> Iterator[bytes]:
        try:
            for line in chain(self._first, self._stream):
                self.bytes_read += len(line)
                yield line
        except OSError as error:
            raise InputFileError(
                f"cannot read on in {self.name} after {self.bytes_read:,} bytes: {error.strerror}",
                "send it again from the start: redeliveries change nothing",
            ) from None

    def _peek(self) -> list[bytes]:
        try:
            return list(islice(self._stream, _PEEKED_LINES))
        except OSError as error:
            raise InputFileError(f"cannot read {self.name}: {error.strerror}", "check the path") from None

    def _choose(self, name: str | None) -> Profile | None:
        header = self._first[0] if self._first else b""
        if name is not None:
            return self._insist(find_profile(name), header)
        profile = recognise(header, load_profiles().values())
        if profile is None and self._looks_like_csv():
            raise ProfileError(
                f"no profile fits {self.name}: its first line is {_shown(header)}",
                f"name one with --profile (known: {', '.join(load_profiles())}), or give a .toml file",
            )
        return profile

    def _insist(self, profile: Profile, header: bytes) -> Profile:
        if not profile.fits(header):
            missing = sorted(profile.columns - set(profile.header(header) or ()))
            raise ProfileError(
                f"profile {profile.name} does not fit {self.name}: no column {', '.join(missing)}",
                f"its first line is {_shown(header)}; leave --profile out to have the header recognised",
            )
        return profile

    def _looks_like_csv(self) -> bool:
        """A file that says so, or one that says nothing and shows no JSON; a pipe is taken as JSONL."""
        suffix = Path(self.name).suffix.lower()
        has_json = any(line.lstrip().startswith(b"{") for line in self._first)
        if suffix == ".csv":
            return not has_json
        return suffix not in _JSONL_NAMES and self.size is not None and self.size > 0 and not has_json


@contextmanager
def open_event_file(
    path: Path,
    *,
    profile: str | None = None,
    source: str | None = None,
    allow_card_numbers: bool = False,
) -> Iterator[EventFile]:
    """Open a file of events. Raises InputFileError if it cannot be read, ProfileError if no profile fits."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputFileError(
            f"cannot read {path}: {error.strerror}", "give a JSONL or CSV file, or - for standard input"
        ) from None
    with stream:
        size = path.stat().st_size if path.is_file() else None
        yield EventFile(
            stream, str(path), size,
            profile=profile, source=source, allow_card_numbers=allow_card_numbers,
        )  # fmt: skip


@contextmanager
def standard_input(
    stream: BinaryIO,
    *,
    profile: str | None = None,
    source: str | None = None,
    allow_card_numbers: bool = False,
) -> Iterator[EventFile]:
    """Events from a pipe, whose size is unknown; it is not closed."""
    yield EventFile(stream, "-", profile=profile, source=source, allow_card_numbers=allow_card_numbers)


def _shown(header: bytes) -> str:
    text = masked_text(header.rstrip(b"\r\n").decode("utf-8", "replace"))
    return repr(text if len(text) <= 120 else text[:119] + "…")
