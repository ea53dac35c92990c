"""Quarantine and redrive on the real stack: what comes back, once, and what tables say of it ever after."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import paywave as commands
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import PAYMENTS, QUARANTINE, RAW, VERSIONS
from lakehouse.fold import Coordinates
from lakehouse.quarantine import QuarantineReader
from lakehouse.quarantined import Selection
from lakehouse.redrive_mark import OF, Mark, written
from lakehouse.refs import read_head
from lakehouse.tables import ensure_tables
from quality.contract import Contract
from streaming.message import Headers, Message
from streaming.redrive.again import BROKEN, ON_ITS_WAY, Terms
from streaming.redrive.pending import on_their_way
from streaming.redrive.send import Redrive, Tally
from streaming.replay.apply import Applied, Applier
from streaming.replay.scope import ALL
from streaming.replay.verify import ReplaySettings, Verification, Verifier
from tests.commands import Done, paywave
from tests.crashes import Crash
from tests.events import wire
from tests.pipeline import Pipeline
from tests.reference import assert_the_law, contents

pytestmark = pytest.mark.integration
_LIMITS = {"AUTH": timedelta(days=2), "CAPTURE": timedelta(days=2), "REFUND": timedelta(days=2)}
STRICT = Contract(1, datetime(1970, 1, 1, tzinfo=UTC), max_age={**_LIMITS, "CHARGEBACK": timedelta(days=2)})


class Loosening:
    """A contract that takes younger events only, until it is loosened; both jobs and replay go by it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.history: tuple[Contract, ...] = (STRICT,)
        self._monkeypatch.setattr("streaming.decode.HISTORY", self.history)

    def loosen(self) -> Contract:
        now = Contract(2, datetime.now(UTC))
        self.history = (STRICT, now)
        self._monkeypatch.setattr("streaming.decode.HISTORY", self.history)
        return now


def event(name: str, days: float, **changes: Any) -> bytes:
    """An event that happened some days ago."""
    moment = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    return wire(name, **({"event_ts": moment, "ingest_ts": moment} | changes))


def redrive(
    pipeline: Pipeline, contract: Contract, selection: Selection | None = None, most: int = 1000
) -> Redrive:
    reader = QuarantineReader(pipeline.catalog, pipeline.settings.catalog_properties())
    consumed = read_head(pipeline.catalog, QUARANTINE).offsets
    pending = on_their_way(pipeline.settings.kafka_properties(), pipeline.topic, consumed)
    return Redrive(reader, selection or Selection(), Terms(contract, 3, pending), most)


def send_again(pipeline: Pipeline, contract: Contract, **options: Any) -> Tally:
    found = redrive(pipeline, contract, **options)
    return found.run(pipeline.settings.kafka_properties(), pipeline.topic, lambda _seen, _sent: None)


def outcomes(tally: Tally) -> Counter[str]:
    found: Counter[str] = Counter()
    for kind, count in tally.kinds.items():
        found[kind.outcome] += count
    return found


def states(pipeline: Pipeline) -> dict[str, int]:
    return dict(pipeline.query(f"SELECT state, count(*) FROM {QUARANTINE} GROUP BY 1"))


def verified(pipeline: Pipeline, folder: Path) -> Verification:
    settings = ReplaySettings(pipeline.settings.tables.buckets, folder, 40, 200)
    return Verifier(pipeline.catalog, pipeline.spark, settings, lambda *_: None).run(ALL)


def replayed(pipeline: Pipeline, folder: Path) -> Applied:
    settings = ReplaySettings(pipeline.settings.tables.buckets, folder, 40, 200)
    return Applier(pipeline.catalog, pipeline.spark, settings, lambda *_: None).run(ALL)


