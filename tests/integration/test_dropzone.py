"""The dropzone on real servers: each row once, whatever happens to files, clients and dropzones."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from pyiceberg.catalog.rest import RestCatalog
from structlog.testing import capture_logs

from cli.main import paywave
from config.settings import Settings
from lakehouse.definitions import BY_NAME, PARTNER_FILES
from lakehouse.tables import ensure_tables
from local.stack import find
from streaming.dropzone.landing import LocalLanding, open_landing
from streaming.dropzone.ledger import State
from streaming.dropzone.outbox import Outbox
from streaming.dropzone.sftp import SftpServer, authorized_keys, made_key
from streaming.errors import SendError
from streaming.message import Message
from streaming.partners import load_profiles
from streaming.topic_state import inspect_topic
from streaming.topic_tail import read_on
from streaming.topics import ensure_topics, payments_topic
from tests.commands import Running
from tests.crashes import Crash, crash_once
from tests.dropzones import DELIVERY_S, HEADER, LEASE_S, Place, ids, rows_of
from tests.events import wire_now

pytestmark = pytest.mark.integration

VISA = "4111111111111111"
WAIT_S = 180.0
CARDS = load_profiles()["card-transactions"]


@pytest.fixture
def place(stack: Settings, catalog: RestCatalog, tmp_path: Path) -> Place:
    """A landing folder, with a topic and an empty ledger of its own."""
    topic = f"files-{uuid.uuid4()}"
    ensure_topics(stack.kafka_properties(), payments_topic(topic, 4, 1, 1, 1))
    if catalog.table_exists(PARTNER_FILES):
        catalog.drop_table(PARTNER_FILES)
    ensure_tables(catalog, 4, [BY_NAME[PARTNER_FILES]])
    return Place(stack, catalog, topic, tmp_path)


@pytest.fixture
def server(place: Place) -> Iterator[SftpServer]:
    """SFTP into the landing folder; each partner's own key is made in the test's folder."""
    place.zone()
    keys = authorized_keys(place.registry, place.folder)
    server = SftpServer(place.root, keys, made_key(place.folder / "host"), "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


def sftp(
    server: SftpServer, place: Place, act: Callable[[Any], Any], user: str = "sim", key: str = "sim"
) -> None:
    """Do something as a partner's client. Without a proper end if it returns False."""

    async def session() -> None:
        options = {"username": user, "client_keys": [str(place.folder / f"sftp-{key}")], "known_hosts": None}
        async with asyncssh.connect("127.0.0.1", server.port, **options) as connection:
            client = await connection.start_sftp_client()
            if await act(client) is False:
                connection.abort()

    asyncio.run(session())


def until(what: Callable[[], bool], jobs: tuple[Running, ...] = ()) -> None:
    """Wait until something comes about."""
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, [job.said for job in jobs]
        time.sleep(0.05)


def test_a_file_over_sftp_cut_off_completed_and_sent_again_counts_once(
    place: Place, server: SftpServer
) -> None:
    content = rows_of(range(300))

    async def cut_off(client: Any) -> bool:
        file = await client.open("day.csv", "wb")
        await file.write(content[:5000])
        return False

    async def complete(client: Any) -> None:
        there = (await client.stat("day.csv")).size
        async with client.open("day.csv", "r+b") as file:
            await file.write(content[there:], there)
        async with client.open("day.csv.done", "wb"):
            pass

    async def again(client: Any) -> None:
        async with client.open("day.csv", "wb") as file:
            await file.write(content)

    zone = place.zone()
    sftp(server, place, cut_off)
    assert zone.scan_once() == {"waiting": 1}
    assert place.size() == 0
    sftp(server, place, complete)
    assert zone.scan_once()["done"] == 1
    assert zone.scan_once() == {}
    sftp(server, place, again)
    assert zone.scan_once() == {"waiting": 1}  # the marker speaks of what was there before
    (place.root / "sim" / "day.csv.done").touch()
    assert place.zone().scan_once() == {"repeated": 1}
    assert place.zone().scan_once() == {}

    assert place.by_line() == {("day.csv", line): 1 for line in range(2, 302)}
    assert set(ids(place.records()).values()) == {1}
    receipt = place.receipt("day.csv")
    assert (receipt["version"], receipt["rows"], receipt["accepted"], receipt["rejected"]) == (1, 300, 300, 0)
    assert sum(last - first + 1 for first, last in receipt["offsets"].values()) == 300
    states = [entry.state for entry in place.entries("day.csv") if entry.state != State.READING]
    assert states == [State.WAITING, State.DONE, State.WAITING, State.REPEATED]
    assert list((place.root / ".dropzone" / "sim").iterdir()) == []


