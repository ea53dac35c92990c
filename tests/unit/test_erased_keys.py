"""Which keys the trail says were to be destroyed: also by whom nobody heard of again."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from lakehouse.access_log import Entry
from lakehouse.erasure import ERASE, erased_keys

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def entries(*told: tuple[str, str, list[str]]) -> list[Entry]:
    """Rows of the trail, each of an access, its result and keys; the account is named after the access."""
    return [
        Entry(NOON, "me", ERASE, f"of-{access_id}", _parameters(keys), result, access_id, number, "")
        for number, (access_id, result, keys) in enumerate(told, 1)
    ]


def _parameters(keys: list[str]) -> str:
    return json.dumps({"reason": "r", **({"keys": keys} if keys else {})})


@pytest.mark.parametrize(
    "end",
    [
        [("a", "done: 2 keys destroyed", ["k1", "k2"])],
        [("a", "failed: KeyringUnavailable", ["k1", "k2"])],
        [],  # killed
        [("b", "begun", []), ("b", "done", [])],  # killed, and nothing was left for the one who came after
    ],
)
def test_what_was_begun_may_have_been_done(end: list[tuple[str, str, list[str]]]) -> None:
    found = erased_keys(entries(("a", "begun", ["k1", "k2"]), *end))
    assert found == {"k1": "of-a", "k2": "of-a"}


@pytest.mark.parametrize("refusal", ["ErasureRefused", "HoldRefused"])
def test_what_was_refused_was_not_done(refusal: str) -> None:
    rows = entries(("a", "begun", ["k1"]), ("a", f"failed: {refusal}", ["k1"]), ("b", "begun", ["k2"]))
    assert erased_keys(rows) == {"k2": "of-b"}
    assert erased_keys([]) == {}
