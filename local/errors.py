"""What can go wrong with the embedded stack. Nothing else belongs here.

StackError
├── JavaMissing       no Java, or one that is too old
├── JarError          a jar is absent, altered or cannot be fetched
├── ServiceFailed     a server did not come up; carries the tail of its log
└── StackDown         a step needs the stack and it is not running
"""

from __future__ import annotations


class StackError(Exception):
    """Base of what `local` raises. `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "run `paywave doctor` to see what is missing") -> None:
        super().__init__(message)
        self.hint = hint


class JavaMissing(StackError):
    """There is no Java runtime, or it is too old."""


class JarError(StackError):
    """A jar is absent, altered or cannot be fetched."""


class ServiceFailed(StackError):
    """A server did not become ready; the message ends with the tail of its log."""


class StackDown(StackError):
    """The embedded stack is not running, or only in part."""
