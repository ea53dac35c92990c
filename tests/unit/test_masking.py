"""What a command was given as it is kept: no secret, no card number, nothing endless."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from lakehouse.masking import parameters_of, plain

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_parameters_are_told_without_what_is_empty_or_secret() -> None:
    told = parameters_of(
        {
            "sql": "SELECT 1",
            "as_of": None,
            "tags": (),
            "again": False,
            "password": "hunter2",
            "nested": {"api_token": "x", "hours": [NOON]},
            "card": "seen 4111 1111 1111 1111 there",
        }
    )
    assert json.loads(told) == {
        "card": "seen [card number] there",
        "nested": {"api_token": "[hidden]", "hours": [NOON.isoformat()]},
        "password": "[hidden]",
        "sql": "SELECT 1",
    }


def test_long_texts_are_cut_and_card_numbers_masked() -> None:
    assert plain("x" * 10_000).endswith("x…")
    assert len(plain("x" * 10_000)) < 9_000
    assert "4111" not in plain("4111111111111111")
