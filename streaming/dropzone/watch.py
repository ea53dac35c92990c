"""Watching the landing folder: what lies there, and whose it is to read.

Belongs here: one look after another over all partners. Does not: whether a file is complete (`arrival.py`),
deciding (`ledger.py`), reading a file (`reader.py`).
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from lakehouse.errors import LakehouseError
from quality.control_totals import totals_text
from streaming.dropzone import telemetry
from streaming.dropzone.arrival import Arrivals
from streaming.dropzone.book import Book
from streaming.dropzone.complete import Arrived, Copy, Seen, Waiting
from streaming.dropzone.landing import Landing
from streaming.dropzone.ledger import (
    SETTLED,
    Claim,
    Entry,
    Found,
    State,
    is_held,
    is_known,
    newest,
    open_versions,
    refuse,
    take,
    take_over,
    wait,
)
from streaming.dropzone.names import called, has_room, is_data, receipt_of
from streaming.dropzone.progress import Tally
from streaming.dropzone.reader import LostClaim, Reader, Settings, Stopped
from streaming.dropzone.receipt import is_told, receipt
from streaming.dropzone.rows import masked_text
from streaming.errors import SendError, StreamingError
from streaming.partners import find_profile
from streaming.partners.registry import Partner, Registry

_RETRY_S = 5.0
_PUT_OFF_S = 60.0
_LEFT_BEHIND_S = 3600.0
_ANY_DIGEST = "0" * 64
_CARD_NUMBER = "its name holds a card number in clear"
_NO_ROOM = "its name is too long: that of its receipt beside it would not fit"


class Dropzone:
    """Takes in the files of every active partner that has a folder, one after the other.

    Several may work on one folder: the ledger says whose a file is. Raises StreamingError or LakehouseError
    from `scan`; whatever it raises, nothing is lost or doubled by looking again.
    """

    def __init__(self, landing: Landing, book: Book, registry: Registry, settings: Settings) -> None:
        self._landing = landing
        self._book = book
        self._arrivals = Arrivals(landing)
        self._settings = settings
        self._stopping = threading.Event()
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._reader = Reader(landing, book, settings, self.owner, self._stopping.is_set)
        self._partners = {
            name: partner for name, partner in registry.partners.items() if partner.active and partner.files
        }
        # What was found out in this process, so that the ledger is not asked again at every look.
        self._settled: dict[tuple[str, str], str] = {}
        self._noted: dict[tuple[str, str], tuple[str, bool]] = {}
        self._retry_at: dict[tuple[str, str], float] = {}
        self._looked_for_open = 0.0

    def stop(self) -> None:
        """Ask it to end at the next row; safe from a signal handler."""
        self._stopping.set()

    def prepare(self) -> None:
        """Make the folders, and clear away what dropzones that were killed left behind."""
        self._book.tidy()
        for name, partner in self._partners.items():
            if partner.profile:
                find_profile(partner.profile)  # a wrong one is an error now, and not in the middle of a file
            self._landing.prepare(name)
            self._drop_old_copies(name)

    def run(self, every_s: float) -> Counter[str]:
        """Look again and again until it is told to stop; trouble with Kafka or the catalog is waited out."""
        total: Counter[str] = Counter()
        while not self._stopping.is_set():
            pause = every_s
            try:
                total += self.scan()
            except Stopped:
                break
            except Exception as error:
                telemetry.log.error("look failed", error=type(error).__name__, why=str(error)[:300])
                pause = max(every_s, _RETRY_S)
            self._stopping.wait(pause)
        return total

    def scan_once(self) -> Counter[str]:
        """Look once; told to stop, it says what it found until then."""
        try:
            return self.scan()
        except Stopped:
            return Counter({"held": 1})

    def scan(self) -> Counter[str]:
        """Look once at every partner's folder. Returns how many files were done, waiting, held, ….

        Raises Stopped if it was told to.
        """
        found: Counter[str] = Counter()
        is_time = time.monotonic() - self._looked_for_open >= self._settings.lease_s / 2
        for name, partner in self._partners.items():
            if is_time or not self._looked_for_open:
                found += self._resume(name, partner)
            found += self._look_at(name, partner)
        if is_time or not self._looked_for_open:
            self._looked_for_open = time.monotonic()
        return found

    def _resume(self, name: str, partner: Partner) -> Counter[str]:
        """Go on with files whose dropzone was killed, even if their partner has removed them since.

        Their copies tell which they are: to search the whole ledger would cost more by the day.
        """
        found: Counter[str] = Counter()
        for begun in self._book.open_versions(name, self._landing.copies(name)):
            if is_held(begun, datetime.now(UTC)) or self._is_put_off(name, begun.name):
                continue
            claim = self._reader.claim()
            ours = self._book.add(name, [begun.name], [], partial(_taken_over, begun=begun, claim=claim))
            if ours is not None:
                telemetry.log.info("file gone on with", partner=name, file=ours.name, version=ours.version)
                found += self._read(name, partner, ours, None)
        return found

    def _look_at(self, name: str, partner: Partner) -> Counter[str]:
        listed = self._landing.files(name)
        unread = [
            seen for seen in sorted(listed.values(), key=lambda s: (s.changed_at, s.name))
            if is_data(seen.name) and self._settled.get((name, seen.name)) != seen.fingerprint
        ]  # fmt: skip
        quiet_since = datetime.now(UTC) - timedelta(seconds=self._settings.quiet_s)
        files = [seen for seen in unread if seen.changed_at <= quiet_since]
        found = +Counter({"waiting": len(unread) - len(files)})
        is_news = any((name, seen.name) not in self._noted for seen in files)
        known = self._book.entries(name, [masked_text(seen.name) for seen in files]) if is_news else []
        overdue = 0
        for seen in files:
            try:
                what, is_overdue = self._look_at_file(name, partner, seen, listed, known)
            except OSError as error:  # of this file: the others can be read
                telemetry.log.error(
                    "file unreadable", partner=name, file=masked_text(seen.name), why=error.strerror
                )
                what, is_overdue = Counter({"unreadable": 1}), False
            found += what
            overdue += is_overdue
        telemetry.overdue(name, overdue)
        if overdue:
            found["overdue"] += overdue
        return found

    def _look_at_file(
        self, name: str, partner: Partner, seen: Seen, listed: dict[str, Seen], known: list[Entry]
    ) -> tuple[Counter[str], bool]:
        """Returns what became of a file, and whether it is overdue."""
        if is_known(known, masked_text(seen.name), seen.fingerprint):
            self._leave(name, seen)
            return Counter(), False
        if self._is_put_off(name, masked_text(seen.name)):
            return Counter({"unreadable": 1}), False
        now = datetime.now(UTC)
        if any(e.fingerprint == seen.fingerprint and is_held(e, now) for e in open_versions(known)):
            return Counter({"held": 1}), False
        if not has_room(called(seen.name, _ANY_DIGEST, partner.card_numbers, self._settings.token_keys)[0]):
            return self._refuse(name, seen), False
        verdict = self._arrivals.verdict(name, partner, seen, listed)
        if isinstance(verdict, Waiting):
            self._wait(name, seen, verdict)
            if verdict.copied:
                self._drop_unread(name, verdict.copied)
            return Counter({"waiting": 1}), verdict.is_overdue
        return self._take(name, partner, seen, verdict), False

    def _is_put_off(self, name: str, file: str) -> bool:
        """Tell whether a file made reading fail so lately that it is not tried again yet."""
        return time.monotonic() < self._retry_at.get((name, file), 0.0)

    def _leave(self, name: str, seen: Seen) -> None:
        """Remember that nothing is to be done with a file as long as it stays as it is."""
        self._settled[name, seen.name] = seen.fingerprint
        self._noted.pop((name, seen.name), None)

    def _refuse(self, name: str, seen: Seen) -> Counter[str]:
        """Refuse a file for its name; no receipt can say so."""
        plain = masked_text(seen.name)

        def choose(known: list[Entry]) -> Entry | None:
            return refuse(
                known, name, plain, seen.fingerprint, seen.size, why=_NO_ROOM, now=datetime.now(UTC)
            )

        entry = self._book.add(name, [plain], [], choose)
        self._leave(name, seen)
        if entry is None:
            return Counter()
        telemetry.settled(entry)
        telemetry.alert("rejected", entry)
        return Counter({"rejected": 1})

    def _wait(self, name: str, seen: Seen, verdict: Waiting) -> None:
        noted = (seen.fingerprint, verdict.is_overdue)
        before = self._noted.get((name, seen.name))
        if before == noted or (before is not None and not before[1] and not verdict.is_overdue):
            return
        plain = masked_text(seen.name)

        def choose(known: list[Entry]) -> Entry | None:
            return wait(
                known, name, plain, seen.fingerprint, seen.size,
                why=verdict.why, is_overdue=verdict.is_overdue, now=datetime.now(UTC),
            )  # fmt: skip

        entry = self._book.add(name, [plain], [], choose)
        self._noted[name, seen.name] = noted
        if entry is not None and entry.state == State.OVERDUE:
            telemetry.alert("overdue", entry)

    def _take(self, name: str, partner: Partner, seen: Seen, arrived: Arrived) -> Counter[str]:
        copy, totals = arrived.copy, arrived.promise.totals
        plain, is_refused = called(seen.name, copy.digest, partner.card_numbers, self._settings.token_keys)
        said = None if totals is None else totals_text(totals)
        found = Found(name, plain, seen.fingerprint, copy.size, copy.digest, said)
        claim = self._reader.claim()
        is_ours = False

        def choose(known: list[Entry]) -> Entry | None:
            nonlocal is_ours
            decision = take(known, found, claim)
            is_ours = decision.is_ours
            if decision.entry is not None and not is_ours:
                self._tell_repeated(decision.entry)  # first: a file without a receipt is not settled
            return decision.entry

        entry = self._book.add(name, [plain], [copy.digest], choose)
        if entry is None:
            return self._left_alone(name, seen, plain, copy)
        if not is_ours:
            self._landing.drop_copy(name, copy.digest)
            self._leave(name, seen)
            telemetry.settled(entry)
            return Counter({"repeated": 1})
        if is_refused:
            self._leave(name, seen)
            self._reader.settle(entry, State.REJECTED, Tally(), _CARD_NUMBER)
            return Counter({"rejected": 1})
        return self._read(name, partner, entry, seen)

    def _read(self, name: str, partner: Partner, ours: Entry, seen: Seen | None) -> Counter[str]:
        if not self._landing.has_copy(name, ours.digest or "") and not self._copied_again(name, ours):
            self._reader.settle(ours, State.REJECTED, Tally(), "its copy is gone, and the file too")
            return Counter({"rejected": 1})
        try:
            settled = self._reader.read(partner, ours)
        except LostClaim as error:
            telemetry.log.warning("claim lost", partner=name, why=str(error))
            return Counter({"held": 1})
        except SendError as error:
            return self._put_off(name, ours, str(error))
        except (StreamingError, LakehouseError, Stopped):
            raise
        except Exception as error:
            return self._put_off(name, ours, type(error).__name__)
        if seen is not None and settled.fingerprint == seen.fingerprint:
            self._leave(name, seen)
        return Counter(
            {settled.state.value: 1, "rows": settled.rows or 0, "rejected_rows": settled.rejected or 0}
        )

    def _put_off(self, name: str, ours: Entry, why: str) -> Counter[str]:
        """Leave a file that made reading fail for a while: the others shall not wait for it."""
        self._retry_at[name, ours.name] = time.monotonic() + _PUT_OFF_S
        telemetry.alert("unreadable", replace(ours, reason=why))
        return Counter({"unreadable": 1})

    def _copied_again(self, name: str, ours: Entry) -> bool:
        if ours.name not in self._landing.files(name):
            return False
        return self._landing.copy(name, ours.name).digest == ours.digest

    def _tell_repeated(self, entry: Entry) -> None:
        """Tell the partner that nothing was sent twice; the receipt of the first time keeps its rejects."""
        name = receipt_of(entry.name)
        if not is_told(self._landing.receipt(entry.partner, name), entry):
            self._landing.write_receipt(entry.partner, name, receipt(entry, self._settings.topic))

    def _left_alone(self, name: str, seen: Seen, plain: str, copy: Copy) -> Counter[str]:
        """Leave a file to another dropzone, or to what the ledger says of it already."""
        last = newest(self._book.entries(name, [plain]), plain)
        if last is not None and last.state in SETTLED and last.fingerprint == seen.fingerprint:
            self._leave(name, seen)
            self._drop_unread(name, copy.digest)
            return Counter()
        return Counter({"held": 1})

    def _drop_unread(self, name: str, digest: str) -> None:
        """Remove a copy unless somebody is reading it."""
        if not self._book.open_versions(name, [digest]):
            self._landing.drop_copy(name, digest)

    def _drop_old_copies(self, name: str) -> None:
        for digest in self._landing.copies(name, standing_s=_LEFT_BEHIND_S):
            self._drop_unread(name, digest)


def _taken_over(known: list[Entry], begun: Entry, claim: Claim) -> Entry | None:
    last = next((e for e in open_versions(known) if (e.name, e.version) == (begun.name, begun.version)), None)
    return take_over(known, last, claim).entry if last is not None else None