def test_a_partner_is_let_into_its_own_folder_by_its_own_key_only(place: Place, server: SftpServer) -> None:
    (place.root / "bank" / "secret").write_text("of the bank")

    async def look_around(client: Any) -> None:
        assert not {"secret", "bank", "registry.toml"} & set(await client.listdir("/.."))
        for path in ("../bank/secret", "/../../registry.toml", "../.dropzone"):
            with pytest.raises(asyncssh.SFTPNoSuchFile):
                await client.stat(path)
        for link in (client.symlink, client.link):
            with pytest.raises(asyncssh.SFTPError):
                await link("/../bank/secret", "mine")

    sftp(server, place, look_around)
    for user, key in (("sim", "bank"), ("root", "sim"), ("../bank", "sim")):
        with pytest.raises(asyncssh.PermissionDenied):
            sftp(server, place, look_around, user, key)


def test_new_content_under_a_name_is_a_new_version_of_which_only_new_rows_count(place: Place) -> None:
    zone = place.zone()
    place.put("day.csv", rows_of(range(50)))
    zone.scan_once()
    place.put("day.csv", rows_of(range(80)))
    assert zone.scan_once()["done"] == 1
    assert place.receipt("day.csv")["version"] == 2
    assert Counter(ids(place.records()).values()) == {2: 50, 1: 30}
    place.put("other.csv", rows_of(range(50)))
    assert zone.scan_once() == {"repeated": 1}
    assert "day.csv, version 1" in place.receipt("other.csv")["reason"]
    place.put("day.csv", rows_of(range(50)))  # an older version once more, under its own name
    assert zone.scan_once() == {"repeated": 1}
    assert (place.receipt("day.csv")["version"], place.receipt("day.csv")["state"]) == (1, "repeated")
    assert place.size() == 130


def test_rejected_rows_go_out_as_they_came_and_the_receipt_says_which(place: Place) -> None:
    place.put("day.csv", rows_of(range(20), bad=lambda n: n in (3, 17)))
    lines = [wire_now("e1"), b"{broken", wire_now("e2", event_id=..., ingest_ts=...), b""]
    place.put("day.jsonl", b"\n".join(lines), "bank")
    place.put("none.csv", b"WHAT,IS,THIS\n1,2,3\n")
    assert place.zone().scan_once() == {"done": 2, "rejected": 1, "rows": 23, "rejected_rows": 3}
    raw = {r.value(): dict(r.headers() or ()) for r in place.records()}
    for line in (5, 19):
        value = rows_of(range(20), bad=lambda _: True).split(b"\n")[line - 1]
        assert (raw[value]["file"], raw[value]["line"]) == (b"day.csv", b"%d" % line)
    assert {wire_now("e1"), b"{broken"} <= set(raw)
    rejects = place.receipt("day.csv")["rejects"]
    assert [(r["line"], r["reasons"][0]["field"]) for r in rejects] == [(5, "amount"), (19, "amount")]
    assert place.receipt("none.csv")["state"] == "rejected"
    assert "TX_AMOUNT" in place.receipt("none.csv")["reason"]
    for _ in range(2):  # whose receipt, too, must go on saying which
        place.put("day.csv", rows_of(range(20), bad=lambda n: n in (3, 17)))
        assert place.zone().scan_once() == {"repeated": 1}
    assert place.receipt("day.csv")["rejects"] == rejects


def test_a_repeated_file_has_its_receipt_whenever_the_dropzone_is_killed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("day.csv", rows_of(range(5)))
    place.zone().scan_once()
    place.put("copy.csv", rows_of(range(5)))
    for method in ("drop_copy", "write_receipt"):  # just after the ledger was told, and just before
        with monkeypatch.context() as patch:
            crash_once(patch, LocalLanding, method, lambda *_: True)
            assert crashes(place)
        while place.zone().scan_once():
            pass
        assert place.receipt("copy.csv")["state"] == "repeated"
        (place.root / "sim" / "copy.csv.receipt.json").unlink()
        place.put("copy.csv", rows_of(range(5)))


