"""What `paywave maintain` refuses before it reaches for anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cli.main import paywave
from lakehouse.turns import opened_at


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["orphans", "--older-than", "1h"], "--force"),
        (["orphans", "--table", "curated.nothing"], "curated.payments"),
        (["compact", "--table", "raw.payment_events"], "append snapshots only"),
        (["manifests", "--table", "raw.payment_events"], "append snapshots only"),
        (["manifests", "--at-least", "1"], "x>=2"),
        (["expire", "--keep", "0"], "x>=1"),
        (["expire", "--older-than", "soon"], "6h"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(paywave, ["maintain", *arguments])
    assert done.exit_code == 2
    assert said in done.output


def test_a_stage_of_any_writer_says_when_it_was_opened() -> None:
    opened = opened_at("stage_compact_1795659004345_793a96e5e7c9")
    assert opened is not None
    assert opened.isoformat() == "2026-11-26T02:10:04.345000+00:00"
    assert opened_at("main") is opened_at("stage_by_hand") is opened_at("stage_w_1_") is None
