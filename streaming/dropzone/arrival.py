"""Whether a file has arrived whole: looked at, copied, and its content held against what was promised.

Belongs here: bringing the landing folder and `complete.py` together. Does not: the ledger, reading rows.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from streaming.dropzone.complete import Arrived, Copy, Promise, Ready, Rules, Seen, Waiting, breach, look
from streaming.dropzone.landing import Landing
from streaming.dropzone.names import SIDECARS
from streaming.partners.registry import FileRules, Partner


class Arrivals:
    """Looks at files; content that was found wanting is not copied again until something of it changes."""

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self._wanting: dict[tuple[str, str], tuple[str, str]] = {}

    def verdict(self, name: str, partner: Partner, seen: Seen, listed: dict[str, Seen]) -> Waiting | Arrived:
        """Copy a file that is complete; say of any other why it is not."""
        assert partner.files is not None
        rules, now = _rules(partner.files), datetime.now(UTC)
        sidecars = {s: listed[seen.name + s] for s in SIDECARS if seen.name + s in listed}
        beside = {s: (at, self._landing.sidecar(name, at.name)) for s, at in sidecars.items()}
        first = look(seen, beside, rules, now)
        if not isinstance(first, Ready):
            return first
        mark = "|".join([seen.fingerprint, *(sidecar.fingerprint for sidecar in sidecars.values())])
        before = self._wanting.get((name, seen.name))
        if before is not None and before[0] == mark:
            return Waiting(before[1], now - seen.changed_at >= rules.overdue)
        copy = self._landing.copy(name, seen.name)
        if self._landing.files(name).get(seen.name) != seen:
            return Waiting("it changed while it was copied", is_overdue=False, copied=copy.digest)
        rows = self._rows(name, partner, copy, first.promise)
        wrong = breach(first.promise, copy, rows, seen, now, rules)
        if wrong is None:
            return Arrived(copy, first.promise)
        self._wanting[name, seen.name] = (mark, wrong.why)
        return replace(wrong, copied=copy.digest)

    def _rows(self, name: str, partner: Partner, copy: Copy, promise: Promise) -> int | None:
        """Count the rows where they were promised: lines that are not blank, but for the header."""
        if promise.rows is None:
            return None
        lines = sum(1 for line, _ in self._landing.lines(name, copy.digest) if line.strip(b"\r\n"))
        return lines if partner.profile is None else max(0, lines - 1)


def _rules(files: FileRules) -> Rules:
    return Rules(
        files.complete, timedelta(minutes=files.stable_minutes), timedelta(minutes=files.overdue_minutes)
    )
