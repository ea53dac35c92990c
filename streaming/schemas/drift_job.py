"""The drift job: raw to curated.schema_drift, and a warning of each field that is new.

Belongs here: what is said of new fields. Does not: the loop over raw (`streaming/counting_job.py`), counting
(`drift_count.py`), showing what was counted (`drift_report.py`).
"""

from __future__ import annotations

import pyarrow as pa
import structlog
from opentelemetry import metrics
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from lakehouse.publish import Plan
from lakehouse.refs import Head
from streaming.counting_job import CountingJob, CountingSettings
from streaming.schemas.drift_count import TALLY

_log = structlog.get_logger(__name__)
_new_fields = metrics.get_meter(__name__).create_counter("paywave.schema.new_fields", unit="{field}")
_FIELD = ("source", "field", "json_type")
_Field = tuple[str, str, str]


class DriftJob(CountingJob):
    """Counts unknown fields of raw's records, and warns of each that its partner has never sent before."""

    def __init__(self, catalog: RestCatalog, spark: SparkSession, settings: CountingSettings) -> None:
        super().__init__(catalog, spark, TALLY, settings)
        self._known: set[_Field] | None = None

    def _build(self, head: Head) -> Plan | None:
        if self._known is None:
            scan = head.table.scan(selected_fields=_FIELD, snapshot_id=head.snapshot.snapshot_id)
            self._known = _fields_in(scan.to_arrow())
        return super()._build(head)

    def _published(self, counts: pa.Table) -> None:
        assert self._known is not None
        for source, field, json_type in sorted(_fields_in(counts) - self._known):
            self._known.add((source, field, json_type))
            _new_fields.add(1, {"source": source})
            _log.warning("schema drift", source=source, field=field, json_type=json_type)


def _fields_in(rows: pa.Table) -> set[_Field]:
    return {(row["source"], row["field"], row["json_type"]) for row in rows.to_pylist()}
