"""Snowflake's side of the lake: rendering, planning, applying and watching what reads the tables in place.

Belongs here: all that knows Snowflake. Does not: the tables themselves (`lakehouse/`), settings (`config/`).
"""
