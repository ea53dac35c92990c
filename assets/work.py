"""Work in a process of its own: a `paywave` command, launched through Pipes, that reports its result.

Belongs here: launching on this machine, and insisting on a result. Does not: launching elsewhere (`pods.py`),
what the commands do (`cli/`), the command's own side of Pipes (`cli/pipes.py`).
"""

import sys
from collections.abc import Sequence
from typing import Any

import dagster as dg

from assets.lake import Lake
from config.settings import Settings

# Backfills, maintenance and whatever else is heavy run one at a time (a pool's limit can be raised, see
# `assets/instance.py`), so that the streaming jobs keep the rest of the machine and win most races.
SPARK_POOL = "spark"
# What is due by the clock goes before what comes in hundreds: hours of a backfill, hours to be stated.
FIRST = {"dagster/priority": "10"}
Context = dg.AssetExecutionContext | dg.OpExecutionContext


class Work(dg.ConfigurableResource[Any]):
    """Launches commands on this machine."""

    lake: Lake

    def settings(self) -> Settings:
        """Load the settings of the lake that is worked on."""
        return self.lake.settings()

    def launch(self, context: Context, command: Sequence[str]) -> dg.PipesClientCompletedInvocation:
        """Run a `paywave` command to its end; raises what Pipes' client does where it exits with an error."""
        return dg.PipesSubprocessClient().run(
            context=context,
            command=[sys.executable, "-m", "cli", *command],
            env={"PAYWAVE_HOME": str(self.settings().home)},
        )

    def run(self, context: Context, command: Sequence[str], may_fall_short: bool = False) -> dict[str, Any]:
        """Run a `paywave` command and return what it says with `--output json`.

        Args:
            may_fall_short: return the result also where the command exits 1 after it said it.

        Raises `dagster.Failure` where it failed or fell short, with what it says of it, or ended well and
        reported nothing: that is no success. One that dies raises what the client does.
        """
        told: dict[str, Any] = {}
        for message in self.launch(context, command).get_custom_messages():
            told |= message
        said = f"`paywave {' '.join(command)}`"
        if "result" not in told and "failure" in told:
            raise dg.Failure(f"{said} failed: {told['failure']}")
        if "result" not in told:
            raise dg.Failure(f"{said} ended without reporting what came out")
        result: dict[str, Any] = told["result"]
        if told.get("code") and not may_fall_short:
            raise dg.Failure(f"{said} fell short", metadata={"result": dg.MetadataValue.json(result)})
        return result
