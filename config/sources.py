"""The places that settings come from, in order, as plain dictionaries.

Belongs here: reading and naming those places. Does not: validating or merging values (`settings.py`).
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from config.errors import ConfigError

ENV_PREFIX = "PAYWAVE_"
PROFILES = ("local", "aws")


@dataclass(frozen=True)
class Layer:
    """One place: how people call it, and what it says. Values stay out of `repr`: some are secrets."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def has(self, path: tuple[str, ...]) -> bool:
        """Whether this place says something about the setting at `path`."""
        node: Any = self.values
        for part in path:
            if not isinstance(node, Mapping) or part not in node:
                return False
            node = node[part]
        return True


def env_name(path: tuple[str, ...]) -> str:
    """The environment variable of a setting: ("kafka", "topic") is PAYWAVE_KAFKA__TOPIC."""
    return ENV_PREFIX + "__".join(path).upper()


def home_of(overrides: Mapping[str, Any]) -> Path:
    """The folder of all data and state, absolute. Needed before anything else can be read."""
    given = overrides.get("home") or os.environ.get(f"{ENV_PREFIX}HOME") or ".paywave"
    return Path(given).expanduser().absolute()


def environment() -> Layer:
    """What `PAYWAVE_*` variables say, as nested values; `__` separates a group from its setting."""
    values: dict[str, Any] = {}
    for name, value in os.environ.items():
        if name.startswith(ENV_PREFIX):
            *groups, leaf = name.removeprefix(ENV_PREFIX).lower().split("__")
            node = values
            for group in groups:
                node = node.setdefault(group, {})
                if not isinstance(node, dict):
                    raise ConfigError(f"the environment says {group} twice, as a value and as a group")
            node[leaf] = value
    return Layer("environment", values)


def home_file(home: Path) -> Layer:
    """$PAYWAVE_HOME/paywave.toml, if it exists."""
    path = home / "paywave.toml"
    return Layer(f"file {path}", _toml(path)) if path.exists() else Layer(f"file {path} (does not exist)")


def running_stack(home: Path) -> Layer:
    """What the embedded stack wrote down when it came up: addresses, keys and jars."""
    path = home / "run" / "stack.json"
    if not path.exists():
        return Layer(f"embedded stack {path} (never started)")
    try:
        values = json.loads(path.read_text())["settings"]
        return Layer(f"embedded stack {path}" + ("" if values else " (stopped)"), values)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="`paywave up` writes it again") from error


def profile_file(profile: str) -> Layer:
    """A profile that ships with the project."""
    if profile not in PROFILES:
        raise ConfigError(
            f"there is no profile {profile!r}; there are: {', '.join(PROFILES)}",
            hint=f"set {ENV_PREFIX}PROFILE to one of them",
        )
    file = resources.files("config") / "profiles" / f"{profile}.toml"
    return Layer(f"profile config/profiles/{profile}.toml", tomllib.loads(file.read_text(encoding="utf-8")))


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="correct or remove that file") from error
