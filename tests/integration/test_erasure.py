"""Erasure end to end: gateway and dropzone seal, the tables count, the key goes, and nothing else changes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from cli.commands.subject import subject
from cli.keys import keyring_of
from config.settings import Settings
from lakehouse.access_log import AccessLog
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.file_ledger import FileLedger
from lakehouse.stored_hash import stored_sums
from streaming.dropzone.book import Book
from streaming.dropzone.landing import LocalLanding
from streaming.dropzone.reader import Settings as ReaderSettings
from streaming.dropzone.watch import Dropzone
from streaming.replay.scope import ALL
from streaming.replay.verify import ReplaySettings, Verifier
from tests.dropzones import Place
from tests.events import wire
from tests.gateways import GatewayProcess
from tests.pipeline import Pipeline

pytestmark = pytest.mark.integration

TABLES = (RAW, VERSIONS, PAYMENTS, QUARANTINE)
CLEAR = ("Ann Example", "ann@example.org", "192.0.2.77")
PERSONAL = {"cardholder_name": "Ann Example", "email": "ann@example.org", "device": {"ip": "192.0.2.77"}}


def event(name: str, account: str = "acct-ann", **changes: Any) -> bytes:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=1)
    told = {"event_ts": now.isoformat(), "account_id": account, "attributes": PERSONAL}
    return wire(f"{name}-{account}", **(told | changes))


@pytest.fixture(scope="module")
def filled(
    stack: Settings, catalog: RestCatalog, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """Events of two accounts through both doors, one of them twice, a rejected row, and both jobs."""
    pipeline = Pipeline(stack, catalog, spark)
    folder = tmp_path_factory.mktemp("doors")
    gateway = GatewayProcess(
        folder, stack.kafka_properties(), kafka__topic=pipeline.topic, erasure__cached_s="0",
        erasure__keyring=str(keyring_of(stack).path), erasure__master_key=str(master_file(stack)),
    )  # fmt: skip
    try:
        events = b"[" + b",".join([event("e1"), event("e2"), event("e1", "acct-ben")]) + b"]"
        for seconds_ago in (1, 0):  # a redelivery: signed of another second, however long the first one takes
            told = gateway.client.post(events, at=-seconds_ago)
            assert told.status == 202, told.body
            assert told.json["accepted"] == 3
        with closing(sqlite3.connect(keyring_of(stack).path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody else can make a key now
            refused = gateway.client.post(event("e3", "acct-cara"))
            assert refused.status == 503, refused.body
        assert gateway.client.post(event("e3", "acct-cara"), at=-1).status == 202
    finally:
        gateway.end()
    place = Place(stack, catalog, pipeline.topic, folder)
    place.put("day.jsonl", b"\n".join([event("e4"), event("e5", amount="much"), event("e6")[:-1]]), "bank")
    settings = ReaderSettings(
        pipeline.topic, stack.kafka_properties(), (), keyring_of(stack).cached_keys(), quiet_s=0
    )
    zone = Dropzone(LocalLanding(place.root), Book(FileLedger(catalog)), place.registry, settings)
    zone.prepare()
    assert zone.scan()["rejected_rows"] == 2
    pipeline.run()
    yield pipeline


def master_file(stack: Settings) -> Path:
    assert stack.dev_keys is not None
    keyring_of(stack)  # which makes it
    return stack.dev_keys / "subjects.key"


def run(stack: Settings, *arguments: str) -> Result:
    return CliRunner(env={"PAYWAVE_HOME": str(stack.home)}).invoke(subject, [*arguments, "--output", "json"])


def hashes(pipeline: Pipeline) -> dict[str, Any]:
    tables = {name: pipeline.catalog.load_table(name) for name in TABLES}
    properties = pipeline.settings.catalog_properties()
    return {
        name: stored_sums(table, table.metadata.current_snapshot_id or 0, properties)
        for name, table in tables.items()
    }


def counts(pipeline: Pipeline) -> dict[str, int]:
    return {name: len(pipeline.rows(name)) for name in TABLES}


def test_no_table_holds_clear_text_and_copies_are_copies(filled: Pipeline) -> None:
    raw = filled.rows(RAW)
    assert len(raw) == 10
    for table in TABLES:
        text = repr(filled.rows(table))
        assert not [clear for clear in CLEAR if clear in text], table
    assert sum(b"sealed:v1:" in row["value"] for row in raw) == 9
    assert sum(row["value"] == b"[personal data]" for row in raw) == 1
    assert len(filled.rows(VERSIONS)) == 5
    assert len(filled.rows(PAYMENTS)) >= 2


def test_erasing_makes_noise_of_one_account_and_changes_nothing_else(
    filled: Pipeline, stack: Settings
) -> None:
    before, stock = hashes(filled), counts(filled)
    shown = json.loads(run(stack, "reveal", "acct-ann", "--reason", "a test").stdout)["values"]
    assert {value["value"] for value in shown} == set(CLEAR)
    dry = json.loads(run(stack, "erase", "acct-ann", "--dry-run").stdout)
    assert dry["rows"][RAW] == 6
    assert dry["rows"][VERSIONS] == 3
    assert run(stack, "erase", "acct-ann").exit_code == 2
    done = run(stack, "erase", "acct-ann", "--reason", "request 4711", "--approver", "jo")
    assert done.exit_code == 0, done.output
    told = run(stack, "reveal", "acct-ann", "--reason", "a test")
    values = json.loads(told.stdout)["values"]
    assert len(values) == len(shown)
    assert all((value["state"], value["value"]) == ("erased", None) for value in values)
    other = json.loads(run(stack, "reveal", "acct-ben", "--reason", "a test").stdout)["values"]
    assert {value["value"] for value in other} == set(CLEAR)
    assert (hashes(filled), counts(filled)) == (before, stock)
    (state,) = json.loads(run(stack, "status", "acct-ann").stdout)["keys"]
    assert (state["reason"], state["approver"]) == ("request 4711", "jo")
    assert run(stack, "check").exit_code == 0
    trail = list(AccessLog(filled.catalog).entries())
    assert [e.result for e in trail if e.action == "subject erase"] == ["begun", "done: 1 keys destroyed"]
    assert AccessLog(filled.catalog).verify().broken is None


def test_a_replay_still_verifies_what_cannot_be_read_any_more(filled: Pipeline, tmp_path: Path) -> None:
    settings = ReplaySettings(filled.settings.tables.buckets, tmp_path)
    assert Verifier(filled.catalog, filled.spark, settings, lambda *_: None).run(ALL).is_equal
