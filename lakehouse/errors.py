"""Errors of the lakehouse room.

LakehouseError
├── TableMismatch        a table exists with another shape than its definition
├── UnknownMoment        a time, snapshot or tag that no table has
├── TrailUnwritable      the access trail cannot be written: what it was to record is not done
├── KeyringUnavailable   keys of persons cannot be reached: nothing personal is taken in or shown
├── ErasureRefused       an account whose values must be kept
├── ExportError          an audit export cannot be made, read or proven
│   ├── WrongScope           a scope or range that no export can have
│   └── SigningFailed        no key to sign with, or it did not
├── GateRefused          a gate cannot be overridden, or holds nothing back
├── RetentionRefused     days of raw that must not be dropped, or not yet
│   └── TooYoung             they have not been kept for long enough
├── HoldRefused          a legal hold that cannot be placed or released, or a ledger of holds not believed
├── ChainBroken          a chained ledger lost rows that it had: nothing is added to it
├── StoreRefused         the bucket cannot be locked as asked, or does not answer
├── PublishError
│   ├── AuditFailed          the staged rows break an invariant: nothing was published
│   ├── ConcurrentWriter     another writer consumed the same source: this one stops
│   ├── LostRace             main kept moving: gave up after bounded attempts
│   ├── OutcomeUnknown       the catalog never answered: safe to start again
│   └── RolledBack           main is behind its own progress: a person must look
"""

from __future__ import annotations

from quality.policy import FOREIGN_STAGE


class LakehouseError(Exception):
    """Base of what `lakehouse` raises. `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class TableMismatch(LakehouseError):
    """A table differs from its definition in more than an added column."""


class UnknownMoment(LakehouseError):
    """A time, snapshot or tag that cannot be read."""


class TrailUnwritable(LakehouseError):
    """An access could not be recorded, so it does not happen, or its result is not shown."""


class KeyringUnavailable(LakehouseError):
    """The keyring cannot be read or written, or has another master key."""


class ErasureRefused(LakehouseError):
    """Something stands against destroying an account's keys."""


class ExportError(LakehouseError):
    """An audit export that cannot be made, gone on with, read or proven."""


class WrongScope(ExportError):
    """A scope or range of event time that says nothing, or nothing that is known."""


class NameTaken(ExportError):
    """The name of an export is that of another one, or of something else."""


class SigningFailed(ExportError):
    """There is no key to sign with, or signing with it failed."""


class GateRefused(LakehouseError):
    """An override that the policy does not allow, or that has nothing to let pass."""


class RetentionRefused(LakehouseError):
    """Days of raw that somebody still needs, or that cannot be told apart from those that stay."""


class TooYoung(RetentionRefused):
    """Days of raw that have not been kept for as long as was promised."""


class HoldRefused(LakehouseError):
    """A hold that cannot be placed so, or that there is not; or nobody can tell which holds stand."""


class ChainBroken(LakehouseError):
    """A chained ledger was cut off, rolled back or written anew since it was last seen."""


class StoreRefused(LakehouseError):
    """A bucket that cannot be locked as the settings ask, or that does not answer."""


class PublishError(LakehouseError):
    """Base of what can stop a publish."""


class AuditFailed(PublishError):
    """The staged rows break an invariant; the stage was dropped unpublished. `gate` is the policy's row."""

    def __init__(self, message: str, hint: str = "", *, gate: str = FOREIGN_STAGE, table: str = "") -> None:
        super().__init__(message, hint)
        self.gate = gate
        self.table = table


class ConcurrentWriter(PublishError):
    """Another writer consumed the same source range."""


class LostRace(PublishError):
    """Others published first, again and again."""


class OutcomeUnknown(PublishError):
    """The catalog could not be asked whether the commit was applied."""


class RolledBack(PublishError):
    """The main branch no longer contains the snapshot that `progress` points to."""
