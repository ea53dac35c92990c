"""The policy's rows: each fails open or closed as its action says, and none of ours is missing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from cli.main import paywave
from quality.errors import UnknownGate
from quality.policy import (
    CONSERVATION,
    CONTRACT_RULE,
    CONTRACT_WARNING,
    DUPLICATE_KEY,
    FOREIGN_STAGE,
    OFFSET_GAP,
    POLICY,
    SLICE_SURGE,
    STAGED_ROWS,
    SURGE,
    UNKNOWN_FIELD,
    Action,
    gate,
)

WRONG_SUMS = (CONSERVATION, DUPLICATE_KEY, OFFSET_GAP, STAGED_ROWS, FOREIGN_STAGE)


def test_every_gate_stands_in_the_policy_once_with_its_reason() -> None:
    names = [row.name for row in POLICY]
    of_records = [CONTRACT_RULE, CONTRACT_WARNING, UNKNOWN_FIELD]
    assert sorted(names) == sorted([*of_records, SLICE_SURGE, SURGE, *WRONG_SUMS])
    assert all(len(row.why) > 30 and row.about for row in POLICY)


@pytest.mark.parametrize("row", POLICY, ids=lambda row: row.name)
def test_only_what_blocks_a_whole_batch_fails_closed(row: object) -> None:
    assert row in POLICY
    found = next(known for known in POLICY if known is row)
    assert found.is_open is (found.action is not Action.BLOCK)
    assert (found.scope == "batch") is (found.action is Action.BLOCK)


def test_nobody_may_let_wrong_sums_pass() -> None:
    assert not any(gate(name).overridable for name in WRONG_SUMS)
    assert {row.name for row in POLICY if row.overridable} == {SURGE, SLICE_SURGE}


def test_an_unknown_gate_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownGate, match="no gate surges") as refused:
        gate("surges")
    assert SURGE in refused.value.hint


def test_the_command_shows_the_policy() -> None:
    shown = CliRunner().invoke(paywave, ["gate", "policy", "--output", "json"], catch_exceptions=False)
    assert [row["gate"] for row in json.loads(shown.stdout)["gates"]] == [row.name for row in POLICY]
    text = CliRunner().invoke(paywave, ["gate", "policy"], catch_exceptions=False).stdout
    assert all(row.why in text for row in POLICY)
    wrong = CliRunner().invoke(paywave, ["gate", "override", "surges", "--reason", "x"])
    silent = CliRunner().invoke(paywave, ["gate", "override", SURGE])
    empty = CliRunner().invoke(paywave, ["gate", "override", SURGE, "--reason", " "])
    assert [wrong.exit_code, silent.exit_code, empty.exit_code] == [2, 2, 2]
