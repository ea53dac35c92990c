"""Answers kept by `Idempotency-Key`: a request that is sent again gets the answer that it missed.

Belongs here: keeping them in bounded memory. Does not: the promise that nothing counts twice. That
holds without it: a redelivered event is one version, also after this memory is lost.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass

from streaming.gateway.refusal import Refusal

_KEY = re.compile(r"[!-~]{1,128}")
_OVERHEAD = 300


@dataclass(frozen=True)
class Answer:
    """A status and a body, as they were sent."""

    status: int
    body: bytes


@dataclass
class Kept:
    """A request that came with a key; `answer` is None while it is under way."""

    name: bytes
    digest: bytes
    since: float
    answer: Answer | None = None


class Answers:
    """The answers of the last `keep_s` seconds, at most `limit` bytes of them: the oldest go first."""

    def __init__(self, keep_s: float, limit: int) -> None:
        self._keep_s = keep_s
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

    def begin(self, partner: str, key: str, body: bytes, now: float) -> Kept:
        """Note that a request is being worked on, to `end` it; one that came before has its answer.

        Raises:
            Refusal: 400 for an unfit key, 409 while the first request of this key is under way, 422 if it had
                another body.
        """
        if not _KEY.fullmatch(key):
            raise Refusal(
                400, "idempotency_key", "Idempotency-Key: 1 to 128 visible ASCII characters are wanted"
            )
        self._drop_old(now)
        name, digest = _name(partner, key), hashlib.sha256(body).digest()
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = Kept(name, digest, now)
            self._bytes += _OVERHEAD
            return kept
        if kept.digest != digest:
            raise Refusal(422, "idempotency_key_reused", "this Idempotency-Key came with another body before")
        if kept.answer is None:
            raise Refusal(409, "in_progress", "the first request of this Idempotency-Key is under way", 1)
        return kept

    def end(self, kept: Kept, answer: Answer | None) -> None:
        """Keep the answer; None stands for a request that was not taken in and may come again."""
        if self._kept.get(kept.name) is not kept:  # forgotten meanwhile, and perhaps begun by another request
            return
        if answer is None:
            self._drop(kept.name)
        else:
            kept.answer = answer
            self._bytes += len(answer.body)

    def _drop_old(self, now: float) -> None:
        while self._kept:
            name, oldest = next(iter(self._kept.items()))
            if self._bytes < self._limit and oldest.since + self._keep_s >= now:
                return
            self._drop(name)

    def _drop(self, name: bytes) -> None:
        gone = self._kept.pop(name)
        self._bytes -= _OVERHEAD + (len(gone.answer.body) if gone.answer else 0)


def _name(partner: str, key: str) -> bytes:
    """A digest: what a partner writes into this header is kept nowhere."""
    return hashlib.sha256(f"{partner}\n{key}".encode()).digest()