@pytest.mark.slow
def test_what_a_loosened_rule_would_have_taken_comes_back_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("streaming.redrive.send.PAGE", 7)
    contract = Loosening(monkeypatch)
    old = [event(f"old{i}", 4, account_id=f"acct-{i}") for i in range(20)]
    pipeline.send_lines([*old, event("good", 1), b"no json", event("older", 40)])
    pipeline.send_lines([event("theirs", 4)], source="shop")
    pipeline.run()
    assert states(pipeline) == {"open": 23}
    assert_the_law(pipeline, contract.history)

    assert outcomes(send_again(pipeline, STRICT)) == {BROKEN: 23}, "nothing has changed yet"
    now = contract.loosen()
    before = contents(pipeline)
    tried = redrive(pipeline, now).try_out(lambda _seen, _sent: None)
    assert outcomes(tried) == {"passes": 21, BROKEN: 2}
    pipeline.run()
    assert contents(pipeline) == before, "a dry run sends nothing"

    some = send_again(pipeline, now, selection=Selection(rule="age", source="bank"), most=5)
    assert some.sending is not None
    assert some.sending.acknowledged == 5
    again = send_again(pipeline, now)
    assert outcomes(again) == {"passes": 16, ON_ITS_WAY: 5, BROKEN: 2}
    pipeline.run(max_records=10)
    assert states(pipeline) == {"open": 2, "redriven": 21}
    assert len(pipeline.rows(VERSIONS)) == 22
    assert len(pipeline.rows(PAYMENTS)) == 22
    assert outcomes(send_again(pipeline, now)) == {BROKEN: 2}
    assert_the_law(pipeline, contract.history)
    reader = QuarantineReader(pipeline.catalog, pipeline.settings.catalog_properties())
    assert {r.became for r in reader.records(Selection(state="redriven"), 100)} == {"valid"}

    assert verified(pipeline, tmp_path).is_equal
    after = contents(pipeline)
    for table in (VERSIONS, PAYMENTS, QUARANTINE):
        pipeline.catalog.drop_table(table)
    ensure_tables(pipeline.catalog, pipeline.settings.tables.buckets)
    assert replayed(pipeline, tmp_path).is_rebuilt
    assert contents(pipeline) == after


def test_redriven_twice_at_once_and_killed_on_the_way_each_record_comes_back_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = Loosening(monkeypatch)
    pipeline.send_lines(event(f"old{i}", 4, account_id=f"acct-{i}") for i in range(30))
    pipeline.run()
    now = contract.loosen()
    kafka = pipeline.settings.kafka_properties()
    two = redrive(pipeline, now, most=10), redrive(pipeline, now, most=10)
    for one in two:  # neither has seen what the other sends
        one.run(kafka, pipeline.topic, lambda _seen, _sent: None)

    killed = redrive(pipeline, now)
    original = killed._passing
    monkeypatch.setattr(killed, "_passing", lambda tally: dying_after(5, original(tally)))
    with pytest.raises(Crash):
        killed.run(kafka, pipeline.topic, lambda _seen, _sent: None)
    assert outcomes(send_again(pipeline, now)) == {"passes": 15, ON_ITS_WAY: 15}
    pipeline.run()
    assert states(pipeline) == {"redriven": 30}
    assert len(pipeline.rows(VERSIONS)) == 30
    assert pipeline.stock().redelivered == 10, "what two sent at once is a redelivery"
    assert_the_law(pipeline, contract.history)


def dying_after(count: int, messages: Iterator[Message]) -> Iterator[Message]:
    """End after so many messages, as a process that is killed does."""
    for number, message in enumerate(messages):
        if number == count:
            raise Crash("the process ends here")
        yield message


