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


def told_of(error: BaseException) -> str:
    """Tell an error and what to do next in one line, for those who do not read stderr."""
    hint = getattr(error, "hint", None)
    return _message(error) + (f"; next: {hint}" if hint else "")


def _message(error: BaseException) -> str:
    name = "" if getattr(error, "hint", None) is not None else f"{type(error).__name__}: "
    return name + str(error).split("\n\tat ")[0].strip()  # a Java stack trace follows its message


def report_failure(error: BaseException, debug: bool) -> int:
    """Print an error for people on stderr and return the exit code.

    Errors of our rooms carry a `hint` (what to do next); other errors show their type and message.
    """
    if debug:
        traceback.print_exception(error)
    hint = getattr(error, "hint", None)
    click.echo(f"error: {_message(error)}", err=True)
    tell_failure(told_of(error))
    if hint:
        click.echo(f"next:  {hint}", err=True)
    elif not debug:
        click.echo("next:  run it again with --debug to see where it happened", err=True)
    sys.stderr.flush()
    return 1
