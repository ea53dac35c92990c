"""What the tables must hold: the pure core over the bytes that raw holds, row by row.

Belongs here: the law `curated = fold(raw)` as an assertion, and the invariants of raw itself.
Does not: the fold (`lakehouse/fold.py`), the rules (`quality/`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import datetime
from typing import Any

from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, RAW, TRANSACTIONS, VERSIONS
from lakehouse.fold import Coordinates, Version, fold, fold_events, fold_payments, fold_versions, record
from lakehouse.gate_log import holds_of
from lakehouse.gates import HELD_VIOLATION, Hold
from lakehouse.offsets import OffsetVector
from lakehouse.redrive_mark import Mark, read_mark, written
from lakehouse.refs import ancestry, read_head, stamp_of
from lakehouse.transactions import Transaction, fold_transactions
from lakehouse.transactions_sql import VIEW
from quality.contract import HISTORY, Contract, Event, Violation, in_force
from quality.judge import judge
from streaming.topic_state import inspect_topic
from tests.pipeline import Pipeline

Row = dict[str, Any]
_KEYS: dict[str, Callable[[Row], Hashable]] = {
    name: lambda row, key=table.key: tuple(row[column] for column in key)  # type: ignore[misc]
    for name, table in BY_NAME.items()
}


def keyed(table: str, rows: Iterable[Row]) -> dict[Hashable, Row]:
    """Rows by the table's key; no key may come twice."""
    rows = list(rows)
    found = {_KEYS[table](row): row for row in rows}
    assert len(found) == len(rows), f"{table}: {len(rows) - len(found)} rows repeat their key"
    return found


def contents(pipeline: Pipeline) -> dict[str, dict[Hashable, Row]]:
    """Every row of the tables that the curated job writes."""
    return {table: keyed(table, pipeline.rows(table)) for table in (VERSIONS, PAYMENTS, QUARANTINE)}


def assert_raw_is_the_topic(pipeline: Pipeline) -> None:
    """Raw has every record of the topic once, and its snapshots say so: appends, without a gap."""
    state = inspect_topic(pipeline.settings.kafka_properties(), pipeline.topic)
    assert set(state.earliest.values()) == {0}
    coordinates = [(r["topic_id"], r["partition"], r["offset"]) for r in pipeline.rows(RAW)]
    assert sorted(coordinates) == [
        (state.topic_id, partition, offset)
        for partition, end in sorted(state.latest.items())
        for offset in range(end)
    ]
    head = read_head(pipeline.catalog, RAW)
    assert head.offsets.records_to(OffsetVector({state.topic_id: state.latest})) == 0
    before = OffsetVector()
    for snapshot in reversed(list(ancestry(head.table.metadata, head.snapshot))):
        stamp, summary = stamp_of(snapshot), snapshot.summary
        assert stamp is not None
        assert stamp.progress is not None
        assert summary is not None
        assert summary.operation.value == "append"
        assert int(summary.get("added-records") or 0) == before.records_to(stamp.progress)
        assert stamp.progress.covers(before)
        before = stamp.progress


def assert_the_law(pipeline: Pipeline, history: tuple[Contract, ...] = HISTORY) -> None:
    """The curated tables are the fold of raw, column by column; nothing is missing and nothing is twice."""
    holds = holds_of(pipeline.catalog)
    found, wanted = contents(pipeline), expected(pipeline.rows(RAW), holds, history)
    for table, rows in wanted.items():
        assert found[table].keys() == rows.keys(), table
        wrong = {key: (found[table][key], row) for key, row in rows.items() if found[table][key] != row}
        assert not wrong, f"{table}: {len(wrong)} rows differ, one is {next(iter(wrong.values()))}"
    stock = pipeline.stock()
    assert stock.conserved, stock.breaks
    assert stock.raw == stock.redelivered + stock.versions + stock.quarantined


def assert_transactions(pipeline: Pipeline) -> None:
    """The transactions are the fold of raw, in the table and in the view."""
    copies = (copy_of(row) for row in pipeline.rows(RAW))
    wanted = [t._asdict() for t in fold_transactions(fold(c for c in copies if c is not None))]
    assert_same_transactions(pipeline, [{**row, "flags": list(row["flags"])} for row in wanted])


def assert_same_transactions(pipeline: Pipeline, wanted: list[Row] | None = None) -> None:
    """The table has the rows of the view, and both those that are wanted where any are given."""
    seen = [dict(zip(Transaction._fields, row, strict=True)) for row in pipeline.query(f"FROM {VIEW}")]
    in_view, in_table = keyed(TRANSACTIONS, seen), keyed(TRANSACTIONS, pipeline.rows(TRANSACTIONS))
    assert in_table == in_view
    if wanted is not None:
        assert in_view == keyed(TRANSACTIONS, wanted)


