"""Older snapshots of an Iceberg table: which one AT means, and the tags and branches that there are.

Belongs here: finding a snapshot among those that were refreshed. Does not: reading its rows (`engine.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlglot import exp
from sqlglot.parser import Parser

from local.snowflake import answers
from local.snowflake.account import Account
from local.snowflake.answers import Answer
from local.snowflake.registry import Entry

_REFS = (
    *("REFERENCE_NAME", "REFERENCE_TYPE", "VERSION_ID", "VERSION_CREATED_AT", "MAX_REFERENCE_AGE_IN_MS"),
    *("MIN_SNAPSHOTS_TO_KEEP", "MAX_SNAPSHOT_AGE_IN_MS"),
)
# sqlglot knows AT (VERSION => …) only.
Parser.HISTORICAL_DATA_KIND.add("VERSION_TAG")


def snapshot_of(entry: Entry, when: exp.Expr, account: Account) -> int:
    """The snapshot that AT means; an error as Snowflake's if there is none, or the account lacks that."""
    kind, literal = str(when.args["kind"]).upper(), when.expression
    if account.trouble.meets("lacks", kind):
        raise answers.syntax_error(f"syntax error unexpected '{kind}'.")
    if str(when.this).upper() != "AT" or not isinstance(literal, exp.Literal):
        raise answers.unsupported("time travel but by AT and a constant")
    metadata, value = account.refresher.metadata(entry), str(literal.this)
    if kind == "VERSION" and not literal.is_string:
        found = int(value) if value in _created(metadata) else None
    elif kind == "VERSION_TAG":
        ref = metadata.get("refs", {}).get(value, {})
        found = ref.get("snapshot-id") if ref.get("type") == "tag" else None
    else:
        raise answers.unsupported(f"AT ({kind} => {literal.sql()})")
    if found is None:
        raise answers.not_kept(entry.name[-1])
    return int(found)


def refs(entry: Entry, account: Account) -> Answer:
    """What GET_TABLE_VERSION_REFS tells: tags and branches as they were at the last refresh."""
    if account.trouble.meets("lacks", "VERSION_TAG"):
        raise answers.invalid("Unknown table function GET_TABLE_VERSION_REFS")
    metadata = account.refresher.metadata(entry)
    created = _created(metadata)
    rows = [
        (
            *(name, ref["type"].upper(), ref["snapshot-id"], created[str(ref["snapshot-id"])]),
            *(ref.get(key) for key in ("max-ref-age-ms", "min-snapshots-to-keep", "max-snapshot-age-ms")),
        )
        for name, ref in metadata.get("refs", {}).items()
        if str(ref["snapshot-id"]) in created
    ]
    return Answer(_REFS, rows)


def _created(metadata: Mapping[str, Any]) -> dict[str, str]:
    """When each snapshot was made."""
    return {
        str(one["snapshot-id"]): datetime.fromtimestamp(one["timestamp-ms"] / 1000, UTC).isoformat()
        for one in metadata.get("snapshots", [])
    }
