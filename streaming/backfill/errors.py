"""Errors of backfills. Nothing else belongs here.

BackfillError
├── Refused              what was asked for is wrong: nothing was done
│   ├── WrongPlan            hours, a name or a file that no plan can have
│   ├── UnknownBackfill      no backfill has this name
│   ├── NotApproved          nobody has approved the plan, or only who asked for it
│   └── EditedPlan           the plan is not what was approved
├── AlreadyRunning       another process runs this backfill
└── Stopped              Spark or the catalog is gone: what is done stays done
"""

from __future__ import annotations

from streaming.errors import StreamingError


class BackfillError(StreamingError):
    """Base of what backfills raise."""


class Refused(BackfillError):
    """What was asked for is wrong; nothing was done."""


class WrongPlan(Refused):
    """Hours, a name or a file that no plan can have."""


class UnknownBackfill(Refused):
    """No backfill has this name."""


class NotApproved(Refused):
    """Nobody has approved the plan, or only who asked for it."""


class EditedPlan(Refused):
    """The plan is not what was approved."""


class AlreadyRunning(BackfillError):
    """Another process runs this backfill."""


class Stopped(BackfillError):
    """Spark or the catalog is gone, so no hour could be done; what is done stays done."""
