"""Reading one file that is ours: row after row to Kafka, journalled, until it is settled.

Belongs here: that, and going on with one that was left. Does not: which file is ours (`watch.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from quality.card_tokens import TokenKey
from quality.sealing import KeyOf
from streaming.dropzone import telemetry
from streaming.dropzone.book import Book
from streaming.dropzone.landing import Landing
from streaming.dropzone.ledger import Claim, Entry, State, claimed, is_still_ours, settle
from streaming.dropzone.names import receipt_of
from streaming.dropzone.outbox import Outbox, Stored, records_of
from streaming.dropzone.progress import Journal, Tally, look_from, read_journal
from streaming.dropzone.receipt import receipt
from streaming.dropzone.rows import Origin, RowIntake, Taken
from streaming.errors import SendError, StreamingError
from streaming.partners import RowMapper, find_profile
from streaming.partners.registry import Partner
from streaming.partners.rows import without_line_end
from streaming.topic_state import TopicState, inspect_topic

_ROWS_PER_JOURNAL = 5000


class WrongFile(Exception):
    """The file as a whole is not what its partner's profile says."""


class LostClaim(StreamingError):
    """Another dropzone has taken the file over: this one leaves it alone."""


class Stopped(Exception):
    """The dropzone was asked to end; the file was left at a row's end."""


class StoppedWaiting(Stopped):
    """It was asked to end while Kafka did not answer for what was sent."""


@dataclass(frozen=True)
class Settings:
    """What reading needs to know, times in seconds.

    Args:
        lease_s: how long a claim holds. It is renewed so early that half of it is left at any time: within
            that half, all that a dropzone that was killed had sent must be readable in Kafka, or gone.
        delivery_s: after so long without any acknowledgement people are told, and a dropzone that is asked to
            end does not wait for one any more.
        quiet_s: a file that has changed within this time is left alone yet.
    """

    topic: str
    kafka: Mapping[str, str]
    token_keys: Sequence[TokenKey] = ()
    key_of: KeyOf | None = None
    lease_s: float = 90.0
    delivery_s: float = 10.0
    quiet_s: float = 5.0

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_s)


class Reader:
    """Reads files for one dropzone, `owner`."""

    def __init__(
        self, landing: Landing, book: Book, settings: Settings, owner: str, is_stopping: Callable[[], bool]
    ) -> None:
        self._landing = landing
        self._book = book
        self._settings = settings
        self._owner = owner
        self._is_stopping = is_stopping

    def claim(self) -> Claim:
        """Make a claim as of now."""
        state = inspect_topic(self._settings.kafka, self._settings.topic)
        starts = json.dumps({str(p): offset for p, offset in sorted(state.latest.items())})
        return Claim(self._owner, datetime.now(UTC), self._settings.lease, state.topic_id, starts)

    def read(self, partner: Partner, ours: Entry) -> Entry:
        """Read a version that was claimed, from where it was left, and settle it. Returns the last entry.

        Raises SendError (Kafka), LostClaim, Stopped or LakehouseError: the file stays claimed or is left, and
        is gone on with by whoever comes first once it may be.
        """
        attributes: dict[str, str | int] = {"partner": ours.partner, "version": ours.version or 0}
        with telemetry.tracer().start_as_current_span("dropzone.file", attributes=attributes):
            reading = _Reading(self._landing, self._book, self._settings, partner, ours, self._is_stopping)
            try:
                tally = reading.run()
            except WrongFile as error:
                return self.settle(ours, State.REJECTED, Tally(), str(error))
            except StoppedWaiting:
                raise  # the claim stays: nobody knows yet what of it Kafka holds
            except Stopped:
                self._release(ours)
                raise
            return self.settle(ours, State.DONE, tally)

    def settle(self, ours: Entry, state: State, tally: Tally, reason: str | None = None) -> Entry:
        """Write receipt and ledger, in this order: a file without a receipt is not settled."""
        counts = {
            "rows": tally.rows,
            "events": tally.events,
            "accepted": tally.accepted,
            "rejected": tally.rejected,
            "offsets": json.dumps({str(p): list(span) for p, span in sorted(tally.offsets.items())}),
            "reason": reason,
        }
        content = receipt(settle([], ours, state, datetime.now(UTC), **counts), self._settings.topic, tally)
        self._landing.write_receipt(ours.partner, receipt_of(ours.name), content)

        def choose(known: list[Entry]) -> Entry | None:
            if not is_still_ours(known, ours):
                raise _lost(ours)
            return settle(known, ours, state, datetime.now(UTC), **counts)

        settled = self._book.add(ours.partner, [ours.name], [], choose)
        assert settled is not None
        self._landing.drop_copy(ours.partner, ours.digest or "")
        telemetry.settled(settled)
        if state == State.REJECTED:
            telemetry.alert("rejected", settled)
        return settled

    def _release(self, ours: Entry) -> None:
        """Let others take over at once: all that was sent is acknowledged and journalled."""

        def choose(known: list[Entry]) -> Entry | None:
            now = datetime.now(UTC)
            claim = Claim(self._owner, now, timedelta(0), ours.topic_id or "", ours.starts or "{}")
            return claimed(known, ours, claim) if is_still_ours(known, ours) else None

        self._book.add(ours.partner, [ours.name], [], choose)


