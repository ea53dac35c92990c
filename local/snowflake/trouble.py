"""Trouble on command: what a test or a drill writes into one file, and the stand-in then acts out.

Belongs here: the file, and what it says. Does not: what follows from it.

`python -m local.snowflake.trouble --home HOME '{"stalled": ["*"]}'` makes it, `'{}'` ends it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from local.services.base import write_private


@dataclass(frozen=True)
class Trouble:
    """Names are full and in capitals, `*` is every one. `slow` is in seconds per refresh.

    `stalled`: tables whose refresh fails; `stopped`: those whose automated refresh fails for good.
    `suspended`: warehouses that do not resume (by their resource monitor, if they have one). `denied`:
    objects that nobody may use any more (tables, views, integrations, …). `lacks`: what the account does not
    do: time travel by VERSION or VERSION_TAG, a REFRESH by hand while the automated one is on.
    """

    stalled: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    suspended: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    slow: float = 0.0

    def meets(self, what: str, name: str) -> bool:
        """Whether it strikes this name."""
        names = getattr(self, what)
        return name in names or "*" in names


def read_trouble(home: Path) -> Trouble:
    """What is to be acted out now; none where there is no file."""
    path = _file(home)
    if not path.exists():
        return Trouble()
    return _parsed(path.read_text(encoding="utf-8"))


def make_trouble(home: Path, trouble: Trouble) -> None:
    """Act this out from now on; `Trouble()` ends all of it."""
    write_private(_file(home), json.dumps(asdict(trouble)))


def _parsed(text: str) -> Trouble:
    values = json.loads(text)
    unknown = set(values) - {field.name for field in fields(Trouble)}
    if unknown:
        raise ValueError(f"there is no such trouble: {', '.join(sorted(unknown))}")
    slow = float(values.pop("slow", 0))
    return Trouble(**{name: tuple(names) for name, names in values.items()}, slow=slow)


def _file(home: Path) -> Path:
    return home / "snowflake" / "trouble.json"


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.snowflake.trouble")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument(
        "trouble", type=_parsed, help="JSON: stalled, stopped, suspended, denied, lacks (names), slow (s)"
    )
    given = parser.parse_args()
    make_trouble(given.home, given.trouble)


if __name__ == "__main__":
    _main()
