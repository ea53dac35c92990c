"""What a replay found, for people and programs. Pure.

Belongs here: differences and how they add up. Does not: finding them (`verify.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SHOWN = 20


class Difference(NamedTuple):
    """One row in which a table is not what raw says.

    Args:
        kind: `missing` (raw says it), `extra` (raw does not), `different`, or `repeated`.
        columns: for `different`, the columns that differ.
        row: the columns by which the row can be found, as text.
    """

    table: str
    kind: str
    columns: tuple[str, ...]
    row: dict[str, str]

    def __str__(self) -> str:
        said = f" in {', '.join(self.columns)}" if self.columns else ""
        return f"{self.table}: {self.kind}{said}: " + " ".join(f"{k}={v}" for k, v in self.row.items())


@dataclass
class Findings:
    """Differences added up by table and kind, and the first few of them."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[Difference] = field(default_factory=list)

    def add(self, found: Iterable[Difference]) -> None:
        """Count differences and keep the first ones."""
        for difference in found:
            self.counts[f"{difference.table}: {difference.kind}"] += 1
            if len(self.first) < SHOWN:
                self.first.append(difference)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def as_json(self) -> dict[str, Any]:
        """Render for programs and for the journal; `from_json` reads it."""
        return {"counts": dict(self.counts), "first": [d._asdict() for d in self.first]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Findings:
        """Read what `as_json` wrote."""
        first = [Difference(d["table"], d["kind"], tuple(d["columns"]), d["row"]) for d in value["first"]]
        return cls(Counter(value["counts"]), first)
