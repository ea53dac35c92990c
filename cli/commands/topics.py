"""`paywave topics`: topics as code.

Belongs here: options, and how a plan looks. Does not: deciding (`streaming/topic_plan.py`).
"""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.console import Console

from cli.context import topic_of
from cli.output import Output, with_output
from config.settings import Settings, load_settings
from streaming.errors import WeakTopic
from streaming.topic_plan import Change, durability_problems
from streaming.topics import apply_changes, plan_topic, refuse_impossible


@click.group()
def topics() -> None:
    """Compare the topic of payment events with what the settings say, and make it so."""


@topics.command()
@with_output
def plan(out: Output) -> None:
    """Show what differs from the settings. Exits 0 when nothing does, 1 when something does."""
    settings = load_settings()
    changes = plan_topic(settings.kafka_properties(), topic_of(settings))
    _show(out, settings, changes, applied=False)
    sys.exit(1 if changes else 0)


@topics.command()
@click.option("--dry-run", is_flag=True, help="Show the steps, change nothing.")
@with_output
def apply(dry_run: bool, out: Output) -> None:
    """Create the topic, add partitions, mend its settings. Never shrinks and never deletes."""
    settings = load_settings()
    _refuse_weak(settings)
    changes = plan_topic(settings.kafka_properties(), topic_of(settings))
    refuse_impossible(changes)
    if not dry_run:
        apply_changes(settings.kafka_properties(), changes)
    _show(out, settings, changes, applied=not dry_run)


def _refuse_weak(settings: Settings) -> None:
    problems = [] if settings.is_embedded else durability_problems(topic_of(settings))
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise WeakTopic(
            f"the settings of profile {settings.profile} ask for a topic that could lose records:{listed}",
            hint="correct kafka.replication_factor, kafka.min_insync_replicas or kafka.retention_days",
        )


def _show(out: Output, settings: Settings, changes: list[Change], applied: bool) -> None:
    value: dict[str, Any] = {
        "topic": settings.kafka.topic,
        "changes": [{"action": change.action, "what": change.said} for change in changes],
        "applied": applied,
    }
    out.result(value, lambda console: _print(console, value))


def _print(console: Console, value: dict[str, Any]) -> None:
    steps = value["changes"]
    if not steps:
        console.print(f"{value['topic']} is as it should be", markup=False)
        return
    console.print(f"{value['topic']}: {'done' if value['applied'] else 'would change'}", markup=False)
    for step in steps:
        console.print(f"  {step['action']}: {step['what']}", markup=False, soft_wrap=True)
