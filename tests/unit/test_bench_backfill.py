"""The benchmark of backfills fails where payments do not stay fresh enough beside one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench import backfill
from bench.backfill import MOST_RATIO, Beside
from bench.freshness import Freshness


def seen(before: float, beside: float, after: float) -> Beside:
    windows = (Freshness(10, p95, p95, p95) for p95 in (before, beside, after))
    return Beside(*windows, {"done": True, "failed": [], "changed": {}, "hours": []}, 60.0, 10, 0)


@pytest.fixture(autouse=True)
def _all_else_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("_wrong_records", "_wrong_hours", "_wrong_payments"):
        monkeypatch.setattr(backfill, check, lambda *_: ())


def wrong(found: Beside) -> list[str]:
    nowhere: Any = None
    jobs: Any = SimpleNamespace(call=lambda *_: {"equal": True})
    return list(backfill._wrong(nowhere, jobs, SimpleNamespace(records=0), found))  # type: ignore[arg-type]


def test_the_ratio_is_to_what_lies_between_before_and_after() -> None:
    assert seen(10, 30, 20).ratio == 2.0
    assert not wrong(seen(10, 30, 20)), "twice is within"


def test_payments_that_do_not_stay_fresh_are_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    slow = seen(10, 31, 20)
    assert wrong(slow) == [f"P95 beside the backfill is 2.07 times that alone, more than {MOST_RATIO:g}"]
    backfill._tell(slow)
    assert "NOT within 2" in capsys.readouterr().out
