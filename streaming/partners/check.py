"""Checks the registry as a whole: profiles that exist, sample files that become good events.

Belongs here: what a reviewer would otherwise do by hand. Does not: the model of the file (`registry.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from quality.canonical import parse_json
from quality.cards import holds_card_number
from quality.contract import Event, in_force
from quality.judge import judge
from streaming.errors import ProfileError, StreamingError
from streaming.event_file import open_event_file
from streaming.message import ARCHIVE, Message
from streaming.partners.profile import find_profile
from streaming.partners.registry import Partner, Registry

_SHOWN = 5


class Finding(NamedTuple):
    """What was found out about one partner: events from its samples, and what is wrong (if anything)."""

    partner: str
    events: int
    problems: tuple[str, ...]


def check_registry(registry: Registry, folder: Path) -> list[Finding]:
    """Check every partner. `folder` is what the paths of samples are relative to."""
    return [_check(name, partner, folder) for name, partner in registry.partners.items()]


def _check(name: str, partner: Partner, folder: Path) -> Finding:
    problems = list(_profile_problems(partner))
    events = 0
    for sample in partner.samples if not problems else ():
        found, wrong = _check_sample(partner, folder / sample)
        events += found
        problems += [f"{sample}: {problem}" for problem in wrong]
    return Finding(name, events, tuple(problems))


def _profile_problems(partner: Partner) -> Iterator[str]:
    if partner.profile is None:
        return
    try:
        profile = find_profile(partner.profile)
    except ProfileError as error:
        yield str(error)
        return
    if profile.source != partner.source:
        yield f"profile {profile.name} says source {profile.source}, the registry {partner.source}"
    if not partner.samples:
        yield f"profile {profile.name} has no sample file: one shows that it fits"


def _check_sample(partner: Partner, path: Path) -> tuple[int, list[str]]:
    """Map and judge each row, as of the time at which it says it was ingested."""
    try:
        with open_event_file(
            path, profile=partner.profile, source=partner.source, allow_card_numbers=True
        ) as file:
            verdicts = [_problem(message) for message in file.messages()]
    except StreamingError as error:
        return 0, [str(error)]
    wrong = [f"event {n}: {problem}" for n, problem in enumerate(verdicts, 1) if problem]
    if not verdicts:
        wrong = ["no event in it"]
    more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return len(verdicts), wrong[:_SHOWN] + more


def _problem(message: Message) -> str | None:
    headers = dict(message.headers)
    if "line" in headers:
        return f"line {headers['line'].decode()} does not fit the profile"
    try:
        moment = datetime.fromisoformat(json.loads(message.value)["ingest_ts"])
        contract = in_force(moment)
    except (ValueError, KeyError, TypeError):
        return "has no readable ingest_ts"
    if holds_card_number(parse_json(message.value)):
        return "holds a card number: samples are made up"
    verdict = judge(message.value, moment, contract, archive=ARCHIVE in headers)
    return None if isinstance(verdict, Event) else "; ".join(v.message for v in verdict)
