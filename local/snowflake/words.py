"""Reading a statement word by word. Belongs here: names, values, `KEY = value` lists, where it went wrong.

Does not: which statements there are (`statements.py`), which keys an object has (`kinds.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlglot
from snowflake.connector.errors import ProgrammingError
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from local.snowflake.answers import syntax_error

_TEXTS = (TokenType.STRING, TokenType.RAW_STRING, TokenType.HEREDOC_STRING)

Name = tuple[str, ...]
# What a key takes: a type, an enumeration of words, or the keys of a group in brackets (a list: of many).
Shape = type | tuple[str, ...] | Mapping[str, Any] | list[Mapping[str, Any]]


class Words:
    """A statement and how far it has been read."""

    def __init__(self, sql: str) -> None:
        self.sql = sql.strip().removesuffix(";").rstrip()
        try:
            self.tokens = sqlglot.tokenize(self.sql, read="snowflake")
        except TokenError as error:
            raise syntax_error(str(error).splitlines()[0]) from None
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        """The word (in capitals) or mark there; a string, quoted name or the end is none."""
        at = self.at + ahead
        return _plain(self.tokens[at]) if at < len(self.tokens) else ""

    def peek_last(self) -> str:
        """The last word, in capitals."""
        return _plain(self.tokens[-1]) if self.tokens else ""

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
        is_word = self.peek()[:1].isalpha() or self.peek()[:1] == "_"
        token = self._next(is_word or self._is(TokenType.IDENTIFIER))
        return token.text.upper() if is_word else token.text

    def text(self) -> str:
        """Read a string."""
        return str(self._next(self._is(*_TEXTS)).text)

    def number(self) -> int:
        """Read a whole number."""
        return int(self._next(self.peek().isdecimal()).text)

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
            chosen = self.one_of(shape) or (self.text().upper() if self._is(*_TEXTS) else "")
            if chosen not in shape:
                raise self.wrong()
            return chosen
        if shape is bool:
            return {"TRUE": True, "FALSE": False}[self._one("TRUE", "FALSE")]
        if shape is int:
            return self.number()
        # Names are given as strings or bare.
        return self.text() if self._is(*_TEXTS) else ".".join(self.name())

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
            depth += {"(": 1, ")": -1}.get(self.peek(), 0)
            self._next(True)
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
        position, text = token.col - (token.end - token.start) - 1, self.sql[token.start : token.end + 1]
        return syntax_error(f"syntax error line {token.line} at position {position} unexpected '{text}'.")

    def _is(self, *kinds: TokenType) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].token_type in kinds

    def _next(self, fits: bool) -> Token:
        if not fits or self.at >= len(self.tokens):
            raise self.wrong()
        self.at += 1
        return self.tokens[self.at - 1]


def _plain(token: Token) -> str:
    is_plain = token.token_type not in (*_TEXTS, TokenType.IDENTIFIER)
    return str(token.text).upper() if is_plain else ""
