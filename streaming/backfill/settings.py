"""What backfills need to know, as plain values.

Belongs here: that. Does not: where the values come from (`config/`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from streaming.backfill.estimate import Rates


@dataclass(frozen=True)
class BackfillSettings:
    """What backfills need to know.

    Args:
        buckets: of the tables.
        folder: where backfills are kept, `PAYWAVE_HOME/backfills`.
        chunk_hours, chunk_rows: at most so much is gathered from raw at once.
        rates: what work costs, and how many rows are published at once.
        raw_records: of raw that are read at once.
        freshness: seconds that payments may be behind raw; beyond it a run waits for the live job.
        allows_requester: whether who asked for a backfill may approve it.
    """

    buckets: int
    folder: Path
    chunk_hours: int = 168
    chunk_rows: int = 20_000_000
    rates: Rates = field(default_factory=Rates)
    raw_records: int = 100_000
    freshness: float = 30.0
    allows_requester: bool = False