def test_a_file_is_refused_for_its_name_once_and_left_alone_while_it_is_fresh(place: Place) -> None:
    name = "n" * 240 + ".csv"
    place.put(name, rows_of(range(5)))
    with capture_logs() as said:
        assert [place.zone().scan_once(), place.zone().scan_once()] == [{"rejected": 1}, {}]
    assert [s["event"] for s in said if s["log_level"] == "warning"] == ["file rejected"]
    assert [entry.state for entry in place.entries(name)] == [State.REJECTED]
    (place.root / "sim" / name).unlink()
    place.quiet_s = 600
    place.put("day.csv", rows_of(range(5)))
    assert place.zone().scan_once() == {"waiting": 1}
    assert place.entries("day.csv") == []
    assert list((place.root / ".dropzone" / "sim").iterdir()) == []


def test_a_file_that_stays_cut_off_is_an_alert_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.overdue = 0
    place.__post_init__()
    content = rows_of(range(9))
    place.put("day.csv", content)
    (place.root / "sim" / "day.csv").write_bytes(content[:-20])
    place.put("odd.csv", content, marker=False)
    (place.root / "sim" / "odd.csv.manifest.json").write_text('{"rows": 10}')
    with capture_logs() as said:
        for zone in (place.zone(), place.zone()):
            for _ in range(2):
                assert zone.scan_once() == {"waiting": 2, "overdue": 2}
    alerts = [(s["file"], s["reason"]) for s in said if s["event"] == "file overdue"]
    assert alerts == [
        ("day.csv", "its sha256 is not the one that was promised"),
        ("odd.csv", "9 rows, the manifest says 10"),
    ]
    assert place.size() == 0
    place.put("day.csv", content)
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(paywave, ["dropzone", "--once", "--output", "json"])
    counts = json.loads(result.stdout)
    assert (result.exit_code, counts["done"], counts["overdue"], counts["rows"]) == (1, 1, 1, 9)


def test_no_card_number_gets_out_of_the_folder(place: Place) -> None:
    rows = rows_of(range(3)).replace(b",7,1.50", f",{VISA},1.50".encode())
    place.put("day.csv", rows)
    place.put("day.csv", rows, "shop")
    place.put(f"of-{VISA}.csv", rows_of(range(5)))
    place.put(f"of-{VISA}.csv", rows_of(range(5)), "shop")
    zone = place.zone()
    with capture_logs() as said:
        assert zone.scan_once() == {"done": 3, "rejected": 1, "rows": 11, "rejected_rows": 3}
        assert zone.scan_once() == {}
        assert place.zone().scan_once() == {}
    seen = repr(said) + repr([(r.value(), r.headers()) for r in place.records()])
    seen += repr(place.catalog.load_table(PARTNER_FILES).scan().to_arrow().to_pylist())
    seen += "".join(path.read_text() for path in place.root.rglob("*.receipt.json"))
    assert VISA not in seen
    assert seen.count("tok_a_") > 3
    assert place.by_line()["day.csv", 2] == 2  # sim's, masked, and shop's


def test_an_s3_prefix_is_as_good_as_a_folder(place: Place, stack: Settings) -> None:
    where = f"s3://warehouse/landing-{uuid.uuid4()}"
    place.landing = open_landing(where, stack.catalog_properties())
    zone = place.zone()
    for name, content in (("day.csv", rows_of(range(40))), ("day.csv.done", b"")):
        place.landing.write_receipt("sim", name, content)
    assert zone.scan_once() == {"done": 1, "rows": 40}
    assert place.zone().scan_once() == {}
    assert b'"accepted": 40' in (place.landing.receipt("sim", "day.csv.receipt.json") or b"")
    assert set(place.by_line().values()) == {1}


