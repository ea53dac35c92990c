"""The result of a reconciliation, for people, programs and the table. Pure.

Belongs here: what a result says. Does not: making it (`reconcile.py`), keeping it (`store.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lakehouse.offsets import OffsetVector
from quality.reconciliation import Account, Number, Sums
from streaming.replay.scope import Scope

Depth = Literal["deep", "counts"]


@dataclass(frozen=True)
class Reconciliation:
    """Every identity of a scope, and what it speaks of.

    Args:
        depth: `deep`: every record judged again; `counts`: rows and stamps counted only.
        remarks: what could not be held against anything, and why; it is no break.
        conflicts: identity conflicts, whose payments are left out.
    """

    run: str
    made_at: datetime
    depth: Depth
    scope: Scope
    accounts: tuple[Account, ...]
    snapshots: Mapping[str, int]
    offsets: OffsetVector
    remarks: tuple[str, ...] = ()
    conflicts: tuple[Mapping[str, Any], ...] = ()
    figures: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_balanced(self) -> bool:
        """Every identity holds."""
        return all(account.is_balanced for account in self.accounts)

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "balanced": self.is_balanced,
            "run": self.run,
            "made_at": self.made_at.isoformat(),
            "depth": self.depth,
            "scope": str(self.scope),
            **self.figures,
            "identities": [account.as_json() for account in self.accounts],
            "conflicts": list(self.conflicts),
            "remarks": list(self.remarks),
            "snapshots": {name: str(snapshot) for name, snapshot in self.snapshots.items()},
            "offsets": self.offsets.topics,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Make the table's rows: one per identity, of amounts one per currency and type."""
        return [row for account in self.accounts for row in self._rows_of(account)]

    def _rows_of(self, account: Account) -> list[dict[str, Any]]:
        if not account.formula.is_money:
            return [self._row(account, account.total, {})]
        kinds = account.parts or {(): account.total}  # no money at all is a result too
        return [self._row(account, sums, dict(kind)) for kind, sums in sorted(kinds.items())]

    def _row(self, account: Account, sums: Sums, kind: Mapping[str, str]) -> dict[str, Any]:
        is_balanced = account.is_balanced if not kind else sums.are_equal and not account.breaks
        return {
            "run": self.run,
            "made_at": self.made_at,
            "depth": self.depth,
            "scope": str(self.scope),
            "scope_from": self.scope.start,
            "scope_to": self.scope.end,
            "identity": account.formula.name,
            "formula": str(account.formula),
            "currency": kind.get("currency"),
            "event_type": kind.get("event_type"),
            "left_sum": sums.left,
            "right_sum": _sum(sums),
            "terms": json.dumps(account.terms(sums)),
            "state": "balanced" if is_balanced else "broken",
            "breaks": account.breaks,
            "first_break": str(account.first) if account.first is not None else None,
            "differing": json.dumps(account.shown()) if account.differing else None,
            "snapshots": json.dumps({name: str(snapshot) for name, snapshot in self.snapshots.items()}),
            "offsets": self.offsets.to_json(),
        }


def _sum(sums: Sums) -> Number:
    return sum(sums.right)
