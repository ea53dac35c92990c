"""Errors of the quality room."""

from __future__ import annotations


class QualityError(Exception):
    """Base of what `quality` raises. `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnknownContract(QualityError):
    """A contract version that this release does not have."""


class UnknownGate(QualityError):
    """A gate that the policy does not have."""
