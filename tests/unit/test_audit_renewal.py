"""Which standing exports late data make due again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.errors import ExportError
from lakehouse.exports.listing import Listed
from lakehouse.exports.renewal import to_renew
from lakehouse.exports.request import Request, Scope

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = Request(Scope("all"), "daily", "me", NOON - 12 * HOUR, NOON + 12 * HOUR, standing=True)


def listed(request: Request, name: str = "e", state: str = "done") -> Listed:
    return Listed(name, state, 1, request.as_json(), "2026-11-21T00:00:00Z")


@pytest.mark.parametrize(
    ("start", "end", "is_due"),
    [
        (None, None, True),
        (NOON, None, True),
        (NOON + 30 * timedelta(minutes=1), None, True),
        (NOON + HOUR, None, False),
        (None, NOON, False),
        (None, NOON + timedelta(minutes=1), True),
        (NOON - HOUR, NOON, False),
    ],
)
def test_an_export_is_due_if_it_tells_of_the_hour(
    start: datetime | None, end: datetime | None, is_due: bool
) -> None:
    request = Request(Scope("all"), "r", "me", start, end, standing=True)
    assert bool(to_renew([listed(request)], [NOON])) == is_due


def test_one_that_was_made_again_is_made_once_more_and_not_twice() -> None:
    other = Request(Scope("account", "a"), "case 7", "you", standing=True)
    exports = [listed(DAY, "e"), listed(DAY, "e-2"), listed(other, "f")]
    assert to_renew(exports, [NOON, NOON + HOUR]) == [DAY, other]
    assert to_renew(exports, [NOON + 13 * HOUR]) == [other]


def test_what_does_not_stand_or_was_not_finished_is_left() -> None:
    once = Request(Scope("all"), "r", "me")
    assert not to_renew([listed(once), listed(DAY, state="begun"), listed(DAY, state="missing")], [NOON])
    assert not to_renew([listed(DAY)], [])


def test_what_is_of_one_moment_cannot_stand() -> None:
    with pytest.raises(ExportError, match="cannot stand"):
        Request(Scope("all"), "r", "me", as_of=NOON, standing=True)
    with pytest.raises(ExportError, match="cannot stand"):
        Request(Scope("all"), "r", "me", tag="t", standing=True)
