"""`make bench-sealing`: what sealing personal values costs at the gateway's intake.

Belongs here: the same events with their personal fields and without, taken in by turns in one process. Does
not: what a gateway takes in all in all (`gateway.py`), making and keeping keys (`lakehouse/keyring.py`).
"""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from statistics import median
from typing import Any

from bench.telling import machine
from quality.canonical import canonical_json, parse_json
from quality.contract import HISTORY, Event
from quality.judge import judge_fields
from quality.personal import PERSONAL
from quality.sealing import KEY_BYTES, SubjectKey
from streaming.gateway.intake import IngestClock, Intake
from streaming.simulate import PRESETS, Plan, Simulation

_SEED = 13
_TURNS = 9
_HOUR = timedelta(hours=1)
_ALPHABET = "abcdefghijklmnop"


def main() -> None:
    """Take in events with and without personal values; print both and what a seal costs."""
    parser = argparse.ArgumentParser(prog="bench-sealing")
    parser.add_argument("--events", type=int, default=20_000)
    count = parser.parse_args().events
    print(machine())
    events = list(_events(count, datetime.now(UTC)))
    values = sum(_personal_values(fields) for fields in events)
    plain = [canonical_json(_without(fields)).encode() for fields in events]
    whole = [canonical_json(fields).encode() for fields in events]
    intake = Intake(IngestClock(), (), cache(_made_key))
    without, sealed = list[float](), list[float]()
    for _ in range(_TURNS):
        without.append(_seconds(intake, plain))
        sealed.append(_seconds(intake, whole))
    base, more = (median(found) / len(events) * 1e6 for found in (without, sealed))
    print(
        f"{len(events):,} events with {values / len(events):.1f} personal values each, medians of CPU time: "
        f"taken in without them in {base:.1f} us, with them sealed in {more:.1f} us: {more / base:.2f} times"
    )


def _events(count: int, now: datetime) -> Iterator[dict[str, Any]]:
    """Valid events that hold personal values, as producers send them."""
    for line in Simulation(Plan(count, _SEED, now - _HOUR, _HOUR, PRESETS["clean"])).lines():
        fields = parse_json(line)
        if PERSONAL.are_in(fields) and isinstance(judge_fields(fields, now, HISTORY[-1]), Event):
            yield fields


def _personal_values(fields: dict[str, Any]) -> int:
    found: list[str] = []

    def note(path: str, value: Any) -> Any:
        found.append(path)
        return value

    PERSONAL.replaced(fields, note)
    return len(found)


def _without(fields: dict[str, Any]) -> dict[str, Any]:
    """The same event with nothing personal in it: null stands for nothing that has to be sealed."""
    return PERSONAL.replaced(fields, lambda _path, _value: None)


def _made_key(_subject: str) -> SubjectKey:
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return SubjectKey(letters, secrets.token_bytes(KEY_BYTES))


def _seconds(intake: Intake, lines: list[bytes]) -> float:
    take: Callable[[bytes], Any] = lambda line: intake.take(line, "bench", "refuse")  # noqa: E731
    started = time.process_time()
    for line in lines:
        take(line)
    return time.process_time() - started


if __name__ == "__main__":
    main()
