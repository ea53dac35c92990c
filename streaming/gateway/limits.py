"""Limits: each partner's rate, and the bytes and requests that the gateway works on at a time.

Belongs here: the arithmetic of both. Does not: clocks, HTTP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streaming.gateway.refusal import Refusal

# What a request costs beside its body: connection, headers, tasks.
_BYTES_PER_REQUEST = 16 * 1024
_RETRY_S = 1.0


class TokenBucket:
    """A rate of events per second with a burst. A request may overdraw it, and the next one waits for that.

    So a batch larger than the burst is not refused for ever, and the rate holds in the long run.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._left = self._burst
        self._as_of = now

    def wait_s(self, now: float) -> float:
        """Seconds until the next request may come; 0 for at once. `now` never goes back."""
        self._left = min(self._burst, self._left + (now - self._as_of) * self._rate)
        self._as_of = now
        return max(0.0, (1.0 - self._left) / self._rate)

    def take(self, events: int) -> None:
        """Draw what a request has brought."""
        self._left -= events


class InFlight:
    """The bytes of the requests that are being worked on: never more than the limit.

    One partner has half of it at most, so that nobody can keep the others out. What a request only announces
    takes no room: whoever knows the name of a key could fill it without sending anything.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._by_partner: Counter[str] = Counter()

    @contextmanager
    def reserve(self, partner: str) -> Iterator[Callable[[int], None]]:
        """Hold room for a partner's request while the block runs.

        Yields what takes more room, in bytes, as they come. Both raise Refusal 503 if there is none.
        """
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if self.bytes + size > self.limit or self._by_partner[partner] + size > self.limit / 2:
                said = "the gateway has as much in hand as it can; send it again"
                raise Refusal(503, "busy", said, _RETRY_S)
            held += size
            self._add(partner, size)

        try:
            take(_BYTES_PER_REQUEST)
            yield take
        finally:
            self._add(partner, -held)

    def _add(self, partner: str, size: int) -> None:
        self.bytes += size
        self._by_partner[partner] += size
