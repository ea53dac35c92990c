"""The manifest of an export: what it says, its exact bytes, and what is signed of it. Pure.

Belongs here: putting it together, reading it back, sums over files. Does not: signing (`signing.py`), the
order of manifests (`chain.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from lakehouse.errors import ExportError
from lakehouse.exports.merkle import leaf_hash, root_of

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
PUBLIC_KEY, VERIFIER = "public-key.pem", "verify.py"

Money = tuple[str, str, str]
"""Currency, event type, status."""


@dataclass(frozen=True)
class FileEntry:
    """One file of an export. One that holds rows as Parquet has a table and a Merkle root (hex)."""

    path: str
    bytes: int
    sha256: str
    kind: str = "other"  # rows, leaves (32 bytes for each row), csv or other
    table: str | None = None
    rows: int | None = None
    root: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Render without what is not there."""
        return {name: value for name, value in self.__dict__.items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FileEntry:
        """Read what `as_json` wrote. Raises TypeError for anything else."""
        return cls(**value)


@dataclass
class Tally:
    """Sums over the rows that were written; those of parts add up."""

    counts: Counter[str] = field(default_factory=Counter)
    payments: Counter[Money] = field(default_factory=Counter)
    amounts: dict[Money, Decimal] = field(default_factory=dict)

    def add_money(self, key: Money, payments: int, amount: Decimal) -> None:
        """Add payments of one currency, type and status."""
        self.payments[key] += payments
        self.amounts[key] = self.amounts.get(key, Decimal("0.0000")) + amount

    def add(self, other: Tally) -> None:
        """Add the sums of another part."""
        self.counts.update(other.counts)
        for key, payments in other.payments.items():
            self.add_money(key, payments, other.amounts[key])

    def money(self) -> list[dict[str, Any]]:
        """Render the money: payments and their sum per currency, event type and status."""
        return [
            dict(zip(("currency", "event_type", "status"), key, strict=True))
            | {"payments": self.payments[key], "amount": format(self.amounts[key], "f")}
            for key in sorted(self.payments)
        ]

    def as_json(self) -> dict[str, Any]:
        """Render for the journal."""
        return {"counts": dict(self.counts), "money": self.money()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """Read what `as_json` wrote."""
        tally = cls(Counter(value["counts"]))
        for m in value["money"]:
            key = (m["currency"], m["event_type"], m["status"])
            tally.add_money(key, m["payments"], Decimal(m["amount"]))
        return tally


@dataclass(frozen=True)
class Manifest:
    """A manifest as read, and the exact bytes that it was read from."""

    value: Mapping[str, Any]
    data: bytes

    @classmethod
    def made(cls, value: Mapping[str, Any]) -> Manifest:
        """Render a new one."""
        return cls(value, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())

    @classmethod
    def read(cls, data: bytes) -> Manifest:
        """Read one. Raises `ExportError` for what is none."""
        try:
            value = json.loads(data)
            found = cls(value, data)
            if value["format"] != FORMAT:
                raise ExportError(
                    f"the manifest is of format {value['format']}, and this version reads format {FORMAT}",
                    "use the verify.py that lies in the export",
                )
            found._touch()
        except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError) as error:
            raise ExportError(
                f"{MANIFEST} is no manifest: {type(error).__name__}", "restore it from a copy, or from chain/"
            ) from None
        return found

    def _touch(self) -> None:
        """Read whatever is read of a manifest anywhere: an altered one is to fail here, not there."""
        value = self.value
        _ = self.files, self.name, self.id, self.sequence, self.previous, self.root, self.snapshots
        _ = (
            rows_of(self.files.values()),
            sum(f.bytes for f in self.files.values()),
            sum(value["rows"].values()),
        )
        for m in value["money"]:
            _ = m["currency"], m["event_type"], m["status"], int(m["payments"]), Decimal(m["amount"])
        for schema in value["schemas"].values():
            _ = [str(column) for column in schema["key"]], schema["columns"]
        _ = [str(remark) for remark in value["pinned"]["remarks"]], value["pinned"]["offsets"].items()
        _ = value["tool"]["pyarrow"], value["created"], value["contract_version"]
        _ = [str(value["request"][name]) for name in _ASKED]
        _ = [value["reconciliation"][of]["breaks"] for of in ("exported", "lake")]
        _ = value["reconciliation"]["exported"]["statement"]

    @property
    def breaks(self) -> list[str]:
        """What it says of its own sums that do not add up."""
        told = self.value["reconciliation"]
        return [str(broken) for of in ("exported", "lake") for broken in told[of]["breaks"]]

    @property
    def files(self) -> dict[str, FileEntry]:
        """The files by path, in order."""
        return {f["path"]: FileEntry.from_json(f) for f in self.value["files"]}

    @property
    def name(self) -> str:
        """Name of the export, which is that of its folder."""
        return str(self.value["export"]["name"])

    @property
    def id(self) -> str:
        """What its tag is called by; no other export has it, wherever it lies."""
        return str(self.value["export"]["id"])

    @property
    def sequence(self) -> int:
        """Its number in the chain, from 1."""
        return int(self.value["sequence"])

    @property
    def previous(self) -> str | None:
        """sha256 of the manifest before this one; None for the first."""
        found = self.value["previous"]
        return None if found is None else str(found)

    @property
    def root(self) -> str:
        """Merkle root over its files' roots, in hex."""
        return str(self.value["root"])

    @property
    def snapshots(self) -> dict[str, int]:
        """Snapshot that each table was read at."""
        return {name: int(pin["snapshot"]) for name, pin in self.value["pinned"]["tables"].items()}

    @property
    def sha256(self) -> str:
        """Digest of its exact bytes, which the next manifest names."""
        return hashlib.sha256(self.data).hexdigest()


def statement_of(data: bytes) -> bytes:
    """Return what is signed of a manifest: its digest, as KMS signs no more than 4096 bytes."""
    return b"paywave audit manifest sha256:" + hashlib.sha256(data).hexdigest().encode()


def root_over(files: Iterable[FileEntry]) -> str:
    """Return the root over the roots of the files, in their order: leaves are the roots as JSON texts."""
    return root_of(leaf_hash(json.dumps(f.root).encode()) for f in files if f.root is not None).hex()


def rows_of(files: Iterable[FileEntry]) -> dict[str, int]:
    """Sum the rows of each table."""
    found: Counter[str] = Counter()
    for f in files:
        if f.root is not None and f.table is not None and f.rows is not None:
            found[f.table] += f.rows
    return dict(found)


def reconciled(counts: Mapping[str, int]) -> dict[str, Any]:
    """State the conservation of what was exported, and what of it does not add up.

    Args:
        counts: versions, events (that the versions are of), members (of the payments), payments, quarantined,
            raw (records exported), not_kept (records that retention dropped from raw).
    """
    n = {name: counts.get(name, 0) for name in _COUNTED}
    sums = {
        "events = members of payments": (n["events"], n["members"]),
        "records = versions + quarantined": (n["raw"] + n["not_kept"], n["versions"] + n["quarantined"]),
    }
    return {
        **n,
        "winning": n["events"],
        "superseded": n["versions"] - n["events"],
        "duplicates": n["members"] - n["payments"],
        "statement": [
            f"versions {n['versions']} = winning {n['events']} + superseded {n['versions'] - n['events']}",
            f"events {n['events']} = payments {n['payments']} + duplicates {n['events'] - n['payments']}",
            f"records {n['raw'] + n['not_kept']} = versions {n['versions']} + quarantined {n['quarantined']}",
        ],
        "breaks": [
            f"{what}: {left} against {right}" for what, (left, right) in sums.items() if left != right
        ],
    }


_ASKED = ("scope", "from", "to", "as_of", "tag", "reason", "requested_by", "csv", "standing")
_COUNTED = ("raw", "not_kept", "versions", "events", "members", "payments", "quarantined")
