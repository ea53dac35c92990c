"""Dagster: the lake as assets, their checks, what is done when data change, maintenance and backfills.

Belongs here: what is asked for, when, and how its outcome is shown. Does not: the work itself (`lakehouse/`,
`streaming/`), which runs in processes of its own (`work.py`).

Modules with functions that Dagster decorates do without `from __future__ import annotations`: it reads the
annotations of their arguments.
"""
