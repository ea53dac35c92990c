"""The keyring: each person's key, by account id, under a master key; and destroying a key for good.

Belongs here: what a keyring does, and the one that lies in a SQLite file. Does not: sealing with its keys
(`quality/sealing.py`), whose key may be destroyed (`erasure.py`), the master key (`cli/keys.py`).

A key is made once, however many ask for it first, and is on the disk before anything is sealed with it. One
that was destroyed leaves its row without the key: who that person is to us has ended then, and what comes
later is sealed with a new key, of the next generation.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from lakehouse.errors import KeyringUnavailable
from quality.sealing import KEY_BYTES, SubjectKey

_CONTEXT = b"paywave subject key v1"
_ID_LETTERS = 16
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_WAIT_S = 2.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS subject_keys (
    subject TEXT NOT NULL,
    generation INTEGER NOT NULL,
    key_id TEXT NOT NULL UNIQUE,
    wrapped BLOB,
    created_at TEXT NOT NULL,
    destroyed_at TEXT,
    reason TEXT,
    approver TEXT,
    actor TEXT,
    PRIMARY KEY (subject, generation)
)
"""
_OF_LIVING = "FROM subject_keys WHERE subject = ? AND wrapped IS NOT NULL"
_NEWEST = (
    "SELECT generation, key_id, wrapped FROM subject_keys WHERE subject = ? ORDER BY generation DESC LIMIT 1"
)
_LIVING = f"SELECT generation, key_id, wrapped {_OF_LIVING} ORDER BY generation"
_STATES = (
    "SELECT generation, key_id, created_at, destroyed_at, reason, approver, actor FROM subject_keys"
    " WHERE subject = ? ORDER BY generation"
)
_ALIVE = "SELECT 1 FROM subject_keys WHERE key_id = ? AND wrapped IS NOT NULL"
_INSERT = "INSERT INTO subject_keys (subject, generation, key_id, wrapped, created_at) VALUES (?, ?, ?, ?, ?)"
_OVERWRITE = (
    "UPDATE subject_keys SET wrapped = zeroblob(length(wrapped)) WHERE subject = ? AND wrapped IS NOT NULL"
)
_BURY = (
    "UPDATE subject_keys SET wrapped = NULL, destroyed_at = ?, reason = ?, approver = ?, actor = ?"
    " WHERE subject = ? AND wrapped IS NOT NULL"
)


class _Row(NamedTuple):
    """A key as the file has it; `wrapped` is None where it was destroyed."""

    generation: int
    key_id: str
    wrapped: bytes | None


class Order(NamedTuple):
    """Why a key is destroyed, who approved it, and who runs it."""

    reason: str
    approver: str
    actor: str


@dataclass(frozen=True)
class KeyState:
    """One key of a person, or what is left of it: it was destroyed where `destroyed_at` says so."""

    key_id: str
    generation: int
    created_at: datetime
    destroyed_at: datetime | None = None
    order: Order | None = None

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        gone = self.destroyed_at and self.destroyed_at.isoformat()
        told = {"key_id": self.key_id, "generation": self.generation}
        times = {"created_at": self.created_at.isoformat(), "destroyed_at": gone}
        return {**told, **times, **(self.order._asdict() if self.order else {})}