def test_a_reading_that_breaks_off_anywhere_goes_on_without_loss_and_without_doubles(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = rows_of(range(60), bad=lambda n: n % 7 == 0)
    place.put("day.csv", content)
    # By its line: how many rows are sent anew is a matter of how far it came before.
    for first in (2, 27, 61):

        def is_now(_: Outbox, message: Message, first: int = first) -> bool:
            return int(dict(message.headers)["line"]) >= first

        with monkeypatch.context() as patch:
            crash_once(patch, Outbox, "put", is_now)
            until(lambda: crashes(place))  # once the claim of the one before has run out
        (place.root / "sim" / "day.csv").unlink(missing_ok=True)  # the copy is what is read
    until(lambda: place.zone().scan_once() == {"done": 1, "rows": 60, "rejected_rows": 9})
    assert place.by_line() == {("day.csv", line): 1 for line in range(2, 62)}
    assert len(place.receipt("day.csv")["rejects"]) == 9


def crashes(place: Place, lease_s: float = LEASE_S) -> bool:
    try:
        place.zone(lease_s).scan_once()
    except Crash:
        return True
    return False


def test_a_file_that_another_one_reads_is_left_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put("day.csv", rows_of(range(10)))
    with monkeypatch.context() as patch:
        crash_once(patch, Outbox, "flush", lambda *_: True)
        assert crashes(place, lease_s=600)
    there = place.size()
    assert place.zone().scan_once() == place.zone().scan_once() == {"held": 1}
    place.put("copy.csv", rows_of(range(10)))
    assert place.zone().scan_once() == {"held": 2}
    assert place.size() == there


def test_a_file_that_cannot_be_read_does_not_keep_others_waiting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("a.csv", "b.csv", "c.csv")):
        place.put(name, rows_of(range(number * 5, number * 5 + 5)))
    with monkeypatch.context() as patch, capture_logs() as said:
        patch.setattr(Outbox, "flush", failing_with(RecursionError(), SendError("too large")))
        zone = place.zone()
        assert zone.scan_once() == {"unreadable": 2, "done": 1, "rows": 5}
        assert zone.scan_once() == {"unreadable": 2}
    alerts = [(s["file"], s["reason"]) for s in said if s["event"] == "file unreadable"]
    assert alerts == [("a.csv", "RecursionError"), ("b.csv", "too large")]
    zone = place.zone()

    def are_done() -> bool:
        zone.scan_once()
        return all(place.entries(name)[-1].state == State.DONE for name in ("a.csv", "b.csv"))

    until(are_done)
    assert set(place.by_line().values()) == {1}


def failing_with(*errors: Exception) -> Callable[[Outbox], None]:
    flush, left = Outbox.flush, list(reversed(errors))

    def fail_or_flush(self: Outbox) -> None:
        flush(self)
        if left:
            raise left.pop()

    return fail_or_flush


def test_a_dropzone_that_is_told_to_end_leaves_the_file_to_the_next_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("day.csv", rows_of(range(30), bad=lambda n: n == 4))
    # A loaded machine acknowledges late; one that does not wait for that keeps its claim, as it should.
    zone, put = place.zone(lease_s=60, delivery_s=WAIT_S), Outbox.put

    def put_and_stop(self: Outbox, *what: Any) -> None:
        zone.stop()
        put(self, *what)

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "put", put_and_stop)
        assert zone.scan_once() == {"held": 1}
    assert place.size() == 1
    assert place.zone().scan_once()["done"] == 1
    assert place.by_line() == {("day.csv", line): 1 for line in range(2, 32)}


def test_transactions_of_others_hung_or_ended_keep_nobody_from_reading_to_the_end(place: Place) -> None:
    kafka = place.stack.kafka_properties()

    def begun(name: str) -> Producer:
        producer = Producer({**kafka, "transactional.id": f"{place.topic}-{name}"})
        producer.init_transactions(WAIT_S)
        producer.begin_transaction()
        for partition in range(4):
            producer.produce(place.topic, name.encode(), partition=partition)
        producer.flush(WAIT_S)
        return producer

    def values() -> Counter[bytes]:
        return Counter(r.value() or b"" for r in read_on(kafka, inspect_topic(kafka, place.topic), {}))

    begun("done").commit_transaction(WAIT_S)
    assert values() == {b"done": 4}  # a marker is the last that stands in each partition
    hung = begun("hung")
    assert values() == {b"done": 4, b"hung": 4}
    hung.abort_transaction(WAIT_S)


