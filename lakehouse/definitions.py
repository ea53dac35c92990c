"""The tables as data: columns with their meaning, partitions, sort order, properties.

Belongs here: what each table is. Does not: creating or evolving it (`tables.py`), filling it (`streaming/`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import BucketTransform, HourTransform, IdentityTransform, Transform
from pyiceberg.types import (
    BinaryType,
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
)

RAW = "raw.payment_events"
VERSIONS = "curated.event_versions"
PAYMENTS = "curated.payments"
TRANSACTIONS = "curated.transactions"
QUARANTINE = "quarantine.payment_events"
PUBLISH_LOG = "curated.publish_log"
PARTNER_FILES = "dropzone.partner_files"
DRIFT = "curated.schema_drift"

SNAPSHOTS_KEPT = 240
FIRST_PARTITION_ID = 1000
_TEXT, _TIME, _LONG, _INT = StringType(), TimestamptzType(), LongType(), IntegerType()
_AMOUNT, _SUM = DecimalType(19, 4), DecimalType(28, 4)


@dataclass(frozen=True)
class Column:
    """One column. `meaning` becomes its doc in the catalog and everywhere docs are generated from it."""

    name: str
    type: IcebergType
    meaning: str
    required: bool = True


@dataclass(frozen=True)
class Table:
    """One table. `hour_of` and `bucket_of` name the partition columns, `key` what is unique in it."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    sort_by: tuple[str, ...]
    hour_of: str | None = None
    bucket_of: str | None = None
    properties: dict[str, str] = field(default_factory=dict)

    def schema(self) -> Schema:
        """Render the Iceberg schema; nested ids follow the top-level ones."""
        number = _counter(len(self.columns))
        fields = [
            NestedField(i, c.name, _with_ids(c.type, number), required=c.required, doc=c.meaning)
            for i, c in enumerate(self.columns, start=1)
        ]
        return Schema(*fields)

    def partition_spec(self, buckets: int) -> PartitionSpec:
        """Render the partition spec: `<column>_hour`, `<column>_bucket`."""
        parts: list[tuple[str, str, Transform[object, int]]] = []
        if self.hour_of:
            parts.append((self.hour_of, f"{self.hour_of}_hour", HourTransform()))
        if self.bucket_of:
            parts.append((self.bucket_of, f"{self.bucket_of}_bucket", BucketTransform(buckets)))
        ids = {f.name: f.field_id for f in self.schema().fields}
        return PartitionSpec(
            *(
                PartitionField(ids[column], FIRST_PARTITION_ID + i, transform, name)
                for i, (column, name, transform) in enumerate(parts)
            )
        )

    def sort_order(self) -> SortOrder:
        """Render the sort order within files."""
        ids = {f.name: f.field_id for f in self.schema().fields}
        return SortOrder(
            *(
                SortField(ids[name], IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_FIRST)
                for name in self.sort_by
            )
        )

    def all_properties(self) -> dict[str, str]:
        """Render the table properties: those of every table, then this one's."""
        return {**_EVERY_TABLE, **self.properties, "comment": self.meaning}


_EVERY_TABLE = {
    # v3 from the first day: an upgrade by another engine stops Snowflake's refresh (ADR 0003)
    "format-version": "3",
    "write.parquet.compression-codec": "zstd",
    # ids and hashes never repeat: a large dictionary of them is work for nothing; a higher level hardly helps
    "write.parquet.compression-level": "1",
    "write.parquet.dict-size-bytes": "65536",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": str(SNAPSHOTS_KEPT),
    "write.delete.mode": "merge-on-read",
    "write.update.mode": "merge-on-read",
    "write.merge.mode": "merge-on-read",
    # the publish protocol shuffles where it pays; a shuffle by partition on every write would not
    "write.distribution-mode": "none",
    "write.merge.distribution-mode": "hash",
}

_COORDINATES = (
    Column("topic_id", _TEXT, "UUID of the Kafka topic: a topic created again is another topic"),
    Column("topic", _TEXT, "Name of the Kafka topic"),
    Column("partition", _INT, "Kafka partition"),
    Column("offset", _LONG, "Offset within the partition; with topic_id and partition the record's identity"),
)

_VERSION = (
    Column("event_id", _TEXT, "UUID on the record: of the event, or a notice's own"),
    Column("event_type", _TEXT, "AUTH, CAPTURE, REFUND or CHARGEBACK"),
    Column("event_ts", _TIME, "When it happened, as the partner says; fixed for an event by contract"),
    Column("account_id", _TEXT, "Account at the card's issuer; fixed for an event by contract"),
    Column("card_id", _TEXT, "Token of the card, never its number"),
    Column("merchant_id", _TEXT, "Merchant"),
    Column("amount", _AMOUNT, "Amount in the currency's major unit, exact"),
    Column("currency", _TEXT, "ISO 4217 code"),
    Column("network", _TEXT, "VISA, MC or AMEX"),
    Column("status", _TEXT, "APPROVED, DECLINED or REVERSED"),
    Column("revision", _LONG, "Explicit revision, 1 or more; null for none", required=False),
    Column("original_event_id", _TEXT, "Event that this one refers to or takes back", required=False),
    Column("transaction_ref", _TEXT, "The partner's reference of the transaction", required=False),
    Column("attributes", _TEXT, "Canonical JSON of everything else, fields we do not know included"),
    Column("source", _TEXT, "Partner that sent the earliest copy (header ce_source)", required=False),
    Column("content_hash", _TEXT, "sha256 of the content by value, ingest time and transport aside"),
    Column("business_key", _TEXT, "sha256 of the fields that make two events the same payment"),
    Column("first_ingest_ts", _TIME, "Ingest time of the earliest copy"),
    *_COORDINATES,
)

