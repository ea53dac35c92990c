"""A lake without servers: our tables in pyiceberg's own catalog, with what the reference makes of records.

Belongs here: that. Does not: the real stack's way to these rows (`pipeline.py`). Tables are format v2 and not
in buckets, as pyiceberg can write them; their files carry Bloom filters as Spark writes them.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import schema_to_pyarrow

from lakehouse.definitions import BY_NAME, PAYMENTS, PUBLISH_LOG, QUARANTINE, RAW, TRANSACTIONS, VERSIONS
from lakehouse.investigations.rows import transaction_rows
from lakehouse.offsets import OffsetVector
from lakehouse.publish_log import rows_of
from lakehouse.refs import PROGRESS_TAG
from lakehouse.stamp import Stamp
from tests.reference import expected

Row = dict[str, Any]
_TABLES = (RAW, VERSIONS, PAYMENTS, QUARANTINE, TRANSACTIONS, PUBLISH_LOG)
_BLOOM = "write.parquet.bloom-filter-enabled.column."


class SmallLake:
    """Tables in a folder. Each publish brings all of them to what the records come to by then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._catalog = InMemoryCatalog("small", warehouse=str(folder))
        self._raw: list[Row] = []
        self._have: dict[str, dict[Any, Row]] = defaultdict(dict)
        for name in _TABLES:
            self._catalog.create_namespace_if_not_exists(name.split(".")[0])
            table = replace(BY_NAME[name], bucket_of=None)
            self._catalog.create_table(
                name,
                table.schema(),
                partition_spec=table.partition_spec(1),
                properties={"format-version": "2"},
            )

    @property
    def catalog(self) -> RestCatalog:
        """The catalog; it answers what is asked of ours."""
        return cast(RestCatalog, self._catalog)

    def publish(self, rows: Iterable[Row]) -> datetime:
        """Append rows of raw and bring the curated tables up to them; returns when readers saw payments."""
        rows = list(rows)
        self._raw += rows
        self._add(RAW, rows)
        wanted: dict[str, Mapping[Any, Row]] = dict(expected(self._raw))
        transactions = transaction_rows(wanted[PAYMENTS].values())
        wanted[TRANSACTIONS] = {tuple(row[c] for c in BY_NAME[TRANSACTIONS].key): row for row in transactions}
        for name, found in wanted.items():
            self._bring(name, found)
        entry = self._catalog.load_table(PAYMENTS).history()[-1]
        return datetime.fromtimestamp(entry.timestamp_ms / 1000).astimezone()

    def expire(self, name: str) -> None:
        """Keep nothing of a table's history but what a reader sees now; its publishes are logged before."""
        logged = list(rows_of(self._catalog.load_table(name)))
        self._add(PUBLISH_LOG, logged)
        table = self._catalog.load_table(name)
        current = table.current_snapshot()
        assert current is not None
        old = [s.snapshot_id for s in table.snapshots() if s.snapshot_id != current.snapshot_id]
        table.maintenance.expire_snapshots().by_ids(old).commit()

    def _bring(self, name: str, wanted: Mapping[Any, Row]) -> None:
        have = self._have[name]
        if all(wanted.get(key) == row for key, row in have.items()):
            self._add(name, [row for key, row in wanted.items() if key not in have])
        else:
            self._catalog.load_table(name).delete(AlwaysTrue())
            self._add(name, list(wanted.values()))
        self._have[name] = dict(wanted)

    def _add(self, name: str, rows: Sequence[Row]) -> None:
        definition = BY_NAME[name]
        table = self._catalog.load_table(name)
        schema = schema_to_pyarrow(definition.schema(), include_field_ids=False)
        files = []
        for part in _by_hour(rows, definition.hour_of):
            path = self._folder / f"{uuid.uuid4()}.parquet"
            columns = [n.removeprefix(_BLOOM) for n in definition.properties if n.startswith(_BLOOM)]
            paths = {c.replace(".element", ".list.element"): {"ndv": 1000} for c in columns}
            pq.write_table(pa.Table.from_pylist(part, schema), path, bloom_filter_options=paths or None)
            files.append(str(path))
        table.add_files(files, snapshot_properties=self._stamp().properties())
        if name != RAW:  # of the others nobody asks for their progress by its tag
            return
        table = self._catalog.load_table(name)
        snapshot = table.current_snapshot()
        assert snapshot is not None
        if PROGRESS_TAG in table.refs():
            table.manage_snapshots().remove_tag(PROGRESS_TAG).commit()
        table.manage_snapshots().create_tag(snapshot.snapshot_id, PROGRESS_TAG).commit()

    def _stamp(self) -> Stamp:
        vector = OffsetVector()
        for row in self._raw:
            topic, partition = row["topic_id"], row["partition"]
            end = max(row["offset"] + 1, vector.next_offset(topic, partition))
            vector = vector.advanced(topic, {partition: end})
        return Stamp(uuid.uuid4().hex, "curated", vector, 1, code_version="0.1.0")


def _by_hour(rows: Sequence[Row], hour_of: str | None) -> Iterable[list[Row]]:
    if hour_of is None:
        return [list(rows)] if rows else []
    found: dict[datetime, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[hour_of].replace(minute=0, second=0, microsecond=0)].append(row)
    return found.values()
