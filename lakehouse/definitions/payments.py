"""The tables of payments: raw, event versions, payments, quarantine, transactions.

Belongs here: what each of these is. Does not: creating or evolving them (`lakehouse/tables.py`).
"""

from __future__ import annotations

from pyiceberg.types import ListType, NestedField, StructType

from lakehouse.definitions.table import (
    AMOUNT,
    BYTES,
    INT,
    LONG,
    SUM,
    TEXT,
    TIME,
    Column,
    Table,
    bloom_filters,
)

RAW = "raw.payment_events"
VERSIONS = "curated.event_versions"
PAYMENTS = "curated.payments"
TRANSACTIONS = "curated.transactions"
QUARANTINE = "quarantine.payment_events"

_COORDINATES = (
    Column("topic_id", TEXT, "UUID of the Kafka topic: a topic created again is another topic"),
    Column("topic", TEXT, "Name of the Kafka topic"),
    Column("partition", INT, "Kafka partition"),
    Column("offset", LONG, "Offset within the partition; with topic_id and partition the record's identity"),
)

_VERSION = (
    Column("event_id", TEXT, "UUID on the record: of the event, or a notice's own"),
    Column("event_type", TEXT, "AUTH, CAPTURE, REFUND or CHARGEBACK"),
    Column("event_ts", TIME, "When it happened, as the partner says; fixed for an event by contract"),
    Column("account_id", TEXT, "Account at the card's issuer; fixed for an event by contract"),
    Column("card_id", TEXT, "Token of the card, never its number"),
    Column("merchant_id", TEXT, "Merchant"),
    Column("amount", AMOUNT, "Amount in the currency's major unit, exact"),
    Column("currency", TEXT, "ISO 4217 code"),
    Column("network", TEXT, "VISA, MC or AMEX"),
    Column("status", TEXT, "APPROVED, DECLINED or REVERSED"),
    Column("revision", LONG, "Explicit revision, 1 or more; null for none", required=False),
    Column("original_event_id", TEXT, "Event that this one refers to or takes back", required=False),
    Column("transaction_ref", TEXT, "The partner's reference of the transaction", required=False),
    Column("attributes", TEXT, "Canonical JSON of everything else, fields we do not know included"),
    Column("source", TEXT, "Partner that sent the earliest copy (header ce_source)", required=False),
    Column("content_hash", TEXT, "sha256 of the content by value, ingest time and transport aside"),
    Column("business_key", TEXT, "sha256 of the fields that make two events the same payment"),
    Column("first_ingest_ts", TIME, "Ingest time of the earliest copy"),
    *_COORDINATES,
)

_VIOLATION = StructType(
    NestedField(1, "rule", TEXT, required=True, doc="Rule that is broken"),
    NestedField(2, "field", TEXT, required=True, doc="Field that breaks it; empty for the whole record"),
    NestedField(3, "value", TEXT, required=True, doc="First characters of the value, masked"),
    NestedField(4, "message", TEXT, required=True, doc="What is wanted"),
)
_HEADER = StructType(
    NestedField(1, "key", TEXT, required=True, doc="Header name"),
    NestedField(2, "value", BYTES, required=False, doc="Header bytes"),
)

PAYMENT_TABLES: tuple[Table, ...] = (
    Table(
        name=RAW,
        meaning="Every Kafka record, bytes exactly as received. Append only.",
        columns=(
            *_COORDINATES,
            Column("kafka_ts", TIME, "LogAppendTime: when Kafka took the record"),
            Column("headers", ListType(1, _HEADER, True), "Record headers in their order", required=False),
            Column("key", BYTES, "Record key, bytes", required=False),
            Column("value", BYTES, "Record value, bytes exactly as received", required=False),
            Column("event_ts", TIME, "Event time where the header ce_time carries one", required=False),
            Column(
                "redrive_of", TEXT, "Record that it is a redrive of (header redrive-of), as it says", False
            ),
        ),
        key=("topic_id", "partition", "offset"),
        sort_by=("partition", "offset"),
        hour_of="kafka_ts",
        # the key is the account; a header names the event, another the record that a redrive stands for
        properties=bloom_filters("key", "headers.element.value"),
    ),
    Table(
        name=VERSIONS,
        meaning="One row per distinct content of an event. Internal; it only grows.",
        columns=(
            *_VERSION,
            Column("kafka_ts", TIME, "LogAppendTime of the earliest copy", required=False),
        ),
        key=("event_id", "content_hash"),
        sort_by=("account_id", "event_id"),
        hour_of="event_ts",
        bucket_of="account_id",
        properties=bloom_filters("event_id", "transaction_ref"),
    ),
    Table(
        name=PAYMENTS,
        meaning="One row per payment: what counts, once.",
        columns=(
            *_VERSION,
            Column("event_ids", ListType(1, TEXT, True), "Every member event, sorted"),
            Column("flags", ListType(1, TEXT, True), "What a reader should know about this row, sorted"),
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
            Column("kafka_ts", TIME, "LogAppendTime: when Kafka took the record"),
            Column("source", TEXT, "Partner that sent it (header ce_source)", required=False),
            Column("violations", ListType(1, _VIOLATION, True), "Every rule that it breaks"),
            Column("contract_version", INT, "Contract version that judged it"),
            Column("state", TEXT, "open, or redriven: it was sent again as another record"),
            Column("redrive_of", TEXT, "Record that this one is a redrive of; null for none", required=False),
            Column("redriven_by", TEXT, "First record that it was sent again as; null while open", False),
            Column("redriven_at", TIME, "Kafka time of that record", required=False),
        ),
        key=("topic_id", "partition", "offset"),
        sort_by=("partition", "offset"),
        hour_of="kafka_ts",
    ),
    Table(
        name=TRANSACTIONS,
        meaning="One row per transaction: the payments of one account, reference and currency.",
        columns=(
            Column("account_id", TEXT, "Account at the card's issuer"),
            Column("transaction_ref", TEXT, "The partner's reference; null where one stands alone", False),
            Column("currency", TEXT, "ISO 4217 code"),
            Column("business_key", TEXT, "Payment that stands alone, having no reference", required=False),
            Column("authorised", SUM, "Sum of its AUTHs that count"),
            Column("captured", SUM, "Sum of its CAPTUREs that count"),
            Column("refunded", SUM, "Sum of its REFUNDs that count"),
            Column("charged_back", SUM, "Sum of its CHARGEBACKs that count"),
            Column("net", SUM, "captured - refunded - charged_back"),
            Column("status", TEXT, "Where the transaction stands"),
            Column("flags", ListType(1, TEXT, True), "Anomalies, sorted"),
        ),
        key=("account_id", "transaction_ref", "currency", "business_key"),
        sort_by=("account_id", "transaction_ref"),
        bucket_of="account_id",
    ),
)
