"""The generator: payment events as partners send them, dirt included, with the outcome known.

Belongs here: made-up payments and their expected outcome, computed by construction.
Does not: sending (`streaming/producer.py`), and never the fold, which is checked against this outcome.
"""

from streaming.simulate.generator import Plan, Simulation
from streaming.simulate.mix import PRESETS, Mix
from streaming.simulate.outcome import Outcome
from streaming.simulate.rhythm import default_start

__all__ = ["PRESETS", "Mix", "Outcome", "Plan", "Simulation", "default_start"]
