"""The schema files under version control, held to the contract's code and to one another.

Belongs here: reading, checking and writing them, and the partners' page that is made from them.
Does not: what they say (`quality/event_schema.py`), when a change breaks (`quality/schema_changes.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import quality
from quality.contract import HISTORY, Contract
from quality.contract_page import contract_page
from quality.event_schema import NAME, Schema, event_schema
from quality.schema_changes import breaks, same_rules
from streaming.errors import SchemaError

FOLDER = Path(quality.__file__).parent / "schemas" / NAME
RELEASED = FOLDER.parent / "released" / NAME
PAGE = FOLDER.parents[2] / "docs" / "partner-contract.md"
_FROM = "x-effective-from"
_RELEASE = "`paywave schemas release` keeps a copy, to hold later ones to"
_HINT = "`paywave schemas write` makes them anew from the contract's code; then look at the difference"


@dataclass(frozen=True)
class Break:
    """What a version refuses though an earlier one allowed it; `announced`: its contract says so."""

    version: int
    against: int
    what: str
    announced: bool


def read_schemas(folder: Path = FOLDER) -> dict[int, Schema]:
    """Read the files, by contract version, oldest first. Raises SchemaError for what is no schema file."""
    found = {}
    for path in folder.glob("*.json"):
        try:
            found[int(path.stem.removeprefix("v"))] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise SchemaError(f"{path} is no schema file: {error}", _HINT) from None
    return dict(sorted(found.items()))


def find_breaks(schemas: Mapping[int, Schema], history: tuple[Contract, ...] = HISTORY) -> list[Break]:
    """Compare each version with every earlier one, not only the last (BACKWARD_TRANSITIVE).

    A version that announces its break opens a new line: later ones are held to the versions from there on.
    """
    announced = {c.version for c in history if c.announced_break}
    return [
        Break(version, earlier, what, version in announced)
        for version in schemas
        for earlier in schemas
        if line_of(version, history, before=True) <= earlier < version
        for what in breaks(schemas[earlier], schemas[version])
    ]


def line_of(version: int, history: tuple[Contract, ...] = HISTORY, before: bool = False) -> int:
    """The version that began the line of compatible versions that this one is in; `before`: is held to."""
    begun = [c.version for c in history if c.announced_break and c.version <= version - before]
    return max(begun, default=history[0].version)


def find_rewritten(schemas: Mapping[int, Schema], released: Mapping[int, Schema]) -> list[str]:
    """Say which versions are not what was released.

    All are made of the same code: a change of a rule that they share changes those in force too, and none of
    them breaks with another.
    """
    found = [
        f"v{version}.json is not what was released; in force from {schema[_FROM]}, it must stay as it was"
        for version, schema in released.items()
        if not _is_same(schemas.get(version), schema)
    ]
    return found + [
        f"v{version}.json was never released: {_RELEASE}" for version in schemas if version not in released
    ]


def release(now: datetime, folder: Path = FOLDER, released: Path = RELEASED) -> list[Path]:
    """Keep copies of the versions, to hold later releases to; returns those that changed.

    Raises SchemaError, and changes nothing, where one that is in force by `now` would change.
    """
    mine, theirs = read_schemas(folder), read_schemas(released)
    for version, schema in theirs.items():
        if datetime.fromisoformat(schema[_FROM]) <= now and not _is_same(mine.get(version), schema):
            raise SchemaError(
                f"v{version}.json is in force since {schema[_FROM]}: old records are judged by it",
                "append a new version to the contract instead (CONTRIBUTING.md, Add a rule to the contract)",
            )
    return _written({released / f"v{version}.json": schema_text(schema) for version, schema in mine.items()})


def _is_same(mine: Schema | None, released: Schema) -> bool:
    return mine is not None and mine.get(_FROM) == released[_FROM] and same_rules(mine, released)


def find_drift(
    folder: Path = FOLDER, page: Path = PAGE, history: tuple[Contract, ...] = HISTORY
) -> list[str]:
    """Say which files are not what the contract's code makes; the page only where there is a checkout."""
    wanted = {path.name: text for path, text in _texts(folder, page, history).items() if path != page}
    files = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    found = [
        f"{name} {'is missing' if name not in files else 'is not what the contract says'}"
        for name, text in wanted.items()
        if files.get(name) != text
    ]
    found += [
        f"{name} belongs to no version of the contract" for name in sorted(files.keys() - wanted.keys())
    ]
    if page.parent.is_dir() and (not page.exists() or page.read_text("utf-8") != contract_page(history)):
        found.append(f"{page.name} is not what the contract says")
    return found


def write(folder: Path = FOLDER, page: Path = PAGE, history: tuple[Contract, ...] = HISTORY) -> list[Path]:
    """Write the schema files and the page of a checkout; returns those that changed."""
    return _written(_texts(folder, page, history))


def _written(texts: Mapping[Path, str]) -> list[Path]:
    changed = []
    for path, text in texts.items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            changed.append(path)
    return changed


def schema_text(schema: Schema) -> str:
    """A schema as its file has it, and as the registry gets it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _texts(folder: Path, page: Path, history: tuple[Contract, ...]) -> dict[Path, str]:
    schemas = {folder / f"v{c.version}.json": schema_text(event_schema(c)) for c in history}
    return {**schemas, page: contract_page(history)}
