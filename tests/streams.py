"""Simulated streams of the tests: of the last days, and yet the same ones whichever day it is.

Belongs here: those streams. Does not: how they are sent (`pipeline.py`).
"""

from __future__ import annotations

from datetime import timedelta
from random import Random

from streaming.simulate import Mix, Plan, Simulation

# Every kind of dirt there is, far more of it than in life.
DIRTY = Mix(
    duplicates=0.08,
    business_duplicates=0.05,
    late=0.1,
    out_of_order=0.1,
    reversals=0.06,
    corrections=0.06,
    unknown_fields=0.05,
    malformed=0.06,
)
# A batch costs by the partitions that it touches, and few events cover an hour as well as a day.
SPAN = timedelta(hours=1)


def steady(plan: Plan) -> Simulation:
    """Make a stream of which the times alone go by the day: a test may name a record of it by its place."""
    drawn = f"{plan.seed}/{plan.count}/{plan.span}/{plan.mix}"
    return Simulation(plan, Random(drawn))


def dirty(count: int, seed: int, span: timedelta = SPAN) -> Simulation:
    """A stream of the last days with every kind of dirt."""
    return steady(Plan.recent(count, seed, DIRTY, span))
