"""Heads of the chain of digests that Dagster noted: in its own store nobody reaches them from the catalog.

Belongs here: finding them. Does not: noting them (`maintenance.py`, `checks/integrity.py`), the chain
(`lakehouse/chain.py`).
"""

from collections.abc import Iterator

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from assets.tables import key_of
from lakehouse.definitions import FILE_DIGESTS

CHAIN_HEAD = "chain_head"
CHECK = dg.AssetCheckKey(key_of(FILE_DIGESTS), "files_intact")


def noted_heads(instance: dg.DagsterInstance) -> list[str]:
    """Give the options that hold the ledger to what the last recording noted, and the last check that passed.

    A check that failed saw a chain that is not to be believed.
    """
    found = dict.fromkeys([*_of_the_recording(instance), *_of_the_check(instance)])
    return [part for head in found for part in ("--head", head)]


def _of_the_recording(instance: dg.DagsterInstance) -> Iterator[str]:
    event = instance.get_latest_materialization_event(key_of(FILE_DIGESTS))
    if event is not None and event.asset_materialization is not None:
        noted = event.asset_materialization.metadata.get(CHAIN_HEAD)
        yield from () if noted is None else (str(noted.value),)


def _of_the_check(instance: dg.DagsterInstance) -> Iterator[str]:
    passed = instance.event_log_storage.get_asset_check_execution_history(
        CHECK, limit=1, status={AssetCheckExecutionRecordStatus.SUCCEEDED}
    )
    for record in passed:
        event = record.event.dagster_event if record.event is not None else None
        noted = event.asset_check_evaluation_data.metadata.get(CHAIN_HEAD) if event is not None else None
        yield from () if noted is None else (str(noted.value),)
