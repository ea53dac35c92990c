"""Audit exports: what the tables held, pinned, written, signed and chained, so that anyone can verify it."""
