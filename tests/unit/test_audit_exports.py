"""Audit exports of a small lake: what is in them, what changes no byte, and going on where one was killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest

from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.errors import ExportError, UnknownMoment, WrongScope
from lakehouse.exports import statement
from lakehouse.exports.export import Exporter, look
from lakehouse.exports.listing import listed_in
from lakehouse.exports.pins import EXPORTED, tag_of
from lakehouse.exports.request import COLUMN_OF
from lakehouse.exports.selection import Source
from lakehouse.fold import fold_events
from quality.contract import REVERSED
from tests.events import wire
from tests.offices import LINES, Killed, Office, files_of, office_in, request
from tests.reference import copy_of


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """An office whose lake no test changes."""
    return office_in(tmp_path_factory.mktemp("office"), LINES)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return office_in(tmp_path, LINES[:80])


# -- what is in an export ------------------------------------------------------------------------------------


def test_all_of_the_lake_is_there_and_adds_up(shared: Office) -> None:
    done = shared.export(csv=True)
    for table in (PAYMENTS, VERSIONS, QUARANTINE):
        want = shared.lake.load(table).scan().to_arrow().to_pylist()
        assert sorted(map(repr, shared.rows(done, table))) == sorted(map(repr, want)), table
    assert done.manifest.value["rows"][QUARANTINE] > 0
    exported = done.manifest.value["reconciliation"]["exported"]
    assert exported["breaks"] == []
    assert exported["raw"] == exported["versions"] + exported["quarantined"]
    assert exported["superseded"] > 0
    assert exported["duplicates"] > 0
    assert shared.verify(done.manifest.name).as_json()["findings"] == []


def test_of_each_version_the_record_lies_there_as_it_was_received(shared: Office) -> None:
    done = shared.export(name="records")
    raw = {(r["topic_id"], r["partition"], r["offset"]): r for r in shared.lake.raw}
    exported = shared.rows(done, RAW)
    wanted = {
        (row["topic_id"], row["partition"], row["offset"])
        for table in (VERSIONS, QUARANTINE)
        for row in shared.rows(done, table)
    }
    assert {(r["topic_id"], r["partition"], r["offset"]) for r in exported} == wanted
    assert len(exported) == len(wanted) < len(raw)  # redelivered copies are counted, not exported
    for row in exported:
        assert row["value"] == raw[row["topic_id"], row["partition"], row["offset"]]["value"]


@pytest.mark.parametrize("kind", ["account", "transaction", "merchant", "partner"])
def test_a_scope_takes_its_payments_and_the_versions_of_their_events(shared: Office, kind: str) -> None:
    column = COLUMN_OF[kind]
    payments = shared.lake.load(PAYMENTS).scan().to_arrow().to_pylist()
    value, _ = Counter(p[column] for p in payments if p[column]).most_common(1)[0]
    done = shared.export(f"{kind}:{value}")
    wanted = {p["business_key"]: p for p in payments if p[column] == value}
    assert {p["business_key"] for p in shared.rows(done, PAYMENTS)} == set(wanted)
    members = {event_id for p in wanted.values() for event_id in p["event_ids"]}
    events = fold_events(c for c in map(copy_of, shared.lake.raw) if c is not None)
    hashes = {v.content_hash for event in events if event.event_id in members for v in event.versions}
    assert {v["content_hash"] for v in shared.rows(done, VERSIONS)} == hashes
    broken = {(q["partition"], q["offset"]) for q in shared.rows(done, QUARANTINE)}
    of_partner = {
        (q["partition"], q["offset"])
        for q in shared.lake.load(QUARANTINE).scan().to_arrow().to_pylist()
        if kind == "partner" and q["source"] == value
    }
    assert broken == of_partner
    assert done.manifest.value["reconciliation"]["exported"]["breaks"] == []


def test_a_range_of_event_time_is_exact(shared: Office) -> None:
    payments = shared.lake.load(PAYMENTS).scan().to_arrow().to_pylist()
    times = sorted(p["event_ts"] for p in payments)
    start, end = times[len(times) // 4], times[len(times) // 2]
    done = shared.export(start=start, end=end)
    wanted = {p["business_key"] for p in payments if start <= p["event_ts"] < end}
    assert {p["business_key"] for p in shared.rows(done, PAYMENTS)} == wanted
    assert all(start <= v["event_ts"] < end for v in shared.rows(done, VERSIONS))


def test_money_is_summed_by_currency_type_and_status(shared: Office) -> None:
    done = shared.export(name="money")
    sums: dict[tuple[str, ...], Any] = {}
    for p in shared.rows(done, PAYMENTS):
        key = (p["currency"], p["event_type"], p["status"])
        sums[key] = sums.get(key, 0) + p["amount"]
    told = {(m["currency"], m["event_type"], m["status"]): m["amount"] for m in done.manifest.value["money"]}
    assert told == {key: format(amount, "f") for key, amount in sums.items()}
    assert any(key[2] == REVERSED for key in told)


def test_a_scope_without_rows_is_an_export_too(shared: Office) -> None:
    done = shared.export("account:nobody")
    assert done.manifest.value["rows"] == {}
    assert shared.verify(done.manifest.name).whole


def test_a_look_pins_and_writes_nothing(office: Office) -> None:
    refs = {t: set(office.lake.load(t).metadata.refs) for t in EXPORTED}
    pins, estimate = look(office.lake.catalog, request())
    assert estimate.rows[PAYMENTS] >= office.lake.load(PAYMENTS).scan().count()
    assert estimate.bytes > 0
    assert set(pins.snapshots) == set(EXPORTED)
    assert not office.store.root.exists()
    assert refs == {t: set(office.lake.load(t).metadata.refs) for t in EXPORTED}


def test_csv_says_what_the_rows_say(shared: Office) -> None:
    done = shared.export("account:nobody", name="empty-csv", csv=True)
    assert not list(Path(done.place).rglob("*.csv"))
    whole = shared.export(name="with-csv", csv=True)
    path = next((Path(whole.place) / PAYMENTS).glob("*.csv"))
    rows = pq.read_table(path.with_suffix(".parquet")).num_rows
    text = path.read_text().splitlines()
    assert text[0].startswith("event_id,event_type,event_ts,account_id")
    assert len(text) == rows + 1


# -- the same bytes ------------------------------------------------------------------------------------------


def test_new_data_other_files_and_expiry_change_no_byte(office: Office) -> None:
    first = office.export(name="first")
    tag = tag_of(first.manifest.id)
    moment = datetime.now(UTC)
    office.lake.fold(shuffle=7)  # the same rows in other files, as compaction and replay leave them
    refolded = office.export(name="refolded")
    assert files_of(refolded) == files_of(first)
    office.lake.take(LINES[80:160])
    later = office.export(name="later")
    assert files_of(later) != files_of(first)
    assert files_of(office.export(name="as-of", as_of=moment)) == files_of(first)
    for table in EXPORTED:
        office.lake.expire(table)
    assert files_of(office.export(name="by-tag", tag=tag)) == files_of(first)
    assert office.verify(lake=(office.lake.catalog, 256)).whole
    with pytest.raises(UnknownMoment) as unknown:
        office.export(as_of=moment - timedelta(days=1))
    assert "oldest moment" in unknown.value.hint


def test_snapshots_that_tell_of_the_same_records_are_read(office: Office) -> None:
    with patch.object(office.lake, "fold"):
        office.lake.take(LINES[80:100])  # raw is ahead
    ahead = office.lake.offsets
    done = office.export()
    offsets = done.manifest.value["pinned"]["offsets"]
    assert sum(offsets["topic-1"].values()) == 80 < ahead.next_offset("topic-1", 0) * 2
    assert done.manifest.value["reconciliation"]["exported"]["breaks"] == []


def test_an_unknown_tag_is_said_with_those_there_are(office: Office) -> None:
    tag = tag_of(office.export().manifest.id)
    with pytest.raises(UnknownMoment) as unknown:
        office.export(tag="audit-of-last-year")
    assert tag in unknown.value.hint
    assert not list(office.store.root.glob(".partial-*"))


def test_no_tag_of_an_export_reads_like_a_card_number(office: Office) -> None:
    like_a_card, other = "d4274284302046bc", "d" * 16
    with patch("lakehouse.exports.export.token_hex", side_effect=[like_a_card, other]):
        first = office.export(name="first")
    assert first.manifest.id == other
    assert files_of(office.export(name="by-tag", tag=tag_of(first.manifest.id))) == files_of(first)


def test_what_is_read_follows_the_export_and_not_the_tables(office: Office) -> None:
    times = [p["event_ts"] for p in office.lake.load(PAYMENTS).scan().to_arrow().to_pylist()]
    day = {"start": min(times), "end": max(times) + timedelta(seconds=1)}
    payment = office.lake.load(PAYMENTS).scan().to_arrow().to_pylist()[0]
    account = f"account:{payment['account_id']}"
    with files_read() as before:
        first = office.export(name="first", **day)
        office.export(account, name="first-account", **day)
    for days in range(3, 7):
        at = min(times) - timedelta(days=days)
        ids = {"event_ts": at.isoformat(), "ingest_ts": at.isoformat()}
        office.lake.take((wire(f"other-{days}-{i}", account_id=f"a{i}", **ids) for i in range(20)), "bank")
    with files_read() as after:
        second = office.export(name="second", **day)
        office.export(account, name="second-account", **day)
    assert after == before
    assert files_of(second) == files_of(first)


def with_reference(office: Office) -> dict[str, Any]:
    payments: list[dict[str, Any]] = office.lake.load(PAYMENTS).scan().to_arrow().to_pylist()
    return next(payment for payment in payments if payment["transaction_ref"])


def test_a_transaction_is_found_without_a_range_and_without_reading_all_payments(office: Office) -> None:
    payment = with_reference(office)
    scope = f"transaction:{payment['transaction_ref']}"
    with files_read() as before:
        first = office.export(scope, name="first")
    for days in range(3, 7):
        at = payment["event_ts"] - timedelta(days=days)
        ids = {"event_ts": at.isoformat(), "ingest_ts": at.isoformat()}
        # Within what statistics know of the others: they do not tell that it is not here.
        refs = ("tx-0", "tx-z")
        lines = (
            wire(f"o-{days}-{i}", account_id=f"a{i}", transaction_ref=refs[i % 2], **ids) for i in range(20)
        )
        office.lake.take(lines, "bank")
    with files_read() as after:
        second = office.export(scope, name="second")
    assert first.manifest.value["rows"][PAYMENTS] >= 1
    assert after == before
    assert files_of(second) == files_of(first)


@pytest.mark.parametrize("scope", ["all", "transaction", "account"])
def test_progress_is_of_what_there_is_to_look_at_and_comes_to_its_end(office: Office, scope: str) -> None:
    payment = with_reference(office)
    value = {"transaction": payment["transaction_ref"], "account": payment["account_id"]}.get(scope)
    told: list[float] = []
    exporter = office.exporter(lambda done, total, _part: told.append(done / total))
    exporter.run(request(scope if value is None else f"{scope}:{value}"), "it")
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)


def test_an_export_of_nothing_says_so_and_blanks_name_nobody(office: Office) -> None:
    nothing = office.export("partner:bnak", name="nothing")
    assert any("nothing was found of partner:bnak" in said for said in nothing.as_json()["remarks"])
    assert not any("nothing was found" in said for said in office.export("partner:bank").as_json()["remarks"])
    with pytest.raises(WrongScope, match="blanks"):
        office.export("account: a1")


def test_what_does_not_add_up_is_said_again_by_who_verifies(office: Office) -> None:
    broken = {"breaks": ["events = members of payments: 29 against 30"]}
    made = statement.reconciled
    with patch.object(statement, "reconciled", lambda counts: made(counts) | broken):
        office.export(name="odd")
    assert any("odd/manifest.json: does not add up: events" in said for said in office.verify().remarks)


@contextmanager
def files_read() -> Iterator[Counter[str]]:
    """Count the data files that are opened of each table."""
    found: Counter[str] = Counter()
    read = Source.read

    def counting(self: Source, wanted: Any, tasks: Any) -> Any:
        found[".".join(self.table.name())] += len(tasks)
        return read(self, wanted, tasks)

    with patch.object(Source, "read", counting):
        yield found


# -- killed and run again ------------------------------------------------------------------------------------


def test_an_export_that_was_killed_goes_on_and_comes_to_the_same(office: Office) -> None:
    whole = office.export(name="whole")
    done: list[str] = []

    def die(_done: float, _total: float, part: str) -> None:
        done.append(part)
        if len(done) in (1, 2, 4):
            raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            office.exporter(die).run(request(), "killed")
    journal = next(office.store.root.glob(".partial-killed/journal.jsonl"))
    with journal.open("ab") as file:
        file.write(b'{"part": "torn')
    assert [one.state for one in listed_in(office.store)] == ["done", "begun"]
    again = office.exporter(die).run(request(), "killed")
    assert again.went_on
    assert files_of(again) == files_of(whole)
    assert len(done) == len(set(done)), "a part was done twice"
    assert office.verify().whole


def test_a_part_whose_file_is_gone_is_done_again(office: Office) -> None:
    parts: list[str] = []

    def die_once(_done: float, _total: float, part: str) -> None:
        parts.append(part)
        if len(parts) == 1:
            raise Killed

    with pytest.raises(Killed):
        office.exporter(die_once).run(request(), "lost")
    next(office.store.root.glob(".partial-lost/files/*/*.parquet")).write_bytes(b"")
    office.exporter(die_once).run(request(), "lost")
    assert parts[0] == parts[1]
    assert office.verify().whole


def test_a_crash_after_the_number_was_claimed_leaves_no_gap(office: Office) -> None:
    with patch.object(Exporter, "_put_in_place", side_effect=Killed), pytest.raises(Killed):
        office.export(name="claimed")
    office.export(name="other")
    done = office.export(name="claimed")
    assert (done.manifest.sequence, done.went_on) == (1, True)
    assert office.verify().whole
    assert [one.sequence for one in listed_in(office.store)] == [1, 2]


def test_the_same_request_again_is_a_new_export_unless_it_is_named(office: Office) -> None:
    first, second = office.export(), office.export()
    assert second.manifest.name == f"{first.manifest.name}-2"
    assert second.manifest.previous == first.manifest.sha256
    named = office.export(name="named")
    again = office.export(name="named")
    assert again.was_there
    assert again.manifest.data == named.manifest.data
    with pytest.raises(ExportError, match="of another request: scope differ"):
        office.export("account:a", name="named")


def test_exports_at_once_get_numbers_of_their_own(office: Office) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda i: office.export(name=f"at-once-{i}"), range(4)))
    assert sorted(d.manifest.sequence for d in done) == [1, 2, 3, 4]
    assert office.verify().whole


def test_one_export_is_written_by_one_process(office: Office) -> None:
    def another(*_: Any) -> None:
        with pytest.raises(ExportError, match="another process"):
            office.exporter().run(request(), "mine")

    office.exporter(another).run(request(), "mine")


# -- what raw no longer has ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_recorded", [True, False])
def test_records_that_retention_dropped_are_counted_and_others_are_an_error(
    office: Office, is_recorded: bool
) -> None:
    office.lake.lose(10, is_recorded)
    if not is_recorded:
        with pytest.raises(ExportError, match=r"lacks [0-9]+ records"):
            office.export(name="lost")
        return
    exported = office.export(name="retired").manifest.value["reconciliation"]["exported"]
    assert 0 < exported["not_kept"] <= 10
    assert exported["raw"] + exported["not_kept"] == exported["versions"] + exported["quarantined"]
    assert exported["breaks"] == []
