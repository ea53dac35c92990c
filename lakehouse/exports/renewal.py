"""Which exports are to be made again where late data reached hours that they tell of. Pure.

Belongs here: choosing them. Does not: making them (`export.py`), noticing late data (`assets/hours.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from lakehouse.exports.listing import DONE, Listed
from lakehouse.exports.request import Request

HOUR = timedelta(hours=1)


def to_renew(exports: Iterable[Listed], hours: Iterable[datetime]) -> list[Request]:
    """List the requests of standing exports that cover any of some event hours (their starts), each once.

    An export that was made again is asked for by the same request: that one is made once more, not twice.
    """
    asked = [Request.from_json(one.request) for one in exports if one.state == DONE]
    standing = dict.fromkeys(request for request in asked if request.standing)
    wanted = list(hours)
    return [request for request in standing if any(_covers(request, hour) for hour in wanted)]


def _covers(request: Request, hour: datetime) -> bool:
    begins_in_time = request.end is None or hour < request.end
    return begins_in_time and (request.start is None or hour + HOUR > request.start)
