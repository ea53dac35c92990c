"""Which exports are to be made again where late data reached hours that they tell of. Pure.

Belongs here: choosing them. Does not: making them (`export.py`), noticing late data (`assets/hours.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from lakehouse.exports.listing import DONE, Listed
from lakehouse.exports.request import Request

HOUR = timedelta(hours=1)


def to_renew(
    exports: Iterable[Listed], hours: Iterable[datetime], ended: Mapping[str, datetime] | None = None
) -> list[Request]:
    """List the requests of standing exports that cover any of some event hours (their starts), each once.

    An export that was made again is asked for by the same request: that one is made once more, not twice.

    Args:
        ended: when requests were ended, by their default name: only what was begun later stands.
    """
    standing: dict[Request, None] = {}
    for one in exports:
        if one.state != DONE:
            continue
        request = Request.from_json(one.request)
        end = (ended or {}).get(request.default_name)
        begun = datetime.fromisoformat(one.created)
        if request.standing and (end is None or begun > end):
            standing[request] = None
    wanted = list(hours)
    return [request for request in standing if any(_covers(request, hour) for hour in wanted)]


def name_of(request: Request, call: str) -> str:
    """Name what is made again: the same for the same call, so that what it made before is there already."""
    return f"{request.default_name}-{hashlib.sha256(call.encode()).hexdigest()[:8]}"


def _covers(request: Request, hour: datetime) -> bool:
    begins_in_time = request.end is None or hour < request.end
    return begins_in_time and (request.start is None or hour + HOUR > request.start)
