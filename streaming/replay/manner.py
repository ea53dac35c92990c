"""In which manner a replay is done: under which names, and who is told of each unit and may stop it.

Belongs here: these choices and what they are by default. Does not: the work (`apply.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from streaming.errors import StreamingError
from streaming.partitions import Partition
from streaming.replay.copies import WRITER


class Interrupted(StreamingError):
    """Somebody asked a replay to stop; started again it goes on where it was."""


class Watch:
    """Told of each unit of work. As it is here, nothing is noted and the first error ends the replay."""

    def before(self) -> None:
        """Called before each unit and chunk: wait here to give way, raise `Interrupted` to stop."""

    def done(
        self,
        table: str,
        unit: Collection[Partition],
        changed: Mapping[str, Mapping[int, int]],
        done: Mapping[str, Collection[Partition]],
    ) -> None:
        """Partitions of a table are as they must be.

        Args:
            changed: rows by hour, by `TABLE: added` and `TABLE: deleted`.
            done: the partitions of each table that are, by now.
        """

    def leaves_to_repair(self) -> None:
        """Payments of identity conflicts may differ in a unit: it leaves them to `repair`."""

    def tolerates(self, error: Exception) -> bool:  # noqa: ARG002
        """Tell whether the other units are to be done though one ended with this error."""
        return False

    def failed(self, unit: Collection[Partition], error: Exception) -> None:
        """Partitions of one hour could not be done; only called for what is tolerated."""


@dataclass(frozen=True)
class Manner:
    """How a replay goes about it.

    Args:
        writer: the role that its stages and stamps name.
        name: what its journal and scratch table are called; by its scope, unless given.
        tag: what the tables are tagged as before the first change; `before-replay-TIME`, unless given.
        repairs: look at identity conflicts at the end.
    """

    writer: str = WRITER
    name: str = ""
    tag: str = ""
    repairs: bool = True
    watch: Watch = field(default_factory=Watch)
