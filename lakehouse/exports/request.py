"""What is asked of an export: scope, range of event time, moment, reason. Pure.

Belongs here: reading and holding a request. Does not: finding its rows (`selection.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.errors import ExportError, WrongScope
from lakehouse.exports.canonical_rows import plain
from quality.cards import holds_card_number

# Kind of scope -> the column of curated.payments that it is told by.
COLUMN_OF = {
    "account": "account_id",
    "transaction": "transaction_ref",
    "merchant": "merchant_id",
    "partner": "source",
}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ALLOWED = "allowed are: all, account:ID, transaction:REF, merchant:ID, partner:NAME"


@dataclass(frozen=True)
class Scope:
    """Which payments: all, or those whose row, as readers saw it, has this value in the kind's column."""

    kind: str
    value: str | None = None

    def __str__(self) -> str:
        return self.kind if self.value is None else f"{self.kind}:{self.value}"

    @property
    def column(self) -> str | None:
        """Column of curated.payments that tells it; None for all."""
        return COLUMN_OF.get(self.kind)

    @property
    def tells_quarantine(self) -> bool:
        """Whether rows of quarantine can be told to be of it: of them only time and partner are known."""
        return self.kind in ("all", "partner")


def parse_scope(text: str) -> Scope:
    """Read a scope. Raises `WrongScope`, listing what is allowed."""
    kind, colon, value = text.partition(":")
    if text == "all":
        return Scope("all")
    if kind == "all":
        raise WrongScope(f"the scope {text!r} is wrong: all takes no value", _ALLOWED)
    if kind not in COLUMN_OF:
        raise WrongScope(f"the scope {text!r} is of no known kind", _ALLOWED)
    if not colon or not value.strip():
        raise WrongScope(f"the scope {text!r} does not say which {kind}", _ALLOWED)
    return Scope(kind, value)


@dataclass(frozen=True)
class Request:
    """An export as asked for. Times carry an offset; `start` (inclusive) and `end` are event times.

    Args:
        as_of: what readers saw then; with `tag`, at that tag; with neither, now.
        csv: write each file as CSV too.
        standing: made again when late data reach it, so it is of what readers see now.
    """

    scope: Scope
    reason: str
    requested_by: str
    start: datetime | None = None
    end: datetime | None = None
    as_of: datetime | None = None
    tag: str | None = None
    csv: bool = False
    standing: bool = False

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ExportError(
                "an export needs a reason", "give --reason, in words that an auditor understands"
            )
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise WrongScope(
                f"the range from {self.start.isoformat()} to {self.end.isoformat()} is empty",
                "--from is inclusive, --to is exclusive",
            )
        if self.as_of is not None and self.tag is not None:
            raise ExportError("a time and a tag name two moments", "give one of --as-of and --tag")
        if self.standing and (self.as_of is not None or self.tag is not None):
            raise ExportError(
                "what is of one moment never changes, so it cannot stand", "leave out --as-of and --tag"
            )

    def check_new(self, now: datetime, name: str | None = None) -> None:
        """Refuse what must not be asked for; what was exported before such a rule can still be read.

        Raises `ExportError` for a moment that is to come, whose readers nobody knows, for blanks around a
        name, and for a card number: manifests keep every word in clear, for years, and nobody can delete it.
        """
        if self.as_of is not None and self.as_of > now:
            raise ExportError(
                f"{self.as_of.isoformat()} lies in the future: what readers will see is not known",
                "leave out --as-of for what they see now",
            )
        value = self.scope.value
        if value is not None and value != value.strip():
            raise WrongScope(f"the scope {str(self.scope)!r} has blanks around its name", _ALLOWED)
        words = {"scope": str(self.scope), "reason": self.reason, "requested-by": self.requested_by}
        for option, text in (words | {"tag": self.tag, "name": name}).items():
            if text is not None and holds_card_number(text):
                raise ExportError(
                    f"--{option} holds a card number, and a manifest keeps it in clear",
                    "say it by account, transaction or case number",
                )

    @property
    def default_name(self) -> str:
        """A name that is the same for the same request, so that it goes on where it was."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return f"{self.scope.kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def as_json(self) -> dict[str, Any]:
        """Render for the manifest."""
        return {
            "scope": str(self.scope),
            "from": time_text(self.start),
            "to": time_text(self.end),
            "as_of": time_text(self.as_of),
            "tag": self.tag,
            "reason": self.reason,
            "requested_by": self.requested_by,
            "csv": self.csv,
            "standing": self.standing,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Request:
        """Read what `as_json` wrote."""
        return cls(
            scope=parse_scope(value["scope"]),
            reason=value["reason"],
            requested_by=value["requested_by"],
            start=_time(value["from"]),
            end=_time(value["to"]),
            as_of=_time(value["as_of"]),
            tag=value["tag"],
            csv=value["csv"],
            standing=value["standing"],
        )


def check_name(name: str) -> str:
    """Return a name that can be a folder's. Raises `ExportError` for any other."""
    if not _NAME.fullmatch(name) or name == "chain":
        raise ExportError(
            f"{name!r} is no name for an export", "use a-z, 0-9 and -, up to 63 of them, and not `chain`"
        )
    return name


def time_text(moment: datetime | None) -> str | None:
    """Write a time in UTC with microseconds; None for none."""
    return None if moment is None else str(plain(moment))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
