"""The receipt of a file: what its partner is told of it.

Belongs here: what stands in it. Does not: writing it to the folder (`landing.py`). Pure. It never holds a
value of a row: rules, fields and line numbers only.
"""

from __future__ import annotations

import json
from typing import Any

from streaming.dropzone.ledger import Entry, State
from streaming.dropzone.progress import Tally


def is_told(content: bytes | None, entry: Entry) -> bool:
    """Tell whether a receipt that is there says already what became of this content, its rejects perhaps."""
    try:
        found = json.loads(content or b"")
    except ValueError:
        return False
    if not isinstance(found, dict) or found.get("state") not in (State.DONE, State.REPEATED):
        return False
    return bool(found.get("sha256") == entry.digest)


def receipt(entry: Entry, topic: str, tally: Tally | None = None) -> bytes:
    """Render the receipt of a settled entry; `tally` lists its rejected rows, the first of them."""
    found: dict[str, Any] = {
        "file": entry.name,
        "version": entry.version,
        "state": entry.state,
        "sha256": entry.digest,
        "bytes": entry.bytes,
        "rows": entry.rows,
        "accepted": entry.accepted,
        "rejected": entry.rejected,
        "events": entry.events,
        "topic": topic,
        "offsets": json.loads(entry.offsets) if entry.offsets else {},
        "received_at": entry.received_at,
        "settled_at": entry.changed_at,
        "reason": entry.reason,
    }
    if tally is not None:
        found["rejects"] = [
            {"line": reject.line, "reasons": [reason._asdict() for reason in reject.reasons]}
            for reject in tally.rejects
        ]
        found["rejects_not_listed"] = tally.rejected - len(tally.rejects)
    return json.dumps(found, indent=2, default=lambda value: value.isoformat()).encode() + b"\n"
