"""The tables that keep account of the others: publishes, partners' files, drift.

Belongs here: what each of these is. Does not: creating or evolving them (`lakehouse/tables.py`).
"""

from __future__ import annotations

from pyiceberg.types import ListType, NestedField, StructType

from lakehouse.definitions.table import INT, LONG, TEXT, TIME, WITHOUT_SPARK, Column, Table

PUBLISH_LOG = "curated.publish_log"
PARTNER_FILES = "dropzone.partner_files"
DRIFT = "curated.schema_drift"

_ARRIVALS = StructType(
    NestedField(1, "hour", LONG, required=False, doc="Event hour, in hours since 1970; null: all before"),
    NestedField(2, "records", LONG, required=True, doc="Valid records of that hour, redeliveries included"),
    NestedField(3, "max_delay_ms", LONG, required=True, doc="Kafka time less event time, the greatest"),
    NestedField(4, "p99_delay_ms", LONG, required=True, doc="The same for 99 % of the records at most"),
)

LEDGER_TABLES: tuple[Table, ...] = (
    Table(
        name=PARTNER_FILES,
        meaning="The ledger of partners' files: one row per thing that happened to one. Append only.",
        columns=(
            Column("partner", TEXT, "Partner's name in the registry"),
            Column("name", TEXT, "Name of the file, card numbers masked"),
            Column("seq", LONG, "Counts what happened to this name; the highest holds"),
            Column("state", TEXT, "waiting, overdue, reading, done, rejected or repeated"),
            Column("changed_at", TIME, "When this happened"),
            Column("fingerprint", TEXT, "Differs whenever the file was written to"),
            Column("bytes", LONG, "Size of the file"),
            Column("version", LONG, "New content under a name is a new version; null while it waits", False),
            Column("digest", TEXT, "sha256 of the content, in hex", required=False),
            Column("rows", LONG, "Rows in the file", required=False),
            Column("events", LONG, "Events that the accepted rows stand for", required=False),
            Column("accepted", LONG, "Rows that became events", required=False),
            Column("rejected", LONG, "Rows that go to quarantine as they came", required=False),
            Column("topic_id", TEXT, "UUID of the Kafka topic that it was read into", required=False),
            Column("starts", TEXT, "Where each partition ended when reading began, as JSON", False),
            Column("offsets", TEXT, "First and last offset of its records per partition, as JSON", False),
            Column("received_at", TIME, "When reading began; rows are judged as of then", required=False),
            Column("owner", TEXT, "Dropzone that is reading it", required=False),
            Column("claimed_until", TIME, "Until when other dropzones leave it alone", required=False),
            Column("reason", TEXT, "Why it waits, or was rejected", required=False),
            Column("totals", TEXT, "Control totals as its manifest says them, as JSON", required=False),
        ),
        key=("partner", "name", "seq"),
        sort_by=("partner", "name", "seq"),
        properties=WITHOUT_SPARK,
    ),
    Table(
        name=PUBLISH_LOG,
        meaning="One row per snapshot that readers of another table have seen; outlives the snapshot.",
        columns=(
            Column("table_name", TEXT, "Table that was published to"),
            Column("table_uuid", TEXT, "Its UUID: a table created again is another table"),
            Column("snapshot_id", LONG, "Snapshot that main was set to"),
            Column("published_at", TIME, "When it was set, by the catalog's clock"),
            Column("operation", TEXT, "append, overwrite, replace or delete; of the publish's last step"),
            Column("writer", TEXT, "Who published it; null for a commit that is not ours", required=False),
            Column("token", TEXT, "Names the attempt to publish it", required=False),
            Column("offsets", TEXT, "How far its source was consumed then, as JSON", required=False),
            Column("complete_to", TIME, "Kafka time up to which all was consumed", required=False),
            Column("contract_version", INT, "Contract of the newest record", required=False),
            Column("source_snapshot", LONG, "Snapshot of raw that it was read from", required=False),
            Column("totals", TEXT, "Running counts since the table's birth, as JSON"),
            Column("arrivals", ListType(1, _ARRIVALS, True), "How late records came, per event hour"),
            Column("code_version", TEXT, "Release of this software that wrote it; null: not said", False),
        ),
        key=("table_name", "snapshot_id", "published_at"),
        sort_by=("published_at",),
    ),
    Table(
        name=DRIFT,
        meaning="One row per hour, partner, field and type of what records carried beside the contract.",
        columns=(
            Column("kafka_hour", TIME, "Start of the hour in which Kafka took the records"),
            Column("source", TEXT, "Partner that sent them (header ce_source); empty where none is named"),
            Column("field", TEXT, "Field that the contract does not name; attributes.x within attributes"),
            Column("json_type", TEXT, "Its JSON type: string, number, boolean, object, array or null"),
            Column("first_seen", TIME, "Kafka time of the first of these records"),
            Column("last_seen", TIME, "Kafka time of the last of them"),
            Column("records", LONG, "Records that carried it, redeliveries and quarantined ones included"),
        ),
        key=("kafka_hour", "source", "field", "json_type"),
        sort_by=("kafka_hour", "source", "field"),
    ),
)
