"""Errors of the streaming room.

StreamingError
├── GateClosed          a gate keeps a batch from being published; the last good state stays readable
├── EventRefused        an event of a service of ours breaks the contract, or holds a card number
├── BufferFull          there is no room for an event on its way to Kafka, now
├── SchemaError         schema files or the registry are not as they must be
├── WeakTopic           a topic breaks the durability rules, so nothing starts against it
├── SendError           events could not be sent; says how many were acknowledged
├── ProfileError        a partner profile is wrong, unknown or does not fit the file
├── RegistryError       the registry of partners is wrong, or a secret it names is not there
├── TokenKeyError       the keys of card tokens are wrong, or cannot be opened
├── RawRetired          records that retention dropped from raw are asked for
└── InputFileError      a file to send cannot be read
"""

from __future__ import annotations


class StreamingError(Exception):
    """Base of what `streaming` raises. `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class GateClosed(StreamingError):
    """A gate (`quality/policy.py`) is closed; it opens by itself once its cause is gone."""


class RawRetired(StreamingError):
    """Retention dropped records from raw that a reader has not read, or that are asked for."""


class SendError(StreamingError):
    """Sending stopped. `acknowledged` records are safe in Kafka, `failed` ones were refused or timed out."""

    def __init__(self, message: str, hint: str = "", *, acknowledged: int = 0, failed: int = 0) -> None:
        super().__init__(message, hint)
        self.acknowledged = acknowledged
        self.failed = failed


class EventRefused(StreamingError):
    """An event breaks the contract or holds a card number: it was not sent, and no value of it is told."""


class BufferFull(StreamingError):
    """Kafka takes less than is sent, and the memory for what is on its way is used up."""


class SchemaError(StreamingError):
    """Schema files cannot be read, or the registry refuses or does not answer."""


class WeakTopic(StreamingError):
    """A topic could lose what it acknowledged: nothing is started against it."""


class ProfileError(StreamingError):
    """A partner profile is wrong, unknown or does not fit the file."""


class RegistryError(StreamingError):
    """The registry of partners is wrong, or a secret that it names is not there."""


class TokenKeyError(StreamingError):
    """The keys of card tokens are wrong, or cannot be opened."""


class InputFileError(StreamingError):
    """A file to send cannot be read."""
