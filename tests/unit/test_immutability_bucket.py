"""The bucket of raw on moto's S3: what it enforces here, and what it does not.

moto keeps locked versions from being deleted, turns a deletion without a version into a marker, and obeys a
deny. It lets a lock be shortened and versioning be suspended, knows no roles, and locks empty buckets only.
What S3 does there is shown by the plan and by the policy's text (`test_immutability_policy.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto import mock_aws

from lakehouse.errors import StoreRefused
from lakehouse.immutability.bucket import Bucket, chosen, connect
from lakehouse.immutability.policy import Protection

boto3 = pytest.importorskip("boto3")
NAME = "raw-lake"
LOCKED = Protection(NAME, "compliance", 2)
OPTIONS = {
    "region_name": "us-east-1",
    "aws_access_key_id": "made-up",
    "aws_secret_access_key": "made-up",
}


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = connect(OPTIONS)
        client.create_bucket(Bucket=NAME)
        yield client


def protect(client: Any, protection: Protection = LOCKED) -> Bucket:
    bucket = Bucket(client, protection)
    bucket.apply(bucket.plan())
    return bucket


def put(client: Any, body: bytes = b"one", key: str = "raw/a") -> str:
    return str(client.put_object(Bucket=NAME, Key=key, Body=body)["VersionId"])


def refused(call: Any, **given: Any) -> str:
    """The code with which S3 refuses a call."""
    with pytest.raises(Exception) as refusal:
        call(Bucket=NAME, **given)
    return str(refusal.value.response["Error"]["Code"])  # type: ignore[attr-defined]


def test_applying_makes_it_so_and_a_second_time_changes_nothing(s3: Any) -> None:
    bucket = Bucket(s3, LOCKED)
    assert [change.what for change in bucket.plan().changes] == ["versioning", "lock", "policy", "lifecycle"]
    bucket.apply(bucket.plan())
    assert bucket.plan().changes == ()
    state = bucket.look()
    assert (state.versioned, state.lock_mode, state.lock_days) == (True, "COMPLIANCE", 732)
    bucket.apply(bucket.plan())
    s3.delete_bucket_policy(Bucket=NAME)
    (change,) = bucket.plan().changes
    assert change.what == "policy"


def test_a_locked_version_cannot_be_deleted_and_is_read_under_a_marker(s3: Any) -> None:
    protect(s3)
    s3.delete_bucket_policy(Bucket=NAME)  # the lock alone
    version = put(s3)
    assert refused(s3.delete_object, Key="raw/a", VersionId=version) == "AccessDenied"
    assert (
        refused(s3.delete_object, Key="raw/a", VersionId=version, BypassGovernanceRetention=True)
        == "AccessDenied"
    )
    assert s3.delete_object(Bucket=NAME, Key="raw/a")["DeleteMarker"]
    assert refused(s3.get_object, Key="raw/a") == "NoSuchKey"
    assert s3.get_object(Bucket=NAME, Key="raw/a", VersionId=version)["Body"].read() == b"one"


def test_what_is_overwritten_stays_as_a_version(s3: Any) -> None:
    protect(s3)
    first, second = put(s3), put(s3, b"two")
    assert first != second
    assert s3.get_object(Bucket=NAME, Key="raw/a")["Body"].read() == b"two"
    assert s3.get_object(Bucket=NAME, Key="raw/a", VersionId=first)["Body"].read() == b"one"


def test_the_policy_forbids_to_delete_what_no_lock_keeps(s3: Any) -> None:
    protect(s3)
    put(s3)
    assert refused(s3.delete_object, Key="raw/a") in ("403", "AccessDenied")


def test_objects_are_held_to_their_lock(s3: Any) -> None:
    bucket = protect(s3)
    put(s3)
    assert list(bucket.unlocked(10)) == []
    soon, late = (datetime.now(UTC) + timedelta(days=days) for days in (30, 3000))
    for key, mode, until in (("raw/short", "COMPLIANCE", soon), ("raw/weak", "GOVERNANCE", late)):
        lock = {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": until}
        s3.put_object(Bucket=NAME, Key=key, Body=b"", **lock)
    found = {one.key: one.said for one in bucket.unlocked(10)}
    assert found.keys() == {"raw/short", "raw/weak"}
    assert found["raw/weak"] == "locked in mode governance"


def listed(count: int) -> list[Any]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        {"Key": f"{n:04}", "LastModified": start + n * 7 % count * timedelta(hours=1)} for n in range(count)
    ]


@pytest.mark.parametrize(("count", "most"), [(0, 10), (3, 10), (10, 10), (90, 1), (90, 2), (90, 9), (90, 10)])
def test_half_of_the_objects_that_are_looked_at_are_the_newest_and_none_is_left_out(
    count: int, most: int
) -> None:
    objects = listed(count)
    looked_at = [chosen(objects, most) for _ in range(30 if most < 2 else 3000)]
    newest = sorted(objects, key=lambda one: one["LastModified"])[-((most + 1) // 2) :]
    for some in looked_at:
        keys = [one["Key"] for one in some]
        assert len(keys) == len(set(keys)) == min(count, most)
        assert {one["Key"] for one in newest} <= set(keys)
    if most > 1:
        assert {one["Key"] for some in looked_at for one in some} == {one["Key"] for one in objects}


def test_a_lock_is_not_shortened(s3: Any) -> None:
    protect(s3)
    for looser in (replace(LOCKED, years=1), replace(LOCKED, mode="governance")):
        bucket = Bucket(s3, looser)
        with pytest.raises(StoreRefused, match="stricter"):
            bucket.apply(bucket.plan())
    assert Bucket(s3, LOCKED).look().lock_days == 732


def test_a_bucket_that_is_not_there_is_named(s3: Any) -> None:
    with pytest.raises(
        StoreRefused, match="the bucket nowhere could not be looked at: NoSuchBucket"
    ) as error:
        Bucket(s3, replace(LOCKED, bucket="nowhere")).plan()
    assert "made-up" not in str(error.value)
