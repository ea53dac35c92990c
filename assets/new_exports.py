"""Audit exports as an asset: each that is finished is told to the graph, whoever had it made.

Belongs here: the sensor that looks at the end of the chain, and how an export looks. Does not: making exports
(`exports.py`, `paywave audit export`), verifying them (`lakehouse/exports/verification.py`).
"""

from typing import Any

import dagster as dg

from assets.export_store import export_store
from assets.lake import Lake
from assets.tables import AUDIT_EXPORTS
from lakehouse.errors import ExportError
from lakehouse.exports.chain import FOLDER, link_of, links_in
from lakehouse.exports.manifest import MANIFEST, Manifest
from lakehouse.exports.store import Store


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells the graph of the newest finished export of the chain. Idle until there is one.",
)
def new_exports(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult | dg.SkipReason:
    """Look at the numbers of the chain beyond the cursor, which is the number that was told of last."""
    store = export_store(lake.settings())
    after = int(context.cursor or 0)
    numbers = [number for number in links_in(store.under(FOLDER).names()) if number > after]
    for number in reversed(numbers):
        found = _finished(context, store, number)
        if found is not None:
            told = dg.AssetMaterialization(
                AUDIT_EXPORTS, description=f"export {found.name}", metadata=_metadata(found, store)
            )
            return dg.SensorResult(asset_events=[told], cursor=str(number))
    return dg.SkipReason("no export has been finished")


def _finished(context: dg.SensorEvaluationContext, store: Store, number: int) -> Manifest | None:
    """Read an export's link of the chain; None where its files are not all there yet, or it is unreadable."""
    try:
        found = Manifest.read(store.read(link_of(number)))
        store.read(f"{found.name}/{MANIFEST}")  # it comes last
    except FileNotFoundError:
        return None
    except ExportError as error:
        context.log.error(f"export {number} of the chain: {error}; {error.hint}")
        return None
    return found


def _metadata(found: Manifest, store: Store) -> dict[str, Any]:
    files, asked = found.files.values(), found.value["request"]
    tables = [
        dg.TableRecord(
            {"table": table, "snapshot_id": str(snapshot), "rows": found.value["rows"].get(table, 0)}
        )
        for table, snapshot in sorted(found.snapshots.items())
    ]
    return {
        "number": found.sequence,
        "name": found.name,
        "id": found.id,
        "created": str(found.value["created"]),
        "scope": str(asked["scope"]),
        "standing": bool(asked["standing"]),
        "dagster/row_count": sum(found.value["rows"].values()),
        "files": len(files),
        "bytes": sum(file.bytes for file in files),
        "manifest_sha256": found.sha256,
        "verify": dg.MetadataValue.md(f"`paywave audit verify {store}/{found.name} --public-key KEY.pem`"),
        **({"tables": dg.MetadataValue.table(tables)} if tables else {}),
    }
