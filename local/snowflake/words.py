"""Reading a statement word by word. Belongs here: names, values, `KEY = value` lists, where it went wrong.

Does not: which statements there are (`statements.py`), which keys an object has (`kinds.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from snowflake.connector.errors import ProgrammingError

from local.snowflake.answers import syntax_error

_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*|//[^\n]*|/\*.*?\*/)
      | (?P<text>'(?:[^'\\]|''|\\.)*'|\$\$.*?\$\$)
      | (?P<quoted>"(?:[^"]|"")+")
      | (?P<word>[A-Za-z_][\w$]*)
      | (?P<number>-?\d+(?:\.\d+)?)
      | (?P<mark>->|=>|.)""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}

Name = tuple[str, ...]
# What a key takes: a type, an enumeration of words, or the keys of a group in brackets (a list: of many).
Shape = type | tuple[str, ...] | Mapping[str, Any] | list[Mapping[str, Any]]


class Token(NamedTuple):
    kind: str
    text: str
    start: int


class Words:
    """A statement and how far it has been read."""

    def __init__(self, sql: str) -> None:
        self.sql = sql.strip().removesuffix(";").rstrip()
        found = ((match.lastgroup or "", match) for match in _TOKEN.finditer(self.sql))
        self.tokens = [Token(kind, match[0], match.start()) for kind, match in found if kind != "skip"]
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        """The word (in capitals) or mark there; a string, quoted name or the end is none."""
        token = self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else Token("", "", 0)
        return token.text.upper() if token.kind in ("word", "mark", "number") else ""

    def peek_last(self) -> str:
        """The last word, in capitals."""
        return self.tokens[-1].text.upper() if self.tokens else ""

    def take(self, phrase: str) -> bool:
        """Read these words if they come next."""
        wanted = phrase.split()
        if [self.peek(at) for at in range(len(wanted))] != wanted:
            return False
        self.at += len(wanted)
        return True

    def need(self, phrase: str) -> None:
        """Read these words; anything else is an error."""
        if not self.take(phrase):
            raise self.wrong()

    def one_of(self, phrases: Mapping[str, Any] | tuple[str, ...]) -> str:
        """Read one of these phrases, the longest that fits; "" if none does."""
        return next((one for one in sorted(phrases, key=len, reverse=True) if self.take(one)), "")

    def name(self) -> Name:
        """Read a name, in capitals where it is not quoted: `db.schema.object`."""
        parts = [self._identifier()]
        while self.take("."):
            parts.append(self._identifier())
        return tuple(parts)

    def _identifier(self) -> str:
        token = self._next("word", "quoted")
        return token.text[1:-1].replace('""', '"') if token.kind == "quoted" else token.text.upper()

    def text(self) -> str:
        """Read a string."""
        raw = self._next("text").text
        if raw.startswith("$$"):
            return raw[2:-2]
        return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]) if found[1] else "'", raw[1:-1])

    def number(self) -> int:
        """Read a whole number."""
        return int(self._next("number").text)

    def names(self) -> list[str]:
        """Read `(a, b)`; none at all is an empty list."""
        self.need("(")
        found: list[str] = []
        while not self.take(")"):
            found.append(".".join(self.name()))
            if not self.take(","):
                self.need(")")
                break
        return found

    def texts(self) -> list[str]:
        """Read `('a', 'b')`."""
        found: list[str] = self._many(str)
        return found

    def options(self, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        """Read `KEY = value` as long as the keys are among `shapes`; the value must have that shape."""
        found: dict[str, Any] = {}
        while (key := self.peek()) in shapes and key not in found:
            self.at += 1
            self.need("=")
            found[key] = self._value(shapes[key])
            self.take(",")
        return found

    def _value(self, shape: Shape) -> Any:
        if isinstance(shape, list):
            return self._many(shape[0])
        if isinstance(shape, Mapping):
            self.need("(")
            group = self.options(shape)
            self.need(")")
            return group
        if shape is list:
            return self._many(str)
        return self._plain(shape)

    def _many(self, shape: Shape) -> list[Any]:
        self.need("(")
        found = [self._value(shape)]
        while self.take(","):
            found.append(self._value(shape))
        self.need(")")
        return found

    def _plain(self, shape: Any) -> Any:
        if isinstance(shape, tuple):
            chosen = self.one_of(shape) or (self.text().upper() if self._is("text") else "")
            if chosen not in shape:
                raise self.wrong()
            return chosen
        if shape is bool:
            return {"TRUE": True, "FALSE": False}[self._one("TRUE", "FALSE")]
        if shape is int:
            return self.number()
        # Names are given as strings or bare.
        return self.text() if self._is("text") else ".".join(self.name())

    def _one(self, *words: str) -> str:
        chosen = self.one_of(words)
        if not chosen:
            raise self.wrong()
        return chosen

    def bracketed(self) -> str:
        """Read `( … )` as it stands, and give back what is inside."""
        self.need("(")
        start, depth = self.at, 1
        while depth:
            mark = self._next("word", "quoted", "text", "number", "mark").text
            depth += {"(": 1, ")": -1}.get(mark, 0)
        return self.between(start, self.at - 1)

    def between(self, first: int, last: int) -> str:
        """The text from one token up to another, without that."""
        end = self.tokens[last].start if last < len(self.tokens) else len(self.sql)
        return self.sql[self.tokens[first].start : end].strip() if first < last else ""

    def rest(self) -> str:
        """Read all that is left, as it stands."""
        start, self.at = self.at, len(self.tokens)
        return self.between(start, self.at)

    def end(self) -> None:
        """There must be nothing more: what was not understood is never passed over."""
        if self.at < len(self.tokens):
            raise self.wrong()

    def wrong(self) -> ProgrammingError:
        """The error of the place that was reached."""
        if self.at >= len(self.tokens):
            return syntax_error("syntax error: unexpected '<EOF>'.")
        token = self.tokens[self.at]
        before = self.sql[: token.start]
        line, position = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1)
        return syntax_error(f"syntax error line {line} at position {position} unexpected '{token.text}'.")

    def _is(self, *kinds: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].kind in kinds

    def _next(self, *kinds: str) -> Token:
        if not self._is(*kinds):
            raise self.wrong()
        self.at += 1
        return self.tokens[self.at - 1]
