"""A dropzone as tests drive it: partners, a folder, a topic of its own, files of rows, and what Kafka holds.

Belongs here: driving and reading. Does not: what is asserted.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition
from pyiceberg.catalog.rest import RestCatalog

from config.settings import Settings
from lakehouse.file_ledger import FileLedger
from streaming.dropzone.book import Book
from streaming.dropzone.landing import Landing, LocalLanding
from streaming.dropzone.ledger import Entry
from streaming.dropzone.reader import Settings as ReaderSettings
from streaming.dropzone.watch import Dropzone
from streaming.partners.registry import Registry, load_registry
from streaming.token_keys import made_token_keys
from streaming.topic_state import inspect_topic

# Long enough that a loaded machine does not spend it on renewing claims.
LEASE_S, PROCESS_LEASE_S = 2.0, 6.0
DELIVERY_S = 1.0
_PARTNER = """
[partners.{name}]
source = "{name}"
description = "a partner"
contacts = ["a@{name}.example"]
rate = 1
burst = 1
card_numbers = "{policy}"
{profile}
files = {{ overdue_minutes = {overdue} }}
keys = [{{ id = "{name}-1", secret = {{ dev = true }} }}]
"""
_CSV = 'profile = "card-transactions"'
HEADER = b"TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD\n"


def registry_text(overdue: float = 60) -> str:
    """Partners `sim` (CSV), `shop` (CSV, card numbers tokenised) and `bank` (JSONL)."""
    return "".join(
        _PARTNER.format(name=name, policy=policy, profile=profile, overdue=overdue)
        for name, policy, profile in (
            ("sim", "refuse", _CSV),
            ("shop", "tokenise", _CSV),
            ("bank", "refuse", ""),
        )
    )


def rows_of(numbers: range, bad: Callable[[int], bool] = lambda _: False) -> bytes:
    """A CSV file of numbered rows; bad ones have no amount that is one."""
    return HEADER + b"".join(
        b"%d,2018-04-01 %02d:%02d:%02d,%d,7,%s,0\n"
        % (n, n // 3600 % 24, n // 60 % 60, n % 60, n % 97, b"cheap" if bad(n) else b"1.50")
        for n in numbers
    )


@dataclass
class Place:
    """A landing folder on the stack, with a topic of its own."""

    stack: Settings
    catalog: RestCatalog
    topic: str
    folder: Path
    landing: Landing | None = None
    overdue: float = 60
    quiet_s: float = 0
    registry: Registry = field(init=False)

    def __post_init__(self) -> None:
        self.registry_file = self.folder / "registry.toml"
        self.registry_file.write_text(registry_text(self.overdue))
        self.registry = load_registry(self.registry_file)

    @property
    def root(self) -> Path:
        return self.folder / "landing"

    def zone(self, lease_s: float = LEASE_S, delivery_s: float = DELIVERY_S) -> Dropzone:
        """A dropzone in this process; a new one is another owner."""
        self.root.mkdir(exist_ok=True)
        keys = made_token_keys(self.folder / "card-tokens.toml")
        kafka = self.stack.kafka_properties()
        settings = ReaderSettings(
            self.topic, kafka, keys, lease_s=lease_s, delivery_s=delivery_s, quiet_s=self.quiet_s
        )
        zone = Dropzone(
            self.landing or LocalLanding(self.root), Book(FileLedger(self.catalog)), self.registry, settings
        )
        zone.prepare()
        return zone

    def put(self, name: str, content: bytes, partner: str = "sim", marker: bool = True) -> None:
        """Leave a file, and its checksum beside it."""
        folder = self.root / partner
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        if marker:
            (folder / f"{name}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {name}\n")

    def receipt(self, name: str, partner: str = "sim") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / partner / f"{name}.receipt.json").read_bytes())
        return found

    def entries(self, name: str, partner: str = "sim") -> list[Entry]:
        """The ledger's entries of a name, oldest first."""
        found = Book(FileLedger(self.catalog)).entries(partner, [name])
        return sorted(found, key=lambda entry: entry.seq)

    def environment(self, **more: str) -> dict[str, str]:
        """Settings of a `paywave dropzone` process on this place."""
        own = {
            "PAYWAVE_HOME": str(self.stack.home),
            "PAYWAVE_KAFKA__TOPIC": self.topic,
            "PAYWAVE_PARTNERS__REGISTRY": str(self.registry_file),
            "PAYWAVE_DROPZONE__LANDING": str(self.root),
            "PAYWAVE_DROPZONE__LEASE_S": str(PROCESS_LEASE_S),
            "PAYWAVE_DROPZONE__QUIET_S": "0",
            "PAYWAVE_DROPZONE__SCAN_S": "0.5",
        }
        return {**own, **more}

    def size(self) -> int:
        """How many records the topic holds."""
        return sum(inspect_topic(self.stack.kafka_properties(), self.topic).latest.values())

    def records(self) -> list[Message]:
        """Every record of the topic."""
        latest = inspect_topic(self.stack.kafka_properties(), self.topic).latest
        consumer = Consumer({**self.stack.kafka_properties(), "group.id": self.topic})
        consumer.assign([TopicPartition(self.topic, p, 0) for p in latest])
        found: list[Message] = []
        try:
            while left := sum(latest.values()) - len(found):
                batch = consumer.consume(min(left, 10_000), timeout=20)
                assert batch, f"{left} did not come back"
                found += batch
        finally:
            consumer.close()
        return found

    def by_line(self) -> Counter[tuple[str, int]]:
        """How many records of each (file, line) the topic holds."""
        headers = [dict(record.headers() or ()) for record in self.records()]
        return Counter((h["file"].decode(), int(h["line"])) for h in headers)


def ids(records: list[Message]) -> Counter[str]:
    """How often each event's id is there; of rejected rows, the row's own bytes."""
    return Counter(_id(record.value() or b"") for record in records)


def _id(value: bytes) -> str:
    return str(json.loads(value)["event_id"]) if value.startswith(b"{") else value.decode()
