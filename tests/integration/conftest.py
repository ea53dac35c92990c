"""Fixtures of the tests on the real stack, beside those of every test."""

from tests.aged import aged  # noqa: F401
from tests.lake import lake, proxy  # noqa: F401  (fixtures are found by their names here)