class _Reading:
    """One reading of one file."""

    def __init__(
        self,
        landing: Landing,
        book: Book,
        settings: Settings,
        partner: Partner,
        ours: Entry,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._landing = landing
        self._book = book
        self._settings = settings
        self._partner = partner
        self._ours = ours
        self._is_stopping = is_stopping
        self._digest = ours.digest or ""
        self._renewed = time.monotonic() - _age(ours)
        self._journalled = time.monotonic()
        self._is_told = False

    def run(self) -> Tally:
        """Send what is not in Kafka yet. Returns the tally of the whole file."""
        intake, header_end = self._intake()
        state = inspect_topic(self._settings.kafka, self._settings.topic)
        journal = read_journal(self._landing.journal(self._ours.partner, self._digest), self._digest)
        if state.topic_id != self._ours.topic_id:  # what was sent went with the topic
            journal = None
        journal = journal or Journal(self._digest, 1 if header_end else 0, header_end, Tally())
        there = self._already_there(state, journal)
        stands_at = journal.tally.stands_at
        outbox = Outbox(self._settings.topic, self._settings.kafka, stands_at, self._hold_on)
        try:
            self._send(intake, journal, there, outbox)
        except BaseException:
            outbox.give_up()
            raise
        return journal.tally

    def _intake(self) -> tuple[RowIntake, int]:
        """Make the intake of this file's rows, and say where its header ends. Raises WrongFile."""
        ours, partner = self._ours, self._partner
        assert ours.received_at is not None
        origin = Origin(partner.source, ours.name, self._digest, ours.received_at)
        if partner.profile is None:
            return self._rows(origin, None), 0
        profile = find_profile(partner.profile)
        line, end = next(self._landing.lines(ours.partner, self._digest), (b"", 0))
        header = profile.header(line)
        missing = sorted(profile.columns - set(header or ()))
        if header is None or missing:
            raise WrongFile(f"its first line lacks what profile {profile.name} needs: {', '.join(missing)}")
        mapper = RowMapper(profile, header, ours.name, partner.source)
        return self._rows(origin, mapper), end

    def _rows(self, origin: Origin, mapper: RowMapper | None) -> RowIntake:
        ours, partner = self._settings, self._partner
        return RowIntake(
            origin,
            partner.card_numbers,
            mapper,
            ours.token_keys,
            key_of=ours.key_of,
            personal=partner.personal,
        )

    def _already_there(self, state: TopicState, journal: Journal) -> dict[int, list[Stored]]:
        """Look up which records after the journal are in Kafka. Nothing is, where reading begins just now.

        What was sent before can be read once the claim has run out, unless too few replicas are in sync.
        """
        ours = self._ours
        if ours.received_at == ours.changed_at:
            return {}
        if state.in_sync * 2 <= state.replicas:
            raise SendError(
                f"{state.in_sync} of {state.replicas} replicas of {state.topic} are in sync: "
                f"what it holds of file {ours.name} cannot be told yet",
                "bring the brokers back; the file is gone on with then",
            )
        starts = json.loads(ours.starts or "{}") if state.topic_id == ours.topic_id else {}
        after = look_from({int(p): offset for p, offset in starts.items()}, journal)
        return records_of(self._settings.kafka, state, self._digest, after)

    def _send(
        self,
        intake: RowIntake,
        journal: Journal,
        there: Mapping[int, list[Stored]],
        outbox: Outbox,
    ) -> None:
        lines = self._landing.lines(self._ours.partner, self._digest, journal.byte)
        for line, end in lines:
            journal.line, journal.byte = journal.line + 1, end
            raw = without_line_end(line)
            if raw:
                self._take(intake.take(raw, journal.line), journal, there, outbox)
            if self._is_due(journal.line):
                self._keep(journal, outbox)
        self._keep(journal, outbox)

    def _take(
        self,
        taken: Taken,
        journal: Journal,
        there: Mapping[int, list[Stored]],
        outbox: Outbox,
    ) -> None:
        # a row that was rejected then and is good by now has not been sent as what it is
        stored = [s for s in there.get(journal.line, ()) if s.is_event != bool(taken.reasons)]
        if len(stored) >= len(taken.messages):
            for record in stored:
                journal.tally.stands_at(record.partition, record.offset)
        else:
            for message in taken.messages:
                outbox.put(message)
        journal.tally.add(journal.line, len(taken.messages), taken.reasons)

    def _is_due(self, line: int) -> bool:
        is_late = time.monotonic() - self._journalled > self._settings.lease_s / 4
        return is_late or line % _ROWS_PER_JOURNAL == 0 or self._is_stopping()

    def _keep(self, journal: Journal, outbox: Outbox) -> None:
        """Have all acknowledged and written down. Raises LostClaim, Stopped."""
        self._renew()
        outbox.flush()
        self._landing.write_journal(self._ours.partner, self._digest, journal.to_json())
        self._journalled = time.monotonic()
        if self._is_stopping():
            raise Stopped

    def _hold_on(self, idle_s: float) -> None:
        """Keep the file while Kafka takes its time. Raises LostClaim, StoppedWaiting."""
        self._renew()
        if idle_s <= self._settings.delivery_s:
            return
        if self._is_stopping():
            raise StoppedWaiting
        if not self._is_told:
            self._is_told = True
            telemetry.alert("stuck", replace(self._ours, reason="Kafka does not acknowledge what was sent"))

    def _renew(self) -> None:
        """Claim the file for longer, well before the claim runs out; and see whether it still is ours."""
        if time.monotonic() - self._renewed < self._settings.lease_s / 4:
            return
        asked = time.monotonic()

        def choose(known: list[Entry]) -> Entry | None:
            if not is_still_ours(known, self._ours):
                raise _lost(self._ours)
            return claimed(known, self._ours, self._claim_again())

        renewed = self._book.add(self._ours.partner, [self._ours.name], [], choose)
        assert renewed is not None
        self._ours = replace(self._ours, seq=renewed.seq)
        self._renewed = asked

    def _claim_again(self) -> Claim:
        ours = self._ours
        return Claim(
            ours.owner or "",
            datetime.now(UTC),
            self._settings.lease,
            ours.topic_id or "",
            ours.starts or "{}",
        )


def _age(ours: Entry) -> float:
    return max(0.0, (datetime.now(UTC) - ours.changed_at).total_seconds())


def _lost(ours: Entry) -> LostClaim:
    return LostClaim(
        f"file {ours.name} of {ours.partner}: another dropzone has taken it over, this one was slow",
        "nothing is to be done: it goes on with the file",
    )