def test_while_kafka_hangs_the_file_is_kept_and_each_row_is_there_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = find(place.stack.home, "kafka-1")
    assert broker is not None
    place.put("day.csv", rows_of(range(200), bad=lambda n: n % 2 == 0))
    put, wait, left = Outbox.put, Outbox._wait, [100]

    def put_and_hang(self: Outbox, *what: Any) -> None:
        put(self, *what)
        left[0] -= 1
        if left[0] == 0:
            os.kill(broker.pid, signal.SIGSTOP)

    def wait_and_go_on(self: Outbox) -> None:
        wait(self)
        if time.monotonic() - self._moved > 2 * DELIVERY_S:  # however slow the rows before it were
            os.kill(broker.pid, signal.SIGCONT)

    with monkeypatch.context() as patch, capture_logs() as said:
        patch.setattr(Outbox, "put", put_and_hang)
        patch.setattr(Outbox, "_wait", wait_and_go_on)
        try:
            assert place.zone().scan_once() == {"done": 1, "rows": 200, "rejected_rows": 100}
        finally:
            os.kill(broker.pid, signal.SIGCONT)
    assert [s["event"] for s in said if s["log_level"] == "warning"] == ["file stuck"]
    assert place.by_line() == {("day.csv", line): 1 for line in range(2, 202)}
    renewals = [e for e in place.entries("day.csv") if e.state == State.READING]
    assert len(renewals) > 1


@pytest.mark.slow  # beside the kills in the middle
def test_told_to_end_while_kafka_hangs_the_claim_stays_until_all_can_be_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = find(place.stack.home, "kafka-1")
    assert broker is not None
    place.put("day.csv", rows_of(range(30), bad=lambda _: True))
    zone, put = place.zone(lease_s=20), Outbox.put

    def put_hang_and_stop(self: Outbox, *what: Any) -> None:
        os.kill(broker.pid, signal.SIGSTOP)
        put(self, *what)
        zone.stop()

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "put", put_hang_and_stop)
        try:
            assert zone.scan_once() == {"held": 1}
        finally:
            os.kill(broker.pid, signal.SIGCONT)
    assert place.zone().scan_once() == {"held": 1}
    until(lambda: place.zone().scan_once()["done"] == 1)
    assert place.by_line() == {("day.csv", line): 1 for line in range(2, 32)}


def test_a_row_that_a_mended_profile_accepts_is_sent_though_it_stands_there_rejected(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = rows_of(range(10)).replace(b",1.50,", b",cheap,")
    place.put("day.csv", content)
    with monkeypatch.context() as patch:
        crash_once(patch, LocalLanding, "write_journal", lambda *_: True)
        assert crashes(place)
    assert place.size() == 10
    mended = CARDS.model_copy(update={"fields": {**CARDS.fields, "amount": "1.50"}})
    monkeypatch.setattr("streaming.dropzone.reader.find_profile", lambda _: mended)
    until(lambda: place.zone().scan_once()["done"] == 1)
    receipt = place.receipt("day.csv")
    assert (receipt["accepted"], receipt["rejected"]) == (10, 0)
    assert place.by_line() == {("day.csv", line): 2 for line in range(2, 12)}  # as it came, and as it counts
    assert sum("ce_id" in dict(record.headers() or ()) for record in place.records()) == 10


@pytest.mark.faults
def test_killed_in_the_middle_and_two_at_once_every_row_is_there_once(place: Place, tmp_path: Path) -> None:
    rows = {
        f"f{n}.csv": rows_of(range(n * 8000, (n + 1) * 8000), bad=lambda n: n % 10 == 3) for n in range(2)
    }
    for name, content in rows.items():
        place.put(name, content)

    def start() -> Running:
        environment = {**os.environ, **place.environment()}
        return Running("dropzone", "--output", "json", folder=tmp_path, environment=environment)

    jobs = (start(), start())
    try:
        until(lambda: place.size() > 500, jobs)
        for job in jobs:
            job.kill()
        assert place.size() < 16_000, "it was killed too late to show anything"
        jobs = (*jobs, start(), start())
        until(lambda: len(list(place.root.glob("sim/*.receipt.json"))) == 2, jobs)
        until(lambda: all(place.entries(name)[-1].state == State.DONE for name in rows), jobs)
        for job in jobs[2:]:
            done = job.terminate()
            assert done.code == 0, done.stderr
            assert done.json["landing"] == str(place.root)
    finally:
        for job in jobs:
            job.end()
    assert place.by_line() == {(name, line): 1 for name in rows for line in range(2, 8002)}
    for name in rows:
        receipt = place.receipt(name)
        assert (receipt["rows"], receipt["accepted"], receipt["rejected"]) == (8000, 7200, 800)
        assert receipt["rejects_not_listed"] == 0
    assert HEADER.strip() not in {record.value() for record in place.records()}