_VIOLATION = StructType(
    NestedField(1, "rule", _TEXT, required=True, doc="Rule that is broken"),
    NestedField(2, "field", _TEXT, required=True, doc="Field that breaks it; empty for the whole record"),
    NestedField(3, "value", _TEXT, required=True, doc="First characters of the value, masked"),
    NestedField(4, "message", _TEXT, required=True, doc="What is wanted"),
)
_ARRIVALS = StructType(
    NestedField(1, "hour", _LONG, required=False, doc="Event hour, in hours since 1970; null: all before"),
    NestedField(2, "records", _LONG, required=True, doc="Valid records of that hour, redeliveries included"),
    NestedField(3, "max_delay_ms", _LONG, required=True, doc="Kafka time less event time, the greatest"),
    NestedField(4, "p99_delay_ms", _LONG, required=True, doc="The same for 99 % of the records at most"),
)
_HEADER = StructType(
    NestedField(1, "key", _TEXT, required=True, doc="Header name"),
    NestedField(2, "value", BinaryType(), required=False, doc="Header bytes"),
)

TABLES: tuple[Table, ...] = (
    Table(
        name=RAW,
        meaning="Every Kafka record, bytes exactly as received. Append only.",
        columns=(
            *_COORDINATES,
            Column("kafka_ts", _TIME, "LogAppendTime: when Kafka took the record"),
            Column("headers", ListType(1, _HEADER, True), "Record headers in their order", required=False),
            Column("key", BinaryType(), "Record key, bytes", required=False),
            Column("value", BinaryType(), "Record value, bytes exactly as received", required=False),
            Column("event_ts", _TIME, "Event time where the header ce_time carries one", required=False),
        ),
        key=("topic_id", "partition", "offset"),
        sort_by=("partition", "offset"),
        hour_of="kafka_ts",
    ),
    Table(
        name=VERSIONS,
        meaning="One row per distinct content of an event. Internal; it only grows.",
        columns=(
            *_VERSION,
            Column("kafka_ts", _TIME, "LogAppendTime of the earliest copy", required=False),
        ),
        key=("event_id", "content_hash"),
        sort_by=("account_id", "event_id"),
        hour_of="event_ts",
        bucket_of="account_id",
    ),
    Table(
        name=PAYMENTS,
        meaning="One row per payment: what counts, once.",
        columns=(
            *_VERSION,
            Column("event_ids", ListType(1, _TEXT, True), "Every member event, sorted"),
            Column("flags", ListType(1, _TEXT, True), "What a reader should know about this row, sorted"),
        ),
        key=("business_key", "transaction_ref"),
        sort_by=("account_id", "event_ts"),
        hour_of="event_ts",
        bucket_of="account_id",
    ),
    Table(
        name=QUARANTINE,
        meaning="One row per record that breaks the contract; its bytes stay in raw.",
        columns=(
            *_COORDINATES,
            Column("kafka_ts", _TIME, "LogAppendTime: when Kafka took the record"),
            Column("source", _TEXT, "Partner that sent it (header ce_source)", required=False),
            Column("violations", ListType(1, _VIOLATION, True), "Every rule that it breaks"),
            Column("contract_version", _INT, "Contract version that judged it"),
            Column("state", _TEXT, "open, or what became of it"),
        ),
        key=("topic_id", "partition", "offset"),
        sort_by=("partition", "offset"),
        hour_of="kafka_ts",
    ),
    Table(
        name=TRANSACTIONS,
        meaning="One row per transaction: the payments of one account, reference and currency.",
        columns=(
            Column("account_id", _TEXT, "Account at the card's issuer"),
            Column("transaction_ref", _TEXT, "The partner's reference; null where one stands alone", False),
            Column("currency", _TEXT, "ISO 4217 code"),
            Column("business_key", _TEXT, "Payment that stands alone, having no reference", required=False),
            Column("authorised", _SUM, "Sum of its AUTHs that count"),
            Column("captured", _SUM, "Sum of its CAPTUREs that count"),
            Column("refunded", _SUM, "Sum of its REFUNDs that count"),
            Column("charged_back", _SUM, "Sum of its CHARGEBACKs that count"),
            Column("net", _SUM, "captured - refunded - charged_back"),
            Column("status", _TEXT, "Where the transaction stands"),
            Column("flags", ListType(1, _TEXT, True), "Anomalies, sorted"),
        ),
        key=("account_id", "transaction_ref", "currency", "business_key"),
        sort_by=("account_id", "transaction_ref"),
        bucket_of="account_id",
    ),
    Table(
        name=PARTNER_FILES,
        meaning="The ledger of partners' files: one row per thing that happened to one. Append only.",
        columns=(
            Column("partner", _TEXT, "Partner's name in the registry"),
            Column("name", _TEXT, "Name of the file, card numbers masked"),
            Column("seq", _LONG, "Counts what happened to this name; the highest holds"),
            Column("state", _TEXT, "waiting, overdue, reading, done, rejected or repeated"),
            Column("changed_at", _TIME, "When this happened"),
            Column("fingerprint", _TEXT, "Differs whenever the file was written to"),
            Column("bytes", _LONG, "Size of the file"),
            Column("version", _LONG, "New content under a name is a new version; null while it waits", False),
            Column("digest", _TEXT, "sha256 of the content, in hex", required=False),
            Column("rows", _LONG, "Rows in the file", required=False),
            Column("events", _LONG, "Events that the accepted rows stand for", required=False),
            Column("accepted", _LONG, "Rows that became events", required=False),
            Column("rejected", _LONG, "Rows that go to quarantine as they came", required=False),
            Column("topic_id", _TEXT, "UUID of the Kafka topic that it was read into", required=False),
            Column("starts", _TEXT, "Where each partition ended when reading began, as JSON", False),
            Column("offsets", _TEXT, "First and last offset of its records per partition, as JSON", False),
            Column("received_at", _TIME, "When reading began; rows are judged as of then", required=False),
            Column("owner", _TEXT, "Dropzone that is reading it", required=False),
            Column("claimed_until", _TIME, "Until when other dropzones leave it alone", required=False),
            Column("reason", _TEXT, "Why it waits, or was rejected", required=False),
        ),
        key=("partner", "name", "seq"),
        sort_by=("partner", "name", "seq"),
        # Written by pyiceberg, which cannot append to v3; internal, so no refresh depends on it (ADR 0017).
        # A small append at a time: the manifests are merged, or each read would open one per append.
        properties={"format-version": "2", "commit.manifest-merge.enabled": "true"},
    ),
    Table(
        name=PUBLISH_LOG,
        meaning="One row per snapshot that readers of another table have seen; outlives the snapshot.",
        columns=(
            Column("table_name", _TEXT, "Table that was published to"),
            Column("table_uuid", _TEXT, "Its UUID: a table created again is another table"),
            Column("snapshot_id", _LONG, "Snapshot that main was set to"),
            Column("published_at", _TIME, "When it was set, by the catalog's clock"),
            Column("operation", _TEXT, "append, overwrite, replace or delete; of the publish's last step"),
            Column("writer", _TEXT, "Who published it; null for a commit that is not ours", required=False),
            Column("token", _TEXT, "Names the attempt to publish it", required=False),
            Column("offsets", _TEXT, "How far its source was consumed then, as JSON", required=False),
            Column("complete_to", _TIME, "Kafka time up to which all was consumed", required=False),
            Column("contract_version", _INT, "Contract of the newest record", required=False),
            Column("source_snapshot", _LONG, "Snapshot of raw that it was read from", required=False),
            Column("totals", _TEXT, "Running counts since the table's birth, as JSON"),
            Column("arrivals", ListType(1, _ARRIVALS, True), "How late records came, per event hour"),
        ),
        key=("table_name", "snapshot_id", "published_at"),
        sort_by=("published_at",),
    ),
    Table(
        name=DRIFT,
        meaning="One row per hour, partner, field and type of what records carried beside the contract.",
        columns=(
            Column("kafka_hour", _TIME, "Start of the hour in which Kafka took the records"),
            Column("source", _TEXT, "Partner that sent them (header ce_source); empty where none is named"),
            Column("field", _TEXT, "Field that the contract does not name; attributes.x within attributes"),
            Column("json_type", _TEXT, "Its JSON type: string, number, boolean, object, array or null"),
            Column("first_seen", _TIME, "Kafka time of the first of these records"),
            Column("last_seen", _TIME, "Kafka time of the last of them"),
            Column("records", _LONG, "Records that carried it, redeliveries and quarantined ones included"),
        ),
        key=("kafka_hour", "source", "field", "json_type"),
        sort_by=("kafka_hour", "source", "field"),
    ),
)

BY_NAME = {table.name: table for table in TABLES}


def _counter(start: int) -> Callable[[], int]:
    number = start

    def following() -> int:
        nonlocal number
        number += 1
        return number

    return following


def _with_ids(kind: IcebergType, number: Callable[[], int]) -> IcebergType:
    if isinstance(kind, ListType):
        element_id = number()
        return ListType(element_id, _with_ids(kind.element_type, number), kind.element_required)
    if isinstance(kind, StructType):
        return StructType(
            *(
                NestedField(number(), f.name, f.field_type, required=f.required, doc=f.doc)
                for f in kind.fields
            )
        )
    return kind
