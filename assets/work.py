"""Work in a process of its own: a `paywave` command, launched through Pipes, that reports its result.

Belongs here: launching, and insisting on a result. Does not: what the commands do (`cli/`), the command's own
side of Pipes (`cli/pipes.py`).
"""

import sys
from collections.abc import Sequence
from typing import Any

import dagster as dg

from assets.lake import Lake

# Backfills, maintenance and whatever else is heavy run one at a time (a pool's limit can be raised, see
# `assets/instance.py`), so that the streaming jobs keep the rest of the machine and win most races.
SPARK_POOL = "spark"
Context = dg.AssetExecutionContext | dg.OpExecutionContext


class Work(dg.ConfigurableResource[Any]):
    """Launches commands on this machine. A deployment that has them run elsewhere puts its own here."""

    lake: Lake

    def run(self, context: Context, command: Sequence[str]) -> dict[str, Any]:
        """Run a `paywave` command and return what it says with `--output json`.

        Raises `dagster.Failure` where it ended well and reported nothing: that is no success. One that fails
        raises what the client does; why is in the run's log.
        """
        done = dg.PipesSubprocessClient().run(
            context=context,
            command=[sys.executable, "-m", "cli", *command],
            env={"PAYWAVE_HOME": str(self.lake.settings().home)},
        )
        results = [message["result"] for message in done.get_custom_messages() if "result" in message]
        if not results:
            raise dg.Failure(f"`paywave {' '.join(command)}` ended without reporting what came out")
        result: dict[str, Any] = results[-1]
        return result