@pytest.mark.slow
def test_whatever_headers_say_and_however_raw_is_cut_the_state_is_the_fold(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """Marks that name broken, good and no records, some of them in records that are broken themselves."""
    chance = random.Random(20)  # a seed, not a secret
    good = [event(f"good{i}", 1, account_id=f"acct-{i}") for i in range(12)]
    pipeline.send_lines(good)
    pipeline.send(Message(b"broken %d" % i, b"%d" % i, ()) for i in range(24))
    pipeline.run_raw()
    rows = [(coordinates(row), row["kafka_ts"], row["value"]) for row in pipeline.rows(RAW)]
    marks = marks_for([row[:2] for row in rows], chance)
    pipeline.send(Message(chance.choice((good[1], b"broken again")), None, h) for h in marks[:15])
    pipeline.run(max_records=40)
    assert_the_law(pipeline)
    # All in one partition, so that they stand in its middle.
    last = {where.partition: (where, at) for where, at, value in sorted(rows) if value.startswith(b"broken")}
    early = [Mark(where, at, at, 1).headers() for where, at in last.values()]
    pipeline.send(Message(chance.choice((good[2], b"{}")), b"one key", h) for h in [*early, *marks[15:]])
    pipeline.run()
    assert states(pipeline)["redriven"] > 5
    assert pipeline.query(f"SELECT count(*) FROM {QUARANTINE} WHERE redrive_of IS NOT NULL") > [(5,)]
    assert_the_law(pipeline)
    assert verified(pipeline, tmp_path).is_equal

    before = contents(pipeline)
    pipeline.spark.sql(f"UPDATE {CATALOG_NAME}.{QUARANTINE} SET state = 'open', redriven_by = null")
    assert not verified(pipeline, tmp_path).is_equal
    assert replayed(pipeline, tmp_path).changed[f"{QUARANTINE}: added"] > 5
    assert contents(pipeline) == before
    # Without raw's snapshots to go by, each partition is read at its own pace: a job that begins anew meets
    # the early redrives before the last records of the other partitions, which they stand for.
    expire = f"CALL {CATALOG_NAME}.system.expire_snapshots(table => '{RAW}', retain_last => 1, "
    pipeline.spark.sql(expire + "older_than => TIMESTAMP '2999-01-01 00:00:00')")
    pipeline.catalog.drop_table(QUARANTINE)
    ensure_tables(pipeline.catalog, pipeline.settings.tables.buckets)
    pipeline.run_curated(20)
    assert contents(pipeline) == before


def coordinates(row: dict[str, Any]) -> Coordinates:
    return Coordinates(row["topic_id"], row["partition"], row["offset"])


def marks_for(rows: list[tuple[Coordinates, datetime]], chance: random.Random) -> list[Headers]:
    """Headers of redrives: of records there are, of a time not theirs, of no record, and no mark at all."""
    made = [Mark(where, at, at, 1).headers() for where, at in chance.choices(rows, k=24)]
    where, at = chance.choice(rows)
    wrong = [
        Mark(where, at - timedelta(seconds=1), at - timedelta(seconds=1), 1),
        Mark(where, at + timedelta(days=1), at, 1),
        Mark(where._replace(topic_id="another"), at, at, 1),
        Mark(where._replace(offset=10**12), at, at, 1),
    ]
    bare: Headers = ((OF, written(where).encode()),)
    found = [*made, *(mark.headers() for mark in wrong), bare, ((OF, b"\xff\x00"),)]
    chance.shuffle(found)
    return found


def test_the_commands_show_what_there_is_and_send_what_passes(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = Loosening(monkeypatch)
    pipeline.send_lines([event("old", 4), event("other", 4, account_id="acct-2")])
    pipeline.send_lines([b'{"card": "4111 1111 1111 1111", "\x1b[2J": 1, "\xff"'], source="[shop]")
    pipeline.run()
    contract.loosen()  # the commands go by the contract of this release, which takes as much

    counted = run(pipeline, "list", "--rule", "age").json
    assert counted["count"] == 2
    assert [(g["rule"], g["field"], g["source"], g["records"]) for g in counted["groups"]] == [
        ("age", "event_ts", "bank", 2)
    ]
    (theirs,) = run(pipeline, "list", "--records", "--partner", "[shop]").json["records"]
    assert [v["rule"] for v in theirs["violations"]] == ["not_utf8"]
    for form in ("text", "json"):
        shown = run(pipeline, "show", theirs["coordinate"], "--output", form).stdout
        assert "4111" not in shown
        assert "\x1b" not in shown
        assert "ce_source" in shown
    assert "[shop]" in run(pipeline, "list", "--output", "text").stdout

    tried = run(pipeline, "redrive", "--dry-run").json
    assert (tried["dry_run"], tried["passing"], tried["sent"], tried["meant"]) == (True, 2, 0, 3)
    sent = run(pipeline, "redrive", "--rule", "age", "--max", "1").json
    assert (sent["sent"], sent["failed"]) == (1, 0)
    assert "1 acknowledged" in run(pipeline, "redrive", "--rule", "age", "--output", "text").stdout
    pipeline.run()
    redriven = run(pipeline, "list", "--state", "redriven", "--records").json
    assert [r["became"] for r in redriven["records"]] == ["valid", "valid"]
    assert (
        "redriven by"
        in run(pipeline, "show", redriven["records"][0]["coordinate"], "--output", "text").stdout
    )
    assert run(pipeline, "list", "--state", "open").json["count"] == 1

    nowhere = paywave("quarantine", "show", "t/0/999", **pipeline.environment())
    assert nowhere.code == 1
    assert "quarantine list --records" in nowhere.stderr
    assert CliRunner().invoke(commands, ["quarantine", "show", "here"]).exit_code == 2


def run(pipeline: Pipeline, *arguments: str) -> Done:
    """Run a command of quarantine, in this process."""
    form = () if "--output" in arguments else ("--output", "json")
    own = {"PAYWAVE_HOME": str(pipeline.settings.home), "PAYWAVE_KAFKA__TOPIC": pipeline.topic}
    done = CliRunner(env=own).invoke(commands, ["quarantine", *arguments, *form])
    assert done.exit_code == 0, done.output
    return Done(done.exit_code, done.stdout, done.stderr)
