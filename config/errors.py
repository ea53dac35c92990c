"""What can go wrong with settings. Nothing else belongs here.

ConfigError
└── MissingSetting    a value that this step needs is nowhere to be found
"""

from __future__ import annotations


class ConfigError(Exception):
    """A setting is wrong or missing; `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "correct the setting named above and run it again") -> None:
        super().__init__(message)
        self.hint = hint


class MissingSetting(ConfigError):
    """A setting that this step needs was not given in any of the places."""
