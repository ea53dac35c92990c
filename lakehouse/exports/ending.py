"""What a person ends: a standing export, which is not made again then, and the pins of an export.

Belongs here: what may be ended, and what has ended. Does not: the bytes of a note that says so
(`end_notes.py`), renewing (`renewal.py`), tags (`pins.py`).

An end is a file beside the chain, as manifests are under lock: what they say can only be added to. It ends
the request of an export, for all that were begun before; made once more by a person, it stands again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from lakehouse.errors import ExportError
from lakehouse.exports.end_notes import EndNote, file_of, note_of
from lakehouse.exports.listing import UNREADABLE, Listed
from lakehouse.exports.request import Request, time_text
from lakehouse.exports.signing import Signer
from lakehouse.exports.store import Store
from lakehouse.holds import Hold, held_export
from lakehouse.maintenance.due import latest_cut
from lakehouse.retention_plan import MONTHS_A_YEAR
from quality.cards import holds_card_number


def named(exports: Iterable[Listed], name: str) -> Listed:
    """Find an export by its name. Raises `ExportError`, listing none that was begun."""
    found = [one for one in exports if one.name == name]
    if not found:
        raise ExportError(f"there is no export {name}", "`paywave audit list` names them")
    return found[-1]


def end(store: Store, signer: Signer, export: Listed, reason: str, who: str, now: datetime) -> None:
    """Note, and sign, that a standing export is not to be made again.

    Raises `ExportError` as `check_end` does, `SigningFailed`.
    """
    request = check_end(export, reason)
    value = {"request": dict(export.request), "ended": time_text(now), "ended_by": who, "reason": reason}
    store.put(file_of(request), note_of(value, signer.sign))


def check_end(export: Listed, reason: str) -> Request:
    """Return what is to end. Raises `ExportError` for an export that does not stand, or a bad reason."""
    _check_reason(reason)
    _check_readable(export)
    request = Request.from_json(export.request)
    if not request.standing:
        raise ExportError(f"the export {export.name} does not stand: it is never made again")
    return request


def ends_of(notes: Iterable[EndNote]) -> dict[str, datetime]:
    """Tell which requests were ended, by their default name, and when last: by signed notes alone.

    What anybody can have written ends nothing. One export too many harms less than one that is missing.
    """
    return {note.request: note.ended for note in notes if note.state == "signed" and note.ended is not None}


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


def _check_readable(export: Listed) -> None:
    if export.state == UNREADABLE:
        raise ExportError(
            f"{export.name} is no manifest: nothing tells which export it was of",
            "`paywave audit verify` says what was altered; bring it back from a copy",
        )


def _check_reason(reason: str) -> None:
    if not reason.strip() or holds_card_number(reason):
        raise ExportError("the reason says nothing, or holds a card number", "say why, or name a case")
