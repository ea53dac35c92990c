"""How results and failures look: one `Output` for people (text) and for programs (JSON).

Belongs here: rendering to stdout and stderr. Does not: any decision about what to render.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console

from cli.logs import start_logs
from cli.pipes import tell_failure, tell_result


@dataclass(frozen=True)
class Output:
    """Where a command's result goes: text for people, exactly one JSON object for programs."""

    as_json: bool
    debug: bool = False

    @property
    def console(self) -> Console:
        """A console on stdout for results, in text mode."""
        return Console(highlight=False)

    @property
    def log(self) -> Console:
        """A console on stderr for progress and remarks, in both modes."""
        return Console(stderr=True, highlight=False)

    def result(self, value: Mapping[str, Any], text: Callable[[Console], None]) -> None:
        """Print `value` as one JSON object, or call `text` with a console. Dagster is told too."""
        tell_result(value)
        if self.as_json:
            click.echo(json.dumps(value, default=str, ensure_ascii=False))
        else:
            text(self.console)


def with_output(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--output` and `--debug` to a command and hand it an `Output` as the argument `out`."""

    @click.option(
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="json: stdout is one JSON object, logs go to stderr.",
    )
    @click.option("--debug", is_flag=True, help="Show stack traces and verbose logs.")
    @functools.wraps(function)
    def wrapper(*args: Any, output: str, debug: bool, **kwargs: Any) -> None:
        start_logs(logging.DEBUG if debug else logging.WARNING)
        function(*args, out=Output(as_json=output == "json", debug=debug), **kwargs)

    return wrapper


def report_failure(error: BaseException, debug: bool) -> int:
    """Print an error for people on stderr and return the exit code.

    Errors of our rooms carry a `hint` (what to do next); other errors show their type and message.
    """
    if debug:
        traceback.print_exception(error)
    hint = getattr(error, "hint", None)
    name = "" if hint is not None else f"{type(error).__name__}: "
    first_line = str(error).split("\n\tat ")[0].strip()  # a Java stack trace follows its message
    click.echo(f"error: {name}{first_line}", err=True)
    tell_failure(f"{name}{first_line}" + (f"; next: {hint}" if hint else ""))
    if hint:
        click.echo(f"next:  {hint}", err=True)
    elif not debug:
        click.echo("next:  run it again with --debug to see where it happened", err=True)
    sys.stderr.flush()
    return 1
