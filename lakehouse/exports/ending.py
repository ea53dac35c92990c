"""What a person ends: a standing export, which is not made again then, and the pins of an export.

Belongs here: what may be ended, and where that is noted. Does not: renewing (`renewal.py`), tags (`pins.py`).

An end is a file beside the chain, as manifests are under lock: what they say can only be added to. It ends
the request of an export, for all that were begun before; made once more by a person, it stands again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from lakehouse.errors import ExportError
from lakehouse.exports.listing import UNREADABLE, Listed
from lakehouse.exports.request import Request, time_text
from lakehouse.exports.store import Store
from lakehouse.holds import Hold, held_export
from lakehouse.maintenance.due import latest_cut
from lakehouse.retention_plan import MONTHS_A_YEAR
from quality.cards import holds_card_number

ENDED = ".ended-"


def named(exports: Iterable[Listed], name: str) -> Listed:
    """Find an export by its name. Raises `ExportError`, listing none that was begun."""
    found = [one for one in exports if one.name == name]
    if not found:
        raise ExportError(f"there is no export {name}", "`paywave audit list` names them")
    return found[-1]


def end(store: Store, export: Listed, reason: str, who: str, now: datetime) -> None:
    """Note that a standing export is not to be made again. Raises `ExportError` as `check_end` does."""
    request = check_end(export, reason)
    value = {"request": export.request, "ended": time_text(now), "ended_by": who, "reason": reason}
    store.put(f"{ENDED}{request.default_name}.json", (json.dumps(value, indent=1) + "\n").encode())


def check_end(export: Listed, reason: str) -> Request:
    """Return what is to end. Raises `ExportError` for an export that does not stand, or a bad reason."""
    _check_reason(reason)
    _check_readable(export)
    request = Request.from_json(export.request)
    if not request.standing:
        raise ExportError(f"the export {export.name} does not stand: it is never made again")
    return request


def ends_in(store: Store) -> dict[str, datetime]:
    """Tell which requests were ended, by their default name, and when last."""
    names = [name for name in store.names() if name.startswith(ENDED) and "/" not in name]
    return {
        name.removeprefix(ENDED).removesuffix(".json"): _ended(json.loads(store.read(name))) for name in names
    }


def check_release(
    export: Listed, years: int, reason: str | None, now: datetime, holds: Iterable[Hold] = ()
) -> None:
    """See that an export's pins may go: they keep what `audit verify --against-lakehouse` reads.

    Args:
        years: how long exports are kept (audit.retention_years); before that a reason is asked for.
        holds: legal holds in force; none may cover the export, whatever the reason.

    Raises `ExportError` where they may not.
    """
    _check_readable(export)
    if (held := held_export(holds, export.request.get("scope"))) is not None:
        raise ExportError(
            f"the pins of the export {export.name} stay: {held}",
            "`paywave retention release` ends a hold, by whoever may",
        )
    if reason is not None:
        _check_reason(reason)
        return
    made = datetime.fromisoformat(export.created).astimezone(UTC)
    if made.date() >= latest_cut(now, years * MONTHS_A_YEAR):
        raise ExportError(
            f"the export {export.name} was made at {export.created}, and is kept for {years} years: without "
            "its pins nobody can derive it from the lake again",
            "give --reason where they must go nevertheless; its files, signature and chain stay as they are",
        )


def _ended(value: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(value["ended"])


def _check_readable(export: Listed) -> None:
    if export.state == UNREADABLE:
        raise ExportError(
            f"{export.name} is no manifest: nothing tells which export it was of",
            "`paywave audit verify` says what was altered; bring it back from a copy",
        )


def _check_reason(reason: str) -> None:
    if not reason.strip() or holds_card_number(reason):
        raise ExportError("the reason says nothing, or holds a card number", "say why, or name a case")
