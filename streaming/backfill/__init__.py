"""Planned backfills of the curated tables: hours folded again from raw, approved, resumable."""