class Keyring(Protocol):
    """Keys of persons. Each method raises KeyringUnavailable where the keyring cannot be reached."""

    def made(self, subjects: Collection[str]) -> Mapping[str, SubjectKey]:
        """Give the key of each; make one, once, where there is none or the last one was destroyed."""
        ...

    def keys(self, subject: str) -> tuple[SubjectKey, ...]:
        """Give the keys of a person that there are, and make none."""
        ...

    def states(self, subject: str) -> tuple[KeyState, ...]:
        """Say which keys a person has and had, the oldest first."""
        ...

    def destroy(self, subject: str, order: Order) -> tuple[str, ...]:
        """Destroy a person's keys for good, and keep that they were. Returns their ids."""
        ...

    def alive(self, key_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Say which of these keys there are: those that were destroyed and came back with a backup."""
        ...


class SqliteKeyring:
    """A keyring in one file, for the processes of one machine; usable from several threads.

    Args:
        path: the file; made where there is none. A copy of it keeps the keys that are destroyed here.
        master: the master key, of `KEY_BYTES` bytes. Without it the file is worth nothing.
    """

    def __init__(self, path: Path, master: bytes) -> None:
        self._path = path
        self._master = AESSIV(master)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def made(self, subjects: Collection[str]) -> Mapping[str, SubjectKey]:
        """See `Keyring`. However many are made, it waits for the disk once."""
        with self._open() as file:
            found = {subject: _newest(file, subject) for subject in dict.fromkeys(subjects)}
            if not all(map(_is_alive, found.values())):
                with _changing(file):  # of two that find none, the second finds the first one's
                    for subject in found:
                        row = _newest(file, subject)
                        found[subject] = row if _is_alive(row) else self._made(file, subject, row)
            return {subject: self._unwrapped(subject, row) for subject, row in found.items() if row}

    def keys(self, subject: str) -> tuple[SubjectKey, ...]:
        """See `Keyring`."""
        with self._open() as file:
            rows = file.execute(_LIVING, (subject,)).fetchall()
            return tuple(self._unwrapped(subject, _Row(*row)) for row in rows)

    def states(self, subject: str) -> tuple[KeyState, ...]:
        """See `Keyring`."""
        with self._open() as file:
            rows = file.execute(_STATES, (subject,)).fetchall()
        return tuple(map(_state, rows))

    def destroy(self, subject: str, order: Order) -> tuple[str, ...]:
        """See `Keyring`. What held the key in the file is overwritten, in its journal too."""
        with self._open() as file:
            with _changing(file):
                found = file.execute(f"SELECT key_id {_OF_LIVING}", (subject,)).fetchall()
                # of the same length, so that it stands where the key stood, whatever becomes of free pages
                file.execute(_OVERWRITE, (subject,))
                file.execute(_BURY, (datetime.now(UTC).isoformat(), *order, subject))
            _forget_journal(file)
        return tuple(key_id for (key_id,) in found)

    def alive(self, key_ids: tuple[str, ...]) -> tuple[str, ...]:
        """See `Keyring`."""
        with self._open() as file:
            return tuple(key_id for key_id in key_ids if file.execute(_ALIVE, (key_id,)).fetchone())

    def close(self) -> None:
        """Close the file; it is opened again when it is asked for."""
        with self._lock:
            self._drop()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _connected(self._path)
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                self._drop()
                raise KeyringUnavailable(
                    f"the keyring {self._path} cannot be used: {error}",
                    "check the file and its disk; nothing was taken in without its key, send it again",
                ) from error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _made(self, file: sqlite3.Connection, subject: str, last: _Row | None) -> _Row:
        generation = 1 if last is None else last.generation + 1
        key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LETTERS))
        wrapped = self._master.encrypt(secrets.token_bytes(KEY_BYTES), _bound(subject, generation, key_id))
        file.execute(_INSERT, (subject, generation, key_id, wrapped, datetime.now(UTC).isoformat()))
        return _Row(generation, key_id, wrapped)

    def _unwrapped(self, subject: str, row: _Row) -> SubjectKey:
        try:
            bound = _bound(subject, row.generation, row.key_id)
            return SubjectKey(row.key_id, self._master.decrypt(row.wrapped or b"", bound))
        except (InvalidTag, ValueError):
            raise KeyringUnavailable(
                f"the keyring {self._path} has another master key, or its key {row.key_id} was altered",
                "check erasure.master_key; restore the keyring from its backup if the file is damaged",
            ) from None


@dataclass(frozen=True)
class KeyringConfig:
    """Where the keyring is, as plain values: processes open it for themselves.

    `cached` keys are kept in memory for `cached_s` seconds each: so long after its destruction a gateway may
    go on sealing with a key, and nobody can open that.
    """

    path: Path
    master: bytes = field(repr=False)
    cached: int = 10_000
    cached_s: float = 60.0

    def open(self) -> SqliteKeyring:
        """Open the keyring."""
        return SqliteKeyring(self.path, self.master)

    def cached_keys(self) -> CachedKeys:
        """Open the keyring for sealing, with a bounded memory of its keys."""
        return CachedKeys(self.open(), self.cached, self.cached_s)


class CachedKeys:
    """Gives keys of a keyring, and remembers the latest ones for a while; usable from several threads."""

    def __init__(self, keyring: Keyring, most: int, seconds: float) -> None:
        self._keyring, self._most, self._seconds = keyring, most, seconds
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, SubjectKey]] = OrderedDict()

    def __call__(self, subject: str) -> SubjectKey:
        """Give a person's key. Raises KeyringUnavailable."""
        known = self._remembered(subject)
        return known if known is not None else self.fetch((subject,))[subject]

    def missing(self, subjects: Iterable[str]) -> list[str]:
        """Say whose keys would have to be fetched."""
        return [subject for subject in dict.fromkeys(subjects) if self._remembered(subject) is None]

    def fetch(self, subjects: Collection[str]) -> Mapping[str, SubjectKey]:
        """Fetch keys, or have them made, all at once; it may wait for a disk. Raises KeyringUnavailable."""
        keys = self._keyring.made(subjects)
        until = time.monotonic() + self._seconds
        with self._lock:
            for subject, key in keys.items():
                self._known[subject] = (until, key)
                self._known.move_to_end(subject)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return keys

    def _remembered(self, subject: str) -> SubjectKey | None:
        with self._lock:
            until, key = self._known.get(subject, (0.0, None))
            if key is None or until <= time.monotonic():
                self._known.pop(subject, None)
                return None
            self._known.move_to_end(subject)
            return key


def _connected(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    file = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")  # a key that is lost takes what it sealed with it
        file.execute("PRAGMA secure_delete = ON")
        file.execute(_SCHEMA)
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def _changing(file: sqlite3.Connection) -> Iterator[None]:
    """Change the file alone, all or nothing."""
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        file.execute("ROLLBACK")
        raise


def _newest(file: sqlite3.Connection, subject: str) -> _Row | None:
    found = file.execute(_NEWEST, (subject,)).fetchone()
    return None if found is None else _Row(*found)


def _is_alive(row: _Row | None) -> bool:
    return row is not None and row.wrapped is not None


def _forget_journal(file: sqlite3.Connection) -> None:
    """Write the journal back and cut it to nothing: it held the pages as they were."""
    busy, *_ = file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:  # a reader holds on to an old page for a moment
        raise KeyringUnavailable(
            "the key is destroyed, but the keyring's journal could not be cleared yet",
            "run it again: it clears what is left",
        )


def _bound(subject: str, generation: int, key_id: str) -> list[bytes]:
    return [_CONTEXT, subject.encode("utf-8", "surrogatepass"), str(generation).encode(), key_id.encode()]


def _state(row: tuple[int, str, str, str | None, str, str, str]) -> KeyState:
    generation, key_id, created_at, destroyed_at, *order = row
    if destroyed_at is None:
        return KeyState(key_id, generation, datetime.fromisoformat(created_at))
    gone = datetime.fromisoformat(destroyed_at)
    return KeyState(key_id, generation, datetime.fromisoformat(created_at), gone, Order(*order))
