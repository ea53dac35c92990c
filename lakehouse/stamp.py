"""The stamp that every published snapshot carries in its summary: who wrote it, from what, how far.

Belongs here: names and rendering of the stamp. Does not: when it is written (`publish.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lakehouse import arrivals
from lakehouse.arrivals import Arrivals
from lakehouse.offsets import OffsetVector
from lakehouse.retired import NOTHING, Retired

_PREFIX = "paywave."
_COUNT_PREFIX = "paywave.total."
_NOTE_PREFIX = "paywave.note."


@dataclass(frozen=True)
class Stamp:
    """What a snapshot says of itself.

    Args:
        token: names one attempt to publish; the outcome of a lost answer is resolved by it.
        writer: who wrote it: `raw`, `curated`, `compact`, ….
        progress: how far the source is consumed, this snapshot included; None: it consumes no source.
        contract_version: contract in force for the newest record; None where none was judged.
        source_snapshot: raw snapshot that the rows were read from, a hint for the next batch.
        complete_to: Kafka time up to which every record is consumed; None where it is not known.
        arrivals: how late the records came that this publish consumed, per event hour.
        totals: running counts since the table's birth, e.g. `redelivered`; they move with the data.
        retired: what retention has dropped from the table so far; like the totals it is carried on.
        notes: what this one publish says besides, by name.
        code_version: release of this software that wrote it; None: it did not say, or was not installed.
    """

    token: str
    writer: str
    progress: OffsetVector | None = None
    contract_version: int | None = None
    source_snapshot: int | None = None
    complete_to: datetime | None = None
    arrivals: tuple[Arrivals, ...] = ()
    totals: Mapping[str, int] = field(default_factory=dict)
    retired: Retired = NOTHING
    notes: Mapping[str, str] = field(default_factory=dict)
    code_version: str | None = None

    def properties(self) -> dict[str, str]:
        """Render as snapshot summary properties."""
        found: dict[str, object] = {
            "token": self.token,
            "writer": self.writer,
            "code-version": self.code_version,
            "progress": self.progress.to_json() if self.progress is not None else None,
            "contract-version": self.contract_version,
            "source-snapshot": self.source_snapshot,
            "complete-to": None if self.complete_to is None else self.complete_to.isoformat(),
            "arrivals": arrivals.to_json(self.arrivals) if self.arrivals else None,
            "retired-before": None if self.retired.before is None else self.retired.before.isoformat(),
            "retired-below": self.retired.below.to_json() if self.retired else None,
        }
        named = {_PREFIX + name: str(value) for name, value in found.items() if value is not None}
        counts = {_COUNT_PREFIX + name: str(count) for name, count in self.totals.items()}
        return named | counts | {_NOTE_PREFIX + name: text for name, text in self.notes.items()}

    @classmethod
    def from_summary(cls, summary: Mapping[str, str]) -> Stamp | None:
        """Read the stamp of a snapshot; None where it carries none (a foreign commit)."""
        token = summary.get(_PREFIX + "token")
        if token is None:
            return None
        progress, noted = summary.get(_PREFIX + "progress"), summary.get(_PREFIX + "arrivals")
        complete_to = summary.get(_PREFIX + "complete-to")
        return cls(
            token=token,
            writer=summary.get(_PREFIX + "writer", ""),
            progress=OffsetVector.from_json(progress) if progress is not None else None,
            contract_version=_int(summary.get(_PREFIX + "contract-version")),
            source_snapshot=_int(summary.get(_PREFIX + "source-snapshot")),
            complete_to=datetime.fromisoformat(complete_to) if complete_to is not None else None,
            arrivals=arrivals.from_json(noted) if noted is not None else (),
            totals={name: int(count) for name, count in _named(summary, _COUNT_PREFIX).items()},
            retired=_retired(summary),
            notes=_named(summary, _NOTE_PREFIX),
            code_version=summary.get(_PREFIX + "code-version"),
        )


def _named(summary: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): text for name, text in summary.items() if name.startswith(prefix)}


def _retired(summary: Mapping[str, str]) -> Retired:
    before = summary.get(_PREFIX + "retired-before")
    if before is None:
        return NOTHING
    below = summary[_PREFIX + "retired-below"]
    return Retired(datetime.fromisoformat(before), OffsetVector.from_json(below))


def _int(text: str | None) -> int | None:
    return None if text is None else int(text)
