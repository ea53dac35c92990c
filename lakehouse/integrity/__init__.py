"""Integrity of raw: every file of every retained snapshot is there, and is what it was."""
