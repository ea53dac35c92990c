"""A SELECT whose tables are read at one version each: which tables it names, and the same with AT at each.

Belongs here: taking the text apart as Snowflake does, and putting clauses in. Does not: which version is
meant (`lakehouse/moments.py`), running anything (`time_travel.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from snowflake_external.errors import WrongQuery
from snowflake_external.sql import literal

_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*|//[^\n]*|/\*.*?\*/)
      | (?P<text>'(?:[^'\\]|''|\\.)*'|\$\$.*?\$\$)
      | (?P<word>"(?:[^"]|"")+"|[A-Za-z_][\w$]*)
      | (?P<mark>->>|.)""",
    re.DOTALL | re.VERBOSE,
)
_READS = ("select", "with")
# `->>` hands a result to another statement, which may do more than read; `@` is a stage, whose files are no
# tables of the lake.
_MARKS = frozenset({";", "->>", "@"})
# WITH may define and CALL a procedure with the caller's rights, INTO keeps a result; a name that IDENTIFIER
# makes of a string cannot be told from the text.
_WORDS = frozenset({"call", "identifier", "into", "procedure"})
_SYSTEM = "system$"  # functions that may change the account
_OF_ROWS = frozenset({"flatten", "generator", "split_to_table"})  # table functions that read no table
_HINT = "tables are named schema.table, columns by an alias: SELECT p.amount FROM curated.payments AS p"


@dataclass(frozen=True)
class Pin:
    """One version of a table: a snapshot, by its id or by a tag that stands on it."""

    snapshot_id: int
    tag: str | None = None

    def __str__(self) -> str:
        """The clause that follows the table's name."""
        if self.tag is not None:
            return f"AT (VERSION_TAG => {literal(self.tag)})"
        return f"AT (VERSION => {int(self.snapshot_id)})"


@dataclass(frozen=True)
class _Name:
    """A name in the text, in lower case where it is not quoted, and where it stands."""

    parts: tuple[str, ...]
    start: int
    end: int
    is_path: bool  # within a VARIANT, after a colon


@dataclass(frozen=True)
class Select:
    """One SELECT that names tables of the lake as `schema.table`."""

    text: str
    _places: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, sql: str, known: Collection[str]) -> Select:
        """Take a statement apart. Raises WrongQuery if it does more than read, or what it reads is not plain.

        `known` are the tables of the lake, as `schema.table`. Whatever is read must be read at its version:
        so no table may be named in another way.
        """
        tokens = [one for one in _TOKEN.finditer(sql) if one.lastgroup != "skip"]
        if tokens and tokens[-1][0] == ";":
            tokens.pop()
        marks = {one[0] for one in tokens if one.lastgroup == "mark"}
        if not tokens or tokens[0][0].lower() not in _READS or marks & _MARKS:
            raise WrongQuery("one SELECT is wanted: this only reads", _HINT)
        _check_reads(tokens)
        names = list(_names(tokens))
        for name in names:
            if len(name.parts) > 2 and not name.is_path:
                raise WrongQuery(f"{'.'.join(name.parts)} has too many parts to be read at a version", _HINT)
        places = [(".".join(one.parts), one.start, one.end) for one in names if ".".join(one.parts) in known]
        if not places:
            raise WrongQuery("it names no table of the lake", f"there are: {', '.join(sorted(known))}")
        return cls(sql[: tokens[-1].end()], tuple(places))

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that it names, in order."""
        return tuple(sorted({table for table, _, _ in self._places}))

    def at(self, relations: Mapping[str, str]) -> str:
        """The same with each table's name replaced by its relation: a quoted name, and a clause."""
        text = self.text
        for table, start, end in reversed(self._places):
            text = text[:start] + relations[table] + text[end:]
        return text


def _check_reads(tokens: list[re.Match[str]]) -> None:
    """Raise WrongQuery at a word that may do more than read, or read what is not named."""
    words = [one[0].lower() if one.lastgroup in ("word", "mark") else "" for one in tokens]
    for at, word in enumerate(words):
        # Whether Snowflake finds a function of its own by a quoted name, is not documented.
        called = _part(word) if words[at + 1 : at + 2] == ["("] else word
        if called in _WORDS or called.startswith(_SYSTEM):
            raise WrongQuery(f"{tokens[at][0]} may do more than read a table at its version", _HINT)
        if words[at : at + 2] == ["table", "("] and ("".join(words[at + 2 : at + 3]) not in _OF_ROWS):
            rows = ", ".join(sorted(_OF_ROWS)).upper()
            raise WrongQuery(f"TABLE(…) may read anything; of it there are {rows} only", _HINT)


def _names(tokens: list[re.Match[str]]) -> Iterator[_Name]:
    at = 0
    while at < len(tokens):
        first = at
        while _is_word(tokens, at) and _is_dot(tokens, at + 1) and _is_word(tokens, at + 2):
            at += 2
        if _is_word(tokens, first):
            parts = tuple(_part(one[0]) for one in tokens[first : at + 1 : 2])
            after_colon = first > 0 and tokens[first - 1][0] == ":"
            yield _Name(parts, tokens[first].start(), tokens[at].end(), after_colon)
        at += 1


def _is_word(tokens: list[re.Match[str]], at: int) -> bool:
    return at < len(tokens) and tokens[at].lastgroup == "word"


def _is_dot(tokens: list[re.Match[str]], at: int) -> bool:
    return at < len(tokens) and tokens[at][0] == "."


def _part(word: str) -> str:
    return word[1:-1].replace('""', '"') if word.startswith('"') else word.lower()