def assert_readers_agree(pipeline: Pipeline) -> None:
    """DuckDB's and pyiceberg's Iceberg readers give the same rows."""
    for table in (VERSIONS, PAYMENTS, QUARANTINE):
        sql = f"SELECT * FROM {table} ORDER BY ALL"
        assert pipeline.query(sql) == pipeline.query(sql, reader="pyiceberg"), table


def expected(
    raw: Iterable[Row], holds: Iterable[Hold] = (), history: tuple[Contract, ...] = HISTORY
) -> dict[str, dict[Hashable, Row]]:
    """Rows of the curated tables, by the pure core, from rows of raw and the holds of partners' slices."""
    raw, holds = list(raw), list(holds)
    copies, quarantined = [], []
    redriven = _redriven(raw)
    transport: dict[Coordinates, Row] = {}
    taken: dict[Coordinates | None, datetime] = {}
    for row in raw:
        contract = in_force(row["kafka_ts"], history)
        verdict = _verdict(row, contract)
        where, mark = _where(row), _mark(row)
        transport[where] = {"source": _header(row, "ce_source"), "topic": row["topic"], **where._asdict()}
        taken[where] = row["kafka_ts"]
        if isinstance(verdict, Event) and _is_held(row, where, holds):
            verdict = [HELD_VIOLATION]
        if isinstance(verdict, Event):
            copies.append(record(verdict, where))
        else:
            judged = {"contract_version": contract.version, "violations": [_named(v) for v in verdict]}
            at, by = redriven.get((where, row["kafka_ts"]), (None, None))
            own = {"kafka_ts": row["kafka_ts"], "state": "redriven" if by else "open"}
            own |= {"redrive_of": mark and written(mark.of), "redriven_by": by, "redriven_at": at}
            quarantined.append({**transport[where], **own, **judged})
    versions = fold_versions(copies)
    payments = fold_payments(fold_events(versions))
    return {
        VERSIONS: keyed(
            VERSIONS, (_version_row(v, transport) | {"kafka_ts": taken[v.coordinates]} for v in versions)
        ),
        PAYMENTS: keyed(
            PAYMENTS,
            (
                _version_row(p.row, transport)
                | {"business_key": p.business_key, "transaction_ref": p.transaction_ref, "status": p.status}
                | {"event_ids": list(p.event_ids), "flags": list(p.flags)}
                for p in payments
            ),
        ),
        QUARANTINE: keyed(QUARANTINE, quarantined),
    }


def _is_held(row: Row, where: Coordinates, holds: Iterable[Hold]) -> bool:
    return _mark(row) is None and any(hold.holds(_header(row, "ce_source"), where) for hold in holds)


def copy_of(row: Row) -> Version | None:
    """The version that a row of raw tells; None for one that breaks the contract."""
    verdict = _verdict(row, in_force(row["kafka_ts"]))
    return record(verdict, _where(row)) if isinstance(verdict, Event) else None


def _verdict(row: Row, contract: Contract) -> Event | list[Violation]:
    mark = _mark(row)
    as_of = mark.first_time if mark else row["kafka_ts"]
    return judge(row["value"], as_of, contract, _header(row, "archive") == "true")


def _redriven(raw: Iterable[Row]) -> dict[tuple[Coordinates, datetime], tuple[datetime, str]]:
    """Say of each record that others stand for when the first of these came, and where it stands."""
    found: dict[tuple[Coordinates, datetime], tuple[datetime, str]] = {}
    for row in raw:
        mark = _mark(row)
        if mark is not None and not mark.has_more:
            own = row["kafka_ts"], written(_where(row))
            found[mark.of, mark.of_time] = min(own, found.get((mark.of, mark.of_time), own))
    return found


def _mark(row: Row) -> Mark | None:
    return read_mark(row["headers"], _where(row), row["kafka_ts"])


def _where(row: Row) -> Coordinates:
    return Coordinates(row["topic_id"], row["partition"], row["offset"])


def _version_row(version: Version, transport: Mapping[Coordinates, Row]) -> Row:
    assert version.event is not None
    assert version.coordinates is not None
    fields = version.event._asdict()
    del fields["ingest_ts"]
    return fields | {"first_ingest_ts": version.first_ingest_ts} | transport[version.coordinates]


def _named(violation: Violation) -> dict[str, str]:
    return dict(violation._asdict())


def _header(row: Row, name: str) -> str | None:
    values = [header["value"] for header in row["headers"] or [] if header["key"] == name]
    if not values or values[0] is None:
        return None
    try:
        return bytes(values[0]).decode()
    except UnicodeDecodeError:
        return None
