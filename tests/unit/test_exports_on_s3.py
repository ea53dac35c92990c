"""Audit exports on S3 with Object Lock: moto stands in for the store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from lakehouse.definitions import PAYMENTS
from lakehouse.errors import ExportError
from lakehouse.exports.export import Exporter
from lakehouse.exports.listing import listed_in
from lakehouse.exports.proof import prove
from lakehouse.exports.store import Lock, S3Access, S3Store, store_at
from lakehouse.exports.verification import Verifier
from tests.offices import LINES, Killed, Office, office_in, request


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return office_in(tmp_path, LINES[:80])


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="audit", ObjectLockEnabledForBucket=True)
        yield client


def test_on_s3_every_object_is_locked_and_verifies(office: Office, bucket: Any) -> None:
    store = store_at("s3://audit/exports", S3Access(), Lock("compliance", 7))
    assert isinstance(store, S3Store)
    local = office.export(name="local")
    exporter = Exporter(office.lake.catalog, store, office.folder / "work", office.signer, 256)
    done = exporter.run(request(), "remote")
    assert exporter.run(request(), "remote").was_there
    assert done.place == "s3://audit/exports/remote"
    assert done.manifest.files == local.manifest.files
    assert not list((office.folder / "work").glob(".partial-*"))
    for name in store.names():
        held = bucket.head_object(Bucket="audit", Key=f"exports/{name}")
        assert held["ObjectLockMode"] == "COMPLIANCE", name
        assert held["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(days=7 * 365)
    for part in (store, store.under("remote")):
        assert Verifier(part, [office.signer.public_key]).run().as_json()["findings"] == []
    assert [one.name for one in listed_in(store)] == ["remote"]
    key = office.rows(local, PAYMENTS)[0]["business_key"]
    assert prove(store.under("remote"), PAYMENTS, key)["table"] == PAYMENTS


def test_on_s3_a_number_is_claimed_once_and_an_export_that_was_killed_goes_on(
    office: Office, bucket: Any
) -> None:
    store = store_at("s3://audit", S3Access(), Lock())
    assert isinstance(store, S3Store)
    assert store.create("chain/00000001.json", b"a")
    assert not store.create("chain/00000001.json", b"b")
    bucket.delete_object(Bucket="audit", Key="chain/00000001.json")
    parts: list[str] = []

    def die_once(_done: float, _total: float, part: str) -> None:
        parts.append(part)
        if len(parts) == 1:
            raise Killed

    exporter = Exporter(office.lake.catalog, store, office.folder / "work", office.signer, 256, die_once)
    with pytest.raises(Killed):
        exporter.run(request(), "remote")
    assert exporter.run(request(), "remote").went_on
    assert len(parts) == len(set(parts))
    assert Verifier(store, [office.signer.public_key]).run().whole
    with pytest.raises(FileNotFoundError):
        store.read("nothing")


def test_a_folder_has_no_object_lock(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no Object Lock"):
        store_at(str(tmp_path), S3Access(), Lock("governance"))
