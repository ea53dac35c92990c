"""Benchmarks: scripts that measure on real servers and print ratios taken in one run. Not tests."""
