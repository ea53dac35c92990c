"""`replay verify --contract V`: what another contract version would make of the records of a scope.

Belongs here: going over the scope and adding up. Does not: comparing verdicts (`quality/contract_diff.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from streaming.contract_diff import EXAMPLES, contract_changes
from streaming.replay.pinned import pin
from streaming.replay.ranges import range_of
from streaming.replay.scope import Scope, WrongScope
from streaming.replay.verify import ReplaySettings, Report


class Kind(NamedTuple):
    """A kind of change, as `quality.contract_diff.Change` has it."""

    change: str
    rules: str
    event_type: str | None
    currency: str | None


@dataclass
class Changed:
    """Records that would change in one way: how many, the sum of their amounts, the first few of them."""

    records: int = 0
    amount: Decimal | None = None
    examples: list[str] = field(default_factory=list)

    def add(self, records: int, amount: Decimal | None, examples: Iterable[str]) -> None:
        """Add those of one chunk; chunks come in the order of raw."""
        self.records += records
        if amount is not None:
            self.amount = amount + (self.amount or 0)
        self.examples = [*self.examples, *examples][:EXAMPLES]


@dataclass(frozen=True)
class ContractReport:
    """What a contract version would change among the records of a scope."""

    scope: Scope
    version: int
    records: int
    changes: dict[Kind, Changed]
    remarks: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Render for programs; amounts as text."""
        changes = [
            {
                **kind._asdict(),
                "records": c.records,
                "amount": c.amount and str(c.amount),
                "first": c.examples,
            }
            for kind, c in self.changes.items()
        ]
        return {
            "scope": str(self.scope),
            "contract": self.version,
            "records": self.records,
            "changes": changes,
            "remarks": list(self.remarks),
        }


def report_contract(
    catalog: RestCatalog,
    spark: SparkSession,
    settings: ReplaySettings,
    scope: Scope,
    version: int,
    report: Report,
) -> ContractReport:
    """Judge the records of a scope by a contract version, and compare with the one in force.

    Raises:
        UnknownContract: there is no such version.
        WrongScope: partitions are named; which one a record speaks of may be just what would change.
    """
    if scope.partitions:
        raise WrongScope(
            "a contract version is compared on records, not on partitions",
            "give --from and --to, --raw-snapshot or --all",
        )
    found = range_of(spark, catalog, scope, pin(spark, catalog, settings.buckets).vector)
    changes: dict[Kind, Changed] = {}
    for chunk in found.chunks(settings.chunk_records):
        for row in contract_changes(chunk.read(spark), version).collect():
            kind = Kind(row["change"], row["rules"], row["event_type"], row["currency"])
            examples = [f"{e['topic_id']}-{e['partition']}@{e['offset']}" for e in row["examples"]]
            changes.setdefault(kind, Changed()).add(row["records"], row["amount"], examples)
        report("records", found.start.records_to(chunk.end), found.records)
    most_first = sorted(changes.items(), key=lambda item: -item[1].records)
    return ContractReport(scope, version, found.records, dict(most_first), found.remarks)
