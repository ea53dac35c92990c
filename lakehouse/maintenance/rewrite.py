"""How Spark rewrites what a table has without changing a row: data files packed and sorted, manifests merged.

Belongs here: Iceberg's own rewriting, on a stage and with its stamp. Does not: when and what (`compact.py`,
`manifests.py`), writing rows (`lakehouse/staging.py`).

The procedures of Spark's SQL would do, but for the stamp: only the actions below them take properties.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import BY_NAME, RAW, Table
from lakehouse.maintenance.need import PartitionKey, grouped
from lakehouse.publish import Stage

# Raw has append snapshots only, and its files are as large as its batches: docs/adr/0024-maintenance.md
REWRITTEN = tuple(name for name in BY_NAME if name != RAW)
# Files that are large already and have no deletes are left; a deletion vector is always folded in.
_OPTIONS = {"min-input-files": "2", "delete-file-threshold": "1"}


def rewrite_files(
    stage: Stage,
    spark: SparkSession,
    definition: Table,
    buckets: int | None,
    keys: Iterable[PartitionKey],
    target_bytes: int,
) -> None:
    """Pack and sort the files of some partitions, deletes folded in, as one stamped snapshot of the stage.

    Row ids and row versions (format v3) stay as they are; an overwrite would give new ones.
    """
    jvm: Any = spark._jvm
    actions = jvm.org.apache.iceberg.spark.actions.SparkActions.get(spark._jsparkSession)
    action = actions.rewriteDataFiles(java_table(spark, stage.head.name)).toBranch(stage.branch).sort()
    action = action.filter(_filter(jvm, definition, buckets, keys))
    for name, value in {**_OPTIONS, "target-file-size-bytes": str(target_bytes)}.items():
        action = action.option(name, value)
    for name, value in stage.properties.items():
        action = action.snapshotProperty(name, value)
    action.execute()


def merge_manifests(stage: Stage, spark: SparkSession, paths: Iterable[str]) -> None:
    """Merge the named data manifests into few, as one stamped snapshot after main.

    It stands on no branch, since Iceberg cannot stage this on one; nor does main move. The caller looks
    whether main still was the stage's parent.
    """
    jvm: Any = spark._jvm
    table = java_table(spark, stage.head.name)
    wanted, chosen = set(paths), jvm.java.util.HashSet()
    for manifest in table.currentSnapshot().dataManifests(table.io()):
        if manifest.path() in wanted:
            chosen.add(manifest)
    # one group of all: they come in the order in which they were written, and so of their hours, about
    update = table.rewriteManifests().stageOnly().clusterBy(_same_for_all(jvm)).rewriteIf(_is_in(jvm, chosen))
    for name, value in stage.properties.items():
        update = update.set(name, value)
    update.commit()


def _same_for_all(jvm: Any) -> Any:
    """Make a java.util.function.Function that answers the same to everything."""
    anything = _class(jvm, "java.lang.Object")
    handles = jvm.java.lang.invoke.MethodHandles
    return _as(jvm, "Function", handles.dropArguments(handles.constant(anything, "all"), 0, [anything]))


def _is_in(jvm: Any, members: Any) -> Any:
    """Make a java.util.function.Predicate that holds for the members of a set."""
    kind = jvm.java.lang.invoke.MethodType.methodType(
        jvm.java.lang.Boolean.TYPE, _class(jvm, "java.lang.Object")
    )
    lookup = jvm.java.lang.invoke.MethodHandles.publicLookup()
    return _as(
        jvm, "Predicate", lookup.findVirtual(_class(jvm, "java.util.Set"), "contains", kind).bindTo(members)
    )


def _as(jvm: Any, interface: str, handle: Any) -> Any:
    proxies = jvm.java.lang.invoke.MethodHandleProxies
    return proxies.asInterfaceInstance(_class(jvm, f"java.util.function.{interface}"), handle)


def _class(jvm: Any, name: str) -> Any:
    return jvm.java.lang.Class.forName(name)


def java_table(spark: SparkSession, name: str) -> Any:
    """Load a table as Iceberg's own Java object, as it is now."""
    jvm: Any = spark._jvm
    return jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(
        spark._jsparkSession, f"{CATALOG_NAME}.{name}"
    )


def _filter(jvm: Any, definition: Table, buckets: int | None, keys: Iterable[PartitionKey]) -> Any:
    """Name partitions in Iceberg's words."""
    words = jvm.org.apache.iceberg.expressions.Expressions
    terms = [words.hour(definition.hour_of)] if definition.hour_of else []
    terms += [words.bucket(definition.bucket_of, buckets)] if definition.bucket_of else []
    found = words.alwaysFalse()
    for group in grouped(keys):
        term = words.alwaysTrue()
        for place, values in zip(terms, group, strict=True):
            named = jvm.java.util.ArrayList(values)
            term = getattr(words, "and")(term, getattr(words, "in")(place, named))
        found = getattr(words, "or")(found, term)
    return found
