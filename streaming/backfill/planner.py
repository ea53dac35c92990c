"""Making plans: measured, estimated, and kept where people and runs find them.

Belongs here: putting a plan together. Does not: the figures (`measure.py`), the formula (`estimate.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from pyiceberg.catalog.rest import RestCatalog

from streaming.backfill.errors import WrongPlan
from streaming.backfill.estimate import chunks, estimate
from streaming.backfill.hours import in_order
from streaming.backfill.measure import is_unfolded, measure
from streaming.backfill.plan import Plan, approve, approved_by, check_name, name_for
from streaming.backfill.settings import BackfillSettings
from streaming.backfill.store import Store

_log = structlog.get_logger(__name__)


class Planner:
    """Makes and keeps plans; needs no Spark."""

    def __init__(self, catalog: RestCatalog, settings: BackfillSettings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._store = Store(settings.folder)

    def plan(
        self,
        hours: Iterable[str],
        reason: str,
        requested_by: str,
        approver: str | None = None,
        name: str | None = None,
    ) -> Plan:
        """Plan to fold these hours again; nothing is kept yet.

        Raises `WrongPlan` for hours or a name that cannot be, a reason or person that is not named, or
        curated tables that were never filled.
        """
        ordered = in_order(hours)
        if not reason.strip() or not requested_by.strip():
            raise WrongPlan("a backfill needs a reason, and somebody who asks for it", "say both")
        if is_unfolded(self._catalog):
            raise WrongPlan(
                "the curated tables were never filled, so there is nothing to fold again",
                "`paywave stream curated` or `paywave replay apply --all` fills them from the first record",
            )
        settings, rates = self._settings, self._settings.rates
        found, measured_at = measure(self._catalog, ordered)
        cut = chunks(found, settings.chunk_hours, settings.chunk_rows)
        return Plan(
            name=check_name(name or name_for(ordered, reason)),
            reason=reason.strip(),
            requested_by=requested_by.strip(),
            created=datetime.now(UTC).replace(microsecond=0),
            measured_at=measured_at,
            buckets=settings.buckets,
            chunk_hours=settings.chunk_hours,
            chunk_rows=settings.chunk_rows,
            estimate=estimate(cut, rates, self._store.factor()),
            hours=tuple(found),
            approver=approver,
        )

    def adopt(self, hours: Iterable[str], reason: str, requested_by: str, approver: str) -> Plan:
        """Find the plan for just these hours and this reason, or make and keep it, approved.

        Whoever asks for the same again finds the same plan, and how far it is: once it is done, there is
        nothing to do. Another reason makes another plan. Raises `NotApproved`.
        """
        hours = in_order(hours)
        name = name_for(hours, reason)
        if not self._store.has(name):
            made = self.plan(hours, reason, requested_by, approver, name)
            # before it is kept: a plan that keeps an approval that does not count could never be approved
            approve(made, approver, None, made.created, self._settings.allows_requester)
            with suppress(WrongPlan):  # another process was first
                self._store.add(made)
                _log.info("backfill planned", backfill=name, hours=len(made.hours), approver=approver)
        kept = self._store.find(name)
        plan = kept.plan()
        if plan.approver is None:
            plan = approved_by(plan, approver)
            kept.save_plan(plan)
        return plan
