"""Reads the body of a request: so much, and no longer than so long.

Belongs here: reading from ASGI. Does not: what is in the body.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.types import Receive

from streaming.gateway.refusal import Refusal

# A refusal that comes while the sender is still writing would reach it as a broken connection.
_DISCARDED_BYTES = 4 * 1024 * 1024
_DISCARD_S = 2.0


class SenderGone(Exception):
    """The sender closed the connection before its request was complete."""


class Body:
    """The body of one request, read once; `is_over` when there is no more to come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_over = False

    async def read(self, most: int, seconds: float, take_room: Callable[[int], None]) -> bytes:
        """Read all of it; `take_room` is told of each part's bytes before they are kept.

        Raises:
            Refusal: 413 for more than `most` bytes, 408 if it takes longer than `seconds`; what `take_room`
                raises.
            SenderGone: there is nobody left to answer.
        """
        parts, size = [], 0
        try:
            async with asyncio.timeout(seconds):
                async for part in self._parts():
                    size += len(part)
                    if size > most:
                        raise too_large(most)
                    take_room(len(part))
                    parts.append(part)
        except TimeoutError:
            raise Refusal(408, "slow_body", f"the body did not come within {seconds:g} s") from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def discard(self) -> None:
        """Read what is still to come of a refused request, within reason."""
        size = 0
        with contextlib.suppress(TimeoutError, SenderGone):
            async with asyncio.timeout(_DISCARD_S):
                async for part in self._parts():
                    size += len(part)
                    if size > _DISCARDED_BYTES:
                        return

    async def _parts(self) -> AsyncIterator[bytes]:
        while not self.is_over:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise SenderGone
            self.is_over = not message.get("more_body", False)
            yield message.get("body", b"")


def too_large(most: int) -> Refusal:
    """The answer to a body that is larger than what is taken."""
    return Refusal(413, "too_large", f"a body of at most {most:,} bytes is taken; send it in parts")
