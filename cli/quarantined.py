"""How records of quarantine look, to people and to programs: no card number, and nothing a terminal obeys.

Belongs here: that. Does not: which records, or what becomes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.quarantined import Group, Quarantined, RawRecord
from lakehouse.redrive_mark import NAMES, written
from streaming.dropzone.rows import COLUMNS, masked, masked_text
from streaming.redrive.send import Kind, Tally

# Headers that we write ourselves; of others it is said how long they are.
_SAFE = (
    "ce_id",
    "ce_type",
    "ce_time",
    "ce_source",
    "archive",
    "file",
    "file-digest",
    "line",
    COLUMNS,
    *NAMES,
)
_SHOWN_BYTES = 4096


# -- to programs ---------------------------------------------------------------------------------------------


def record_as_json(record: Quarantined) -> dict[str, Any]:
    row = record._asdict() | {"violations": [violation._asdict() for violation in record.violations]}
    return {"coordinate": written(record.where), **times_as_text(row)}


def times_as_text(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}


def raw_as_json(raw: RawRecord | None) -> dict[str, Any]:
    if raw is None:
        return {"in_raw": False, "headers": {}, "bytes": None, "value": None}
    value = masked(raw.value or b"")
    return {
        "in_raw": True,
        "headers": {name: _header(name, text or b"") for name, text in raw.headers},
        "bytes": len(raw.value or b""),
        "value": _decoded(value[:_SHOWN_BYTES]) + ("…" if len(value) > _SHOWN_BYTES else ""),
    }


def _header(name: str, text: bytes) -> str:
    return masked_text(_decoded(text)) if name in _SAFE else f"({len(text)} bytes)"


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def tally_as_json(tally: Tally, meant: int) -> dict[str, Any]:
    """Render what became of the records, of which so many were meant; a dry run has sent none."""
    kinds = [{**kind._asdict(), "records": count} for kind, count in tally.kinds.most_common()]
    sent, failed = (tally.sending.acknowledged, tally.sending.failed) if tally.sending else (0, 0)
    return {
        "dry_run": tally.sending is None,
        "meant": meant,
        "looked_at": tally.looked_at,
        "passing": tally.passing,
        "sent": sent,
        "failed": failed,
        "records": kinds,
    }


# -- to people -----------------------------------------------------------------------------------------------


def show_groups(console: Console, groups: list[Group], count: int) -> None:
    table = Table("rule", "field", "partner", "state", "records", "first", "last")
    for g in groups:
        table.add_row(*_row(g.rule, g.field, g.source, g.state, g.records, g.first, g.last))
    if groups:
        console.print(table)
    console.print(f"{count:,} records in quarantine" + (", by each rule that they break" if groups else ""))


def show_records(console: Console, records: list[Quarantined], count: int) -> None:
    for r in records:
        partner = r.source or "(no partner)"
        _say(console, f"{written(r.where)}  {_written(r.kafka_ts)}  {partner}  {_state_of(r)}")
        for violation in r.violations:
            _say(console, f"    {_said(violation._asdict())}")
    console.print(f"{len(records):,} of {count:,} records")


def show_record(console: Console, value: dict[str, Any]) -> None:
    lines = [
        f"{value['coordinate']} of topic {value['topic']}",
        f"  Kafka time {value['kafka_ts']}, partner {value['source'] or '(none named)'}",
        f"  judged by contract version {value['contract_version']}, {value['state']}",
    ]
    if value["redrive_of"]:
        lines.append(f"  is a redrive of {value['redrive_of']}")
    if value["redriven_by"]:
        lines.append(f"  redriven by {value['redriven_by']} at {value['redriven_at']}: {value['became']}")
    lines += [f"  {_said(violation)}" for violation in value["violations"]]
    lines += [f"  header {name}: {text}" for name, text in value["headers"].items()]
    said = f"  {value['bytes']:,} bytes: {value['value']}" if value["in_raw"] else "  raw has it no more"
    for line in [*lines, said]:
        _say(console, line)


def show_tally(console: Console, tally: Tally, meant: int) -> None:
    table = Table("outcome", "partner", "quarantined for", "still breaks", "records")
    for kind, count in tally.kinds.most_common():
        table.add_row(*_row(*_worded(kind), count))
    if tally.kinds:
        console.print(table)
    looked_at = f"{tally.looked_at:,} of {meant:,} open records looked at"
    if tally.sending is None:
        console.print(f"{looked_at}; {tally.passing:,} would be sent, nothing was")
        return
    console.print(
        f"{looked_at}; {tally.passing:,} pass, {tally.sending.acknowledged:,} acknowledged by Kafka"
    )
    if tally.sending.failed:
        console.print(
            f"{tally.sending.failed:,} refused by Kafka: {tally.sending.first_failure}", markup=False
        )


def _worded(kind: Kind) -> Sequence[str]:
    return kind.outcome, kind.source, ", ".join(kind.reasons), ", ".join(kind.rules)


def _state_of(record: Quarantined) -> str:
    if record.redriven_by is None:
        return record.state
    return f"{record.state} as {record.redriven_by}: {record.became}"


def _said(violation: dict[str, str]) -> str:
    field = f" in {violation['field']}" if violation["field"] else ""
    value = f" ({violation['value']})" if violation["value"] else ""
    return f"{violation['rule']}{field}{value}: {violation['message']}"


def _say(console: Console, text: str) -> None:
    console.print(printable(text), markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """Text that does nothing to a terminal: what partners sent may stand in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _row(*values: Any) -> list[Text]:
    return [Text(printable(_written(value))) for value in values]


def _written(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"{value:,}" if isinstance(value, int) else str(value)
