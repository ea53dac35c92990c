"""What the bucket of raw must be, and the plan that leads there: it only ever gets stricter."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.immutability.policy import (
    LIFECYCLE_ID,
    SID_PREFIX,
    Protection,
    State,
    plan,
    policy_document,
    statements,
)

ROLE = "arn:aws:iam::123456789012:role/paywave-retention"
PROTECTION = Protection("raw-lake", "compliance", 2, "raw/", ROLE)
BARE = State(False)
FOREIGN = {"Sid": "Theirs", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}
RULE = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 9}}
modes = st.sampled_from(["governance", "compliance"])
locks = st.none() | st.sampled_from(["GOVERNANCE", "COMPLIANCE"])


def by_name(protection: Protection) -> dict[str, Any]:
    return {one["Sid"].removeprefix(SID_PREFIX): one for one in statements(protection)}


def test_nobody_but_the_exempt_role_may_delete_or_change_the_bucket() -> None:
    found = by_name(PROTECTION)
    keep = found["KeepObjects"]
    assert (keep["Effect"], keep["Principal"]) == ("Deny", "*")
    assert set(keep["Action"]) == {"s3:DeleteObject", "s3:DeleteObjectVersion"}
    assert keep["Resource"] == "arn:aws:s3:::raw-lake/raw/*"
    assert keep["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": ROLE}}
    assert {"s3:PutBucketPolicy", "s3:PutBucketVersioning", "s3:BypassGovernanceRetention"} <= set(
        found["KeepBucket"]["Action"]
    )
    assert found["KeepBucket"]["Condition"] == keep["Condition"]


def test_a_lock_may_not_be_set_for_less_by_anybody() -> None:
    condition = by_name(PROTECTION)["KeepLocks"]["Condition"]
    assert condition == {"NumericLessThan": {"s3:object-lock-remaining-retention-days": "732"}}


def test_without_an_exempt_role_nobody_deletes_and_the_bucket_can_still_be_changed() -> None:
    found = by_name(replace(PROTECTION, exempt_role_arn=None))
    assert "Condition" not in found["KeepObjects"] and "KeepBucket" not in found


def test_a_bare_bucket_gets_all_of_it_and_what_others_wrote_stays() -> None:
    made = plan(PROTECTION, replace(BARE, statements=(FOREIGN,), rules=(RULE,)))
    assert [change.what for change in made.changes] == ["versioning", "lock", "policy", "lifecycle"]
    assert made.wanted.statements[0] == FOREIGN and made.wanted.rules[0] == RULE
    assert (made.wanted.lock_mode, made.wanted.lock_days) == ("COMPLIANCE", 732)
    assert json.loads(policy_document(made.wanted.statements))["Statement"][0] == FOREIGN


def test_mode_none_asks_for_nothing() -> None:
    assert plan(replace(PROTECTION, mode="none"), BARE).changes == ()


@given(modes, st.integers(1, 10), st.none() | st.just(ROLE), st.booleans())
def test_once_applied_nothing_differs(mode: Any, years: int, role: str | None, versioned: bool) -> None:
    protection = Protection("raw-lake", mode, years, "", role)
    made = plan(protection, State(versioned, statements=(FOREIGN,), rules=(RULE,)))
    assert plan(protection, made.wanted).changes == ()


@given(modes, st.integers(1, 10), locks, st.integers(0, 5000))
def test_what_is_locked_by_compliance_is_never_loosened(mode: Any, years: int, lock: Any, days: int) -> None:
    found = State(True, lock, days if lock else 0)
    changes = [c for c in plan(Protection("raw-lake", mode, years), found).changes if c.what == "lock"]
    if lock == "COMPLIANCE" and (mode == "governance" or years * 366 < days):
        assert [c.impossible for c in changes] == [True]
    else:
        assert not any(c.impossible for c in changes)


def test_a_statement_of_ours_that_was_changed_is_written_anew() -> None:
    made = plan(PROTECTION, BARE)
    loosened = [
        {**one, "Effect": "Allow"} if one["Sid"].endswith("Objects") else one
        for one in made.wanted.statements
    ]
    (change,) = plan(PROTECTION, replace(made.wanted, statements=tuple(loosened))).changes
    assert change.said == f"{SID_PREFIX}KeepObjects is written anew"
    (change,) = plan(PROTECTION, replace(made.wanted, rules=())).changes
    assert change.said == f"+ {LIFECYCLE_ID}"


@pytest.mark.parametrize("form", [lambda a: a, lambda a: [a]])
def test_what_s3_gives_back_in_another_form_is_the_same(form: Any) -> None:
    made = plan(PROTECTION, BARE)
    given_back = tuple(
        {**one, "Resource": form(one["Resource"])} if isinstance(one["Resource"], str) else one
        for one in made.wanted.statements
    )
    assert plan(PROTECTION, replace(made.wanted, statements=given_back)).changes == ()
