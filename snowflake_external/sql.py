"""Snowflake's SQL as text: identifiers, literals, and the values of properties.

Belongs here: the one way to quote. Does not: which statements there are (`ddl.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from snowflake_external.errors import WrongName

_LONGEST = 255
HIDDEN = "'***'"


class Word(str):
    """A keyword, as it stands: NONE, LARGE, OAUTH."""

    __slots__ = ()


class Secret(str):
    """Text that is sent and never shown, compared or kept."""

    __slots__ = ()


@dataclass(frozen=True)
class Group:
    """Properties in parentheses, `(A = 1 B = 2)`; some statements want commas between them."""

    items: tuple[tuple[str, Value], ...]
    separator: str = " "


Value = str | int | bool | Group | tuple["Value", ...]


def identifier(*parts: str) -> str:
    """Quote a name of one to three parts, so that it means itself whatever it is made of.

    Raises WrongName where a part is empty, too long or holds a NUL.
    """
    for part in parts:
        if not part or len(part) > _LONGEST or "\0" in part:
            raise WrongName(
                f"no object of Snowflake can be called {part[:40]!r}", "1 to 255 characters are wanted"
            )
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def literal(text: str) -> str:
    """Quote a string; a backslash escapes in Snowflake, so it is escaped too."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def written(value: Value, reveal: bool = False) -> str:
    """Write a property's value; secrets only if `reveal`."""
    if isinstance(value, Secret):
        return literal(value) if reveal else HIDDEN
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Group):
        return f"({value.separator.join(properties(value.items, reveal))})"
    if isinstance(value, tuple):
        return f"({', '.join(written(one, reveal) for one in value)})"
    return literal(value)


def properties(items: Iterable[tuple[str, Value]], reveal: bool = False) -> list[str]:
    """Write `NAME = value` of each."""
    return [f"{name} = {written(value, reveal)}" for name, value in items]
