"""Why a request is refused: a status, a short code for programs, a sentence for people.

Belongs here: the one exception that ends a request. Does not: what the answer looks like (`answers.py`).
"""

from __future__ import annotations

import math


class Refusal(Exception):
    """Ends a request. `retry_after` is in seconds, for the header `Retry-After`; None: no use in it."""

    def __init__(self, status: int, code: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))
