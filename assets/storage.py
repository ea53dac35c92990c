"""Dagster's storage before its servers start: of this version, and without runs that nobody runs.

Belongs here: what `servers.py` has done in a process of its own, with the servers' environment. Does not:
starting servers.
"""

from __future__ import annotations

import dagster as dg

# One whose launch has begun. What waits in the queue is launched by the next daemon.
_AT_WORK = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_LOST = "The code server that ran it is gone, and its process with it."


def prepare(instance: dg.DagsterInstance) -> None:
    """Upgrade the storage, then give up the runs of a code server that is gone.

    Nothing else notices these: they would hold their pools for ever. As failed runs they are launched again.
    Only whoever starts the one code server of this storage may call it.
    """
    instance.upgrade(print)
    for run in instance.get_runs(dg.RunsFilter(statuses=_AT_WORK)):
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, _LOST)
        else:
            instance.report_run_failed(run, _LOST)
        print(f"run {run.run_id}: {_LOST}")


if __name__ == "__main__":
    with dg.DagsterInstance.get() as found:
        prepare(found)
