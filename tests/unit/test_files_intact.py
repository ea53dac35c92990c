"""The daily integrity check in Dagster: it holds the ledger to the head that was noted there before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pytest

from assets.chain_heads import noted_heads
from assets.checks.integrity import files_intact
from assets.lake import Lake
from assets.maintenance import file_digests
from assets.notify import Notifier
from assets.tables import key_of
from assets.work import Work
from lakehouse.definitions import FILE_DIGESTS

HEAD, OTHER, FAILED = ("12:" + letter * 64 for letter in "abc")
FOUND = {
    "whole": True, "files": 9, "read": 9, "bytes": 1, "unrecorded": 0, "overdue": 0, "damaged": [],
    "ledger_breaks": [], "chain_head": HEAD,
}  # fmt: skip
RAN: list[Sequence[str]] = []
TOLD: list[str] = []


class Says(Work):
    """Says what a check found, instead of checking."""

    damaged: bool = False

    def run(self, context: Any, command: Sequence[str], may_fall_short: bool = False) -> dict[str, Any]:
        RAN.append(command)
        assert may_fall_short is (command[1] == "check")
        bad = {"path": "s3://w/raw/a", "kind": "data", "problem": "missing", "said": "there is no such file"}
        head = FAILED if self.damaged else HEAD
        return {
            **FOUND,
            "chain_head": head,
            "snapshots": 1,
            "whole": not self.damaged,
            "damaged": [bad] if self.damaged else [],
        }


class Told(Notifier):
    def tell(self, what: str, text: str, **details: str) -> None:
        TOLD.append(text)


def checked(instance: dg.DagsterInstance, damaged: bool = False) -> dg.AssetCheckEvaluation:
    RAN.clear()
    TOLD.clear()
    lake = Lake(home="/nowhere")
    defs = dg.Definitions(
        assets=[dg.AssetSpec(key_of(FILE_DIGESTS))],
        asset_checks=[files_intact],
        resources={"work": Says(lake=lake, damaged=damaged), "notifier": Told(lake=lake)},
        jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.checks(files_intact))],
    )
    done = defs.resolve_job_def("check").execute_in_process(instance=instance)
    (found,) = done.get_asset_check_evaluations()
    return found


@pytest.mark.parametrize("damaged", [False, True])
def test_what_is_damaged_fails_the_check_and_is_told(damaged: bool) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert checked(instance, damaged).passed is not damaged
    assert [text for text in TOLD if "s3://w/raw/a" in text] == TOLD and bool(TOLD) is damaged


def test_the_ledger_is_held_to_the_head_of_the_last_recording() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        checked(instance)
        assert RAN == [["integrity", "check", "--one-in", "1"]]
        noted = dg.AssetMaterialization(key_of(FILE_DIGESTS), metadata={"chain_head": HEAD})
        instance.report_runless_asset_event(noted)
        checked(instance)
        assert RAN == [["integrity", "check", "--one-in", "1", "--head", HEAD]]


def test_the_ledger_is_held_to_the_head_of_the_last_check_that_passed() -> None:
    """Whoever cuts the ledger between two recordings has the next one note what is left."""
    with dg.DagsterInstance.ephemeral() as instance:
        checked(instance)
        checked(instance, damaged=True)
        other = dg.AssetMaterialization(key_of(FILE_DIGESTS), metadata={"chain_head": OTHER})
        instance.report_runless_asset_event(other)
        assert noted_heads(instance) == ["--head", OTHER, "--head", HEAD]
        checked(instance, damaged=True)
        assert noted_heads(instance) == ["--head", OTHER, "--head", HEAD]


def test_a_recording_is_held_to_what_was_noted_unless_a_person_says_otherwise() -> None:
    for held, heads in ((True, ["--head", OTHER]), (False, [])):
        with dg.DagsterInstance.ephemeral() as instance:
            RAN.clear()
            noted = dg.AssetMaterialization(key_of(FILE_DIGESTS), metadata={"chain_head": OTHER})
            instance.report_runless_asset_event(noted)
            config = {"ops": {"file_digests": {"config": {"to_noted_heads": held}}}}
            work = Says(lake=Lake(home="/nowhere"))
            assert dg.materialize(
                [file_digests], instance=instance, resources={"work": work}, run_config=config
            ).success
            (command,) = RAN
            assert list(command) == ["integrity", "record", *heads]
