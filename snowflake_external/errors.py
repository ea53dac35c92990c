"""What can go wrong on Snowflake's side.

Belongs here: the errors of this room. Does not: turning them into exit codes (`cli/`).
"""

from __future__ import annotations


class SnowflakeError(Exception):
    """Base of this room's errors; `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def told(self) -> str:
        """Message and hint in one line."""
        return f"{self}; {self.hint}" if self.hint else str(self)


class WrongName(SnowflakeError):
    """A name that no identifier can be."""


class Denied(SnowflakeError):
    """Snowflake refuses a login, or lacks a privilege: no later attempt mends that."""


class NoWarehouse(Denied):
    """No warehouse runs for the session: what only asks for a state needs none, reading rows does."""


class CatalogUnreachable(SnowflakeError):
    """Snowflake did not get an answer from the lake's catalog: a later attempt may."""


class Unreachable(SnowflakeError):
    """Snowflake did not answer."""


class Missing(SnowflakeError):
    """An object does not exist, or the role may not know of it: Snowflake says the same of both."""


class WrongQuery(SnowflakeError):
    """A statement that does more than read, or whose tables cannot be told from its text."""
