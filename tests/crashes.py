"""Ends of a process at chosen points, without a process: an error that nobody takes for a passing one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lakehouse.errors import LakehouseError


class Crash(LakehouseError):
    """Stands for the end of the process: an error of ours, which is not taken for a passing one."""


def crash_once(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, is_it: Callable[..., bool]) -> None:
    """Make the next call of a method for which `is_it` holds raise, and no later one."""
    original, left = getattr(owner, method), [1]

    def crashing(*args: Any, **kwargs: Any) -> Any:
        if left and is_it(*args, **kwargs):
            left.clear()
            raise Crash("the process ends here")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, method, crashing)
