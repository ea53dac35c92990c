"""Creating and evolving tables: one function brings the catalog to the definitions, or refuses and says why.

Belongs here: DDL. Does not: what the tables are (`definitions/`), writing rows (`publish.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    ServerError,
    TableAlreadyExistsError,
)
from pyiceberg.manifest import write_manifest_list
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import TableProperties
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
)
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import ListType

from lakehouse.definitions import RAW, TABLES, VERSIONS, Table
from lakehouse.errors import TableMismatch
from lakehouse.offsets import OffsetVector
from lakehouse.refs import DECIDED_BEFORE, MAIN, PROGRESS_TAG, branch_to, read_head, tag_to
from lakehouse.stamp import Stamp

_PLAIN_SORT: tuple[object, ...] = (IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_FIRST)
# Engines add to their parent's totals; without a start, no snapshot of the table would ever carry any.
_NO_ROWS = {
    f"total-{what}": "0"
    for what in (
        "records",
        "files-size",
        "data-files",
        "delete-files",
        "position-deletes",
        "equality-deletes",
    )
}


def ensure_tables(
    catalog: RestCatalog, buckets: int, definitions: Iterable[Table] = TABLES
) -> dict[str, str]:
    """Create what is missing; add new optional columns, bring docs and properties up to date; idempotent.

    Safe when two run at once.

    Returns what was done per table: `created`, `evolved: …` or `unchanged`. Raises `TableMismatch`, with the
    differences, before changing anything of a table that differs in more than that.
    """
    done = {}
    for definition in definitions:
        _ensure_namespace(catalog, definition.name.split(".")[0])
        done[definition.name] = _ensure(catalog, definition, buckets)
    return done


def _ensure_namespace(catalog: RestCatalog, name: str) -> None:
    if catalog.namespace_exists(name):
        return
    try:
        catalog.create_namespace(name)
    except (NamespaceAlreadyExistsError, ServerError):
        # another process was first; a JDBC catalog answers that with a server error
        if not catalog.namespace_exists(name):
            raise


def _ensure(catalog: RestCatalog, definition: Table, buckets: int) -> str:
    if not catalog.table_exists(definition.name):
        try:
            catalog.create_table(
                definition.name,
                schema=definition.schema(),
                partition_spec=definition.partition_spec(buckets),
                sort_order=definition.sort_order(),
                properties=definition.all_properties() | _decided_before(catalog, definition),
            )
        except TableAlreadyExistsError:
            pass  # another process was first; what follows is right for both
        else:
            _give_birth(catalog, catalog.load_table(definition.name))
            return "created"
    table = catalog.load_table(definition.name)
    _give_birth(catalog, table)  # heals a crash between creation and birth
    return _evolve(table, definition, buckets)


def _decided_before(catalog: RestCatalog, definition: Table) -> dict[str, str]:
    """Note what raw holds already when the table of versions is made: a rebuild, decided about long ago."""
    if definition.name != VERSIONS or not catalog.table_exists(RAW):
        return {}
    if catalog.load_table(RAW).current_snapshot() is None:
        return {}
    return {DECIDED_BEFORE: read_head(catalog, RAW).offsets.to_json()}


def _give_birth(catalog: RestCatalog, table: IcebergTable) -> None:
    """Give a table its empty, stamped first snapshot, `main` and `progress` on it, in one commit.

    Without a snapshot there is nothing to branch from, and no progress to read. pyiceberg cannot append to
    format v3, but an empty snapshot is only a manifest list without entries, which reads alike in v2 and v3.
    """
    if table.current_snapshot() is not None:
        return
    snapshot_id = uuid.uuid4().int >> 65
    location = f"{table.location()}/metadata/snap-{snapshot_id}-birth.avro"
    with write_manifest_list(2, table.io.new_output(location), snapshot_id, None, 1, "deflate"):
        pass
    stamp = Stamp(token=uuid.uuid4().hex, writer="birth", progress=OffsetVector())
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        sequence_number=1,
        manifest_list=location,
        summary=Summary(Operation.APPEND, **_NO_ROWS, **stamp.properties()),
        schema_id=table.metadata.current_schema_id,
        first_row_id=0,
        added_rows=0,
    )
    requirements = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertRefSnapshotId(ref=MAIN, snapshot_id=None),
    )
    updates = (
        AddSnapshotUpdate(snapshot=snapshot),
        branch_to(MAIN, snapshot_id),
        tag_to(PROGRESS_TAG, snapshot_id),
    )
    try:
        catalog.commit_table(table, requirements, updates)
    except CommitFailedException:
        if catalog.load_table(table.name()).current_snapshot() is None:
            raise


def _evolve(table: IcebergTable, definition: Table, buckets: int) -> str:
    differences = compare(table, definition, buckets)
    if differences:
        listed = "\n  ".join(differences)
        raise TableMismatch(
            f"table {definition.name} differs from its definition:\n  {listed}",
            "only new optional columns are added to a table in use; undo the change in "
            "lakehouse/definitions/, or move the data into a new table",
        )
    known = {f.name: f for f in table.schema().fields}
    added = [f for f in definition.schema().fields if f.name not in known]
    explained = [f for f in definition.schema().fields if f.name in known and f.doc != known[f.name].doc]
    properties = _properties_to_set(table, definition)
    with table.transaction() as transaction:
        if added or explained:
            with transaction.update_schema() as update:
                for f in added:
                    update.add_column(f.name, f.field_type, doc=f.doc)
                for f in explained:
                    update.update_column(f.name, doc=f.doc)
        if properties:
            transaction.set_properties(properties)
    named = [f"+{f.name}" for f in added] + [f"doc of {f.name}" for f in explained]
    named += [f"property {name}" for name in properties]
    return "evolved: " + ", ".join(named) if named else "unchanged"


def _properties_to_set(table: IcebergTable, definition: Table) -> dict[str, str]:
    """Find the properties that differ; those that the definition does not speak of are left alone."""
    wanted = {k: v for k, v in definition.all_properties().items() if k != TableProperties.FORMAT_VERSION}
    return {name: value for name, value in wanted.items() if table.properties.get(name) != value}


def compare(table: IcebergTable, definition: Table, buckets: int) -> list[str]:
    """List what differs from the definition and cannot be mended by adding optional columns."""
    found = _compare_columns(table.schema(), definition.schema())
    found += _compare_text("partitions", _partitions(table), _partitions_of(definition, buckets))
    found += _compare_text("sort order", _sorting(table), ", ".join(definition.sort_by) or "none")
    version = str(table.format_version)
    return found + _compare_text("format version", version, definition.all_properties()["format-version"])


def _compare_columns(have: Schema, want: Schema) -> list[str]:
    found = []
    wanted = {f.name: f for f in want.fields}
    known = {f.name: f for f in have.fields}
    for name, f in wanted.items():
        if name not in known:
            if f.required:
                found.append(f"column {name}: new and required; a new column must be optional")
            continue
        found += _compare_text(f"column {name}: type", _type(known[name].field_type), _type(f.field_type))
        found += _compare_text(f"column {name}: required", str(known[name].required), str(f.required))
    return found + [
        f"column {name}: in the table, not in the definition" for name in known if name not in wanted
    ]


def _compare_text(what: str, have: str, want: str) -> list[str]:
    return [] if have == want else [f"{what} is {have}, the definition says {want}"]


def _type(kind: object) -> str:
    """Render a type without its field ids, which the catalog assigns anew."""
    fields = getattr(kind, "fields", None)
    if fields is not None:
        return (
            "struct<" + ", ".join(f"{f.name}: {_type(f.field_type)}{_null(f.required)}" for f in fields) + ">"
        )
    if isinstance(kind, ListType):
        return f"list<{_type(kind.element_type)}{_null(kind.element_required)}>"
    return str(kind)


def _null(is_required: bool) -> str:
    return "" if is_required else " or null"


def _sorting(table: IcebergTable) -> str:
    names = {f.field_id: f.name for f in table.schema().fields}
    return ", ".join(_sort_text(f, names[f.source_id]) for f in table.sort_order().fields) or "none"


def _sort_text(f: SortField, name: str) -> str:
    is_plain = (f.transform, f.direction, f.null_order) == _PLAIN_SORT
    return name if is_plain else f"{f.transform}({name}) {f.direction} {f.null_order}"


def _partitions(table: IcebergTable) -> str:
    names = {f.field_id: f.name for f in table.schema().fields}
    return ", ".join(f"{f.transform}({names[f.source_id]})" for f in table.spec().fields) or "none"


def _partitions_of(definition: Table, buckets: int) -> str:
    names = {f.field_id: f.name for f in definition.schema().fields}
    fields = definition.partition_spec(buckets).fields
    return ", ".join(f"{f.transform}({names[f.source_id]})" for f in fields) or "none"
