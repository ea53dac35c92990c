"""Types of command-line options that several commands share.

Belongs here: turning text into a value, or a clear usage error. Does not: what the value is used for.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lakehouse.chain import Tail

_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class Span(click.ParamType[timedelta]):
    """A length of time such as 6h, 90m or 1d12h."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = _SPAN.fullmatch(value)
        if not value or match is None:
            self.fail(f"{value!r} is no length of time; write it like 6h, 90m or 1d12h", param, ctx)
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


class Day(click.ParamType[date]):
    """A day of the calendar (UTC)."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no day; write it like 2026-11-20", param, ctx)


class Moment(click.ParamType[datetime]):
    """A moment in ISO 8601 with an offset."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; write it like 2026-11-20T00:00:00Z", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} has no offset; write it like 2026-11-20T00:00:00Z", param, ctx)
        return moment


class Head(click.ParamType["Tail"]):
    """The end of a chain as it was noted: SEQ:SHA256."""

    name = "head"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tail:
        from lakehouse.chain import Tail

        try:
            return value if isinstance(value, Tail) else Tail.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
