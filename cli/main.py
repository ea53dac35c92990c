"""Entry point of `paywave`: the table of commands and the one place where errors become exit codes.

Belongs here: command names, global options, exit codes.
Does not: what a command does (`cli/commands/`), how results look (`cli/output.py`).
"""

from __future__ import annotations

import importlib
import sys

import click

from cli.output import report_failure
from cli.pipes import tell_code, tell_failure, told_to_dagster

# name -> "module:command"; imported only when called, so that `paywave --help` never loads Spark.
COMMANDS = {
    "audit": "cli.commands.audit:audit",
    "backfill": "cli.commands.backfill:backfill",
    "changes": "cli.commands.late:changes",
    "complete": "cli.commands.late:complete",
    "demo": "cli.commands.demo:demo",
    "doctor": "cli.commands.stack:doctor",
    "down": "cli.commands.stack:down",
    "dropzone": "cli.commands.dropzone:dropzone",
    "events": "cli.commands.events:events",
    "gate": "cli.commands.gate:gate",
    "gateway": "cli.commands.gateway:gateway",
    "hash": "cli.commands.hash:content_hash",
    "investigate": "cli.commands.investigate:investigate_",
    "integrity": "cli.commands.integrity:integrity",
    "maintain": "cli.commands.maintain:maintain",
    "partners": "cli.commands.partners:partners",
    "quarantine": "cli.commands.quarantine:quarantine",
    "quality": "cli.commands.quality:quality",
    "query": "cli.commands.query:query",
    "reconcile": "cli.commands.reconcile:reconcile",
    "repair": "cli.commands.replay:repair",
    "replay": "cli.commands.replay:replay",
    "retention": "cli.commands.retention:retention",
    "schemas": "cli.commands.schemas:schemas",
    "snowflake": "cli.commands.snowflake:snowflake",
    "status": "cli.commands.stack:status",
    "stream": "cli.commands.stream:stream",
    "subject": "cli.commands.subject:subject",
    "topics": "cli.commands.topics:topics",
    "trail": "cli.commands.trail:trail",
    "ui": "cli.commands.ui:ui",
    "up": "cli.commands.stack:up",
}


class LazyGroup(click.Group):
    """A click group that imports a command's module on first use."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, name = target.split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paywave-lakehouse")
def paywave() -> None:
    """The PayWave lakehouse: Kafka to raw to curated, exact and provable."""


def main() -> None:
    """Run the command line; exit 0 done, 1 failed or a check fell short, 2 wrong usage."""
    with told_to_dagster():
        code = tell_code(_run())
    sys.exit(code)


def _run() -> int:
    try:
        return paywave(standalone_mode=False) or 0
    except SystemExit as ended:
        if ended.code:
            tell_failure("it fell short; its output above says of what")
        return int(ended.code or 0)
    except click.ClickException as error:
        error.show()
        tell_failure(error.format_message())
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return 130
    except Exception as error:
        return report_failure(error, debug="--debug" in sys.argv)
