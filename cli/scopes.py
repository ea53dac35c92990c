"""The partner that an export's scope names: one that nobody knows is a slip of the pen, not an empty export.

Belongs here: asking the registry, and the tables for partners of old. Does not: reading a scope
(`lakehouse/exports/request.py`).
"""

from __future__ import annotations

from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions import EqualTo

from cli.commands.partners import registry_file
from config.settings import Settings
from lakehouse.definitions import PAYMENTS, QUARANTINE
from lakehouse.errors import WrongScope
from lakehouse.exports.request import Scope
from streaming.partners.registry import load_registry

# pydantic hides the signature from the type checker
_equal: Any = EqualTo


def check_partner(settings: Settings, catalog: RestCatalog, scope: Scope) -> None:
    """Check that a scope's partner is registered by this source, or that any row is of it.

    Raises `WrongScope`, and lists the partners that there are.
    """
    if scope.kind != "partner":
        return
    partners = load_registry(registry_file(settings)).partners
    if any(scope.value == partner.source for partner in partners.values()):
        return
    if any(_has_rows(catalog, table, scope.value) for table in (PAYMENTS, QUARANTINE)):
        return
    there = ", ".join(f"partner:{partner.source} ({name})" for name, partner in sorted(partners.items()))
    raise WrongScope(f"no partner {scope.value} is registered, and nothing is of one", f"there are: {there}")


def _has_rows(catalog: RestCatalog, table: str, source: str | None) -> bool:
    of_it = _equal("source", source)
    rows = catalog.load_table(table).scan(of_it, selected_fields=("source",), limit=1).to_arrow()
    return bool(rows.num_rows)
