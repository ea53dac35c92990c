"""When a file is complete, what the ledger makes of it, and that no cut-off file is taken for a whole one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.dropzone.complete import (
    BadSidecar,
    Copy,
    Promise,
    Ready,
    Rules,
    Seen,
    Waiting,
    breach,
    look,
    read_promise,
)
from streaming.dropzone.ledger import (
    Claim,
    Entry,
    Found,
    State,
    claimed,
    is_known,
    is_still_ours,
    open_versions,
    refuse,
    settle,
    take,
    take_over,
    wait,
)
from streaming.dropzone.names import has_room, is_data, is_under_way
from streaming.dropzone.progress import Journal, Reason, Tally, look_from, read_journal
from streaming.dropzone.receipt import is_told, receipt

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CONTENT = b"A,B\n1,2\n3,4\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MARKER, STABLE = Rules(), Rules("stable")


def seen(content: bytes = CONTENT, name: str = "day.csv", minutes_ago: float = 1) -> Seen:
    changed = NOW - timedelta(minutes=minutes_ago)
    return Seen(name, len(content), changed, f"{len(content)}-{minutes_ago}")


def beside(suffix: str, content: bytes, minutes_ago: float = 0) -> dict[str, tuple[Seen, bytes]]:
    return {suffix: (seen(content, f"day.csv{suffix}", minutes_ago), content)}


@pytest.mark.parametrize(
    "name", ["day.csv.done", "day.csv.sha256", "day.csv.manifest.json", ".x", "a.receipt.json"]
)
def test_what_goes_with_a_file_is_no_file_of_its_own(name: str) -> None:
    assert not is_data(name)
    assert is_data("day.csv")
    assert is_under_way("day.csv.filepart")


@pytest.mark.parametrize(
    ("sidecars", "rules", "age", "wanted"),
    [
        ({}, MARKER, 600, "no marker"),
        (beside(".done", b""), MARKER, 1, Promise()),
        (beside(".done", b"", 2), MARKER, 1, "as new as the file"),
        (beside(".done", b"", 2), STABLE, 1, "changed lately"),
        ({}, STABLE, 4, "changed lately"),
        ({}, STABLE, 6, Promise()),
        (beside(".sha256", f"{DIGEST}  day.csv\n".encode(), 99), MARKER, 1, Promise(DIGEST)),
        (
            beside(".manifest.json", json.dumps({"bytes": 12, "rows": 2}).encode()),
            MARKER,
            1,
            Promise(None, 12, 2),
        ),
        (beside(".manifest.json", json.dumps({"bytes": 13}).encode()), MARKER, 1, "the manifest says 13"),
        (beside(".manifest.json", b"{}"), MARKER, 1, "says none of"),
        (beside(".sha256", b"abc"), STABLE, 600, "no sha256"),
    ],
)
def test_a_file_is_ready_by_the_partners_word_or_by_its_age(
    sidecars: dict[str, tuple[Seen, bytes]], rules: Rules, age: float, wanted: Promise | str
) -> None:
    verdict = look(seen(minutes_ago=age), sidecars, rules, NOW)
    if isinstance(wanted, Promise):
        assert verdict == Ready(wanted)
    else:
        assert isinstance(verdict, Waiting)
        assert wanted in verdict.why
        assert verdict.is_overdue == (age >= 60)


def test_an_upload_under_another_name_is_not_complete_however_old() -> None:
    verdict = look(seen(name="day.csv.part", minutes_ago=999), {}, STABLE, NOW)
    assert isinstance(verdict, Waiting)
    assert verdict.is_overdue


@pytest.mark.parametrize(
    "content", [b"\xff", b"[1]", b'{"sha256": 7}', b'{"rows": -1}', b'{"bytes": true}', b"[" * 9999]
)
def test_a_manifest_that_says_nothing_is_an_error(content: bytes) -> None:
    with pytest.raises(BadSidecar):
        read_promise(".manifest.json", content)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_cut_off_file_never_keeps_the_promise_of_the_whole(content: bytes, data: st.DataObject) -> None:
    digest = hashlib.sha256(content).hexdigest()
    part = content[: data.draw(st.integers(0, len(content) - 1))]
    found = hashlib.sha256(part).hexdigest()
    for promise in (Promise(digest), Promise(digest, len(content))):
        assert breach(promise, Copy(found, len(part), True), None, seen(part), NOW, MARKER)
        assert breach(promise, Copy(digest, len(content), True), None, seen(content), NOW, MARKER) is None
    manifest = beside(".manifest.json", json.dumps({"bytes": len(content)}).encode())
    assert isinstance(look(seen(part), manifest, MARKER, NOW), Waiting)


def test_without_a_promise_a_file_must_end_its_last_line_and_hold_still() -> None:
    cut = CONTENT[:-1]
    assert breach(Promise(), Copy("d", len(cut), False), None, seen(cut), NOW, STABLE)
    assert breach(Promise(), Copy("d", len(cut), False), None, seen(cut), NOW, MARKER) is None
    assert breach(Promise(), Copy("d", len(CONTENT) + 1, True), None, seen(), NOW, STABLE)
    whole = Copy("d", len(CONTENT), True)
    assert breach(Promise(rows=2), whole, 2, seen(), NOW, MARKER) is None
    assert breach(Promise(rows=2), whole, 1, seen(), NOW, MARKER)


def claim(owner: str, at: float, lease: float = 30) -> Claim:
    return Claim(owner, NOW + timedelta(seconds=at), timedelta(seconds=lease), "topic", "{}")


def found(digest: str, name: str = "day.csv", fingerprint: str = "f") -> Found:
    return Found("bank", name, fingerprint, 10, digest)


def done(entries: list[Entry], ours: Entry, state: State = State.DONE) -> None:
    entries.append(settle(entries, ours, state, ours.changed_at, rows=2))


def taken(entries: list[Entry], what: Found, by: Claim) -> Entry:
    decision = take(entries, what, by)
    assert decision.is_ours
    assert decision.entry is not None
    entries.append(decision.entry)
    return decision.entry


def test_new_content_under_a_name_is_a_new_version_and_the_same_content_is_not() -> None:
    entries: list[Entry] = []
    done(entries, taken(entries, found("d1", fingerprint="f1"), claim("a", 0)))
    assert is_known(entries, "day.csv", "f1")
    second = taken(entries, found("d2", fingerprint="f2"), claim("a", 1))
    assert (second.version, second.seq) == (2, 3)
    done(entries, second)
    repeated = take(entries, found("d1", fingerprint="f3"), claim("a", 2))
    assert not repeated.is_ours
    assert repeated.entry is not None
    assert (repeated.entry.state, repeated.entry.version) == (State.REPEATED, 1)
    entries.append(repeated.entry)
    assert is_known(entries, "day.csv", "f3")
    other = take(entries, found("d2", "copy.csv"), claim("a", 3))
    assert other.entry is not None
    assert (other.entry.state, other.entry.seq) == (State.REPEATED, 1)
    assert "day.csv, version 2" in (other.entry.reason or "")


def test_content_that_was_rejected_is_looked_at_again_as_the_same_version() -> None:
    entries: list[Entry] = []
    done(entries, taken(entries, found("d1", fingerprint="f1"), claim("a", 0)), State.REJECTED)
    assert take(entries, found("d1", fingerprint="f1"), claim("a", 1)).entry is None
    assert taken(entries, found("d1", fingerprint="f2"), claim("a", 1)).version == 1


def test_a_file_is_refused_once_as_it_is_and_once_more_when_it_has_changed() -> None:
    entries: list[Entry] = []
    for fingerprint, is_news in (("f1", True), ("f1", False), ("f2", True)):
        entry = refuse(entries, "bank", "day.csv", fingerprint, 9, why="its name", now=NOW)
        assert (entry is not None) == is_news
        entries += [entry] if entry else []
    assert [(e.seq, e.state, e.version) for e in entries] == [
        (1, State.REJECTED, None),
        (2, State.REJECTED, None),
    ]
    assert taken(entries, found("d1", fingerprint="f3"), claim("a", 0)).version == 1


def test_a_name_leaves_room_for_that_of_its_receipt() -> None:
    assert has_room("a" * 238 + ".csv")
    assert not has_room("a" * 239 + ".csv")
    assert not has_room("\u00e4" * 122)


def test_a_receipt_tells_of_its_own_content_and_only_if_that_was_read() -> None:
    entries: list[Entry] = []
    done(entries, taken(entries, found("d1"), claim("a", 0)))
    first = entries[-1]
    assert is_told(receipt(first, "topic"), first)
    assert not is_told(receipt(replace(first, digest="d2"), "topic"), first)
    assert not is_told(receipt(replace(first, state=State.REJECTED), "topic"), first)
    for content in (None, b"", b"{", b"[]", b"\xff"):
        assert not is_told(content, first)


def test_a_claim_holds_for_everybody_until_it_runs_out_and_is_lost_to_who_takes_over() -> None:
    entries: list[Entry] = []
    first = taken(entries, found("d1"), claim("a", 0))
    assert take(entries, found("d1", fingerprint="g"), claim("b", 29)) == (None, False)
    assert take_over(entries, first, claim("b", 29)) == (None, False)
    assert take(entries, found("d1", "copy.csv"), claim("b", 31)) == (None, False)
    assert take_over(entries, first, claim("a", 29)) == (None, False)
    assert claimed(entries, first, claim("a", 29)).claimed_until == NOW + timedelta(seconds=59)
    assert is_still_ours(entries, first)
    second = take_over(entries, first, claim("b", 31)).entry
    assert second is not None
    entries.append(second)
    assert (second.version, second.received_at, second.starts) == (1, first.received_at, first.starts)
    assert not is_still_ours(entries, first)
    assert is_still_ours(entries, second)


def test_a_wait_is_written_once_and_once_more_when_it_is_too_long() -> None:
    entries: list[Entry] = []

    def look_at(fingerprint: str, is_overdue: bool) -> State | None:
        entry = wait(entries, "bank", "day.csv", fingerprint, 5, why="w", is_overdue=is_overdue, now=NOW)
        if entry:
            entries.append(entry)
        return entry and entry.state

    waited = [("f1", False), ("f2", False), ("f2", True), ("f2", True), ("f3", False), ("f3", True)]
    states = [State.WAITING, None, State.OVERDUE, None, State.WAITING, State.OVERDUE]
    assert [look_at(*step) for step in waited] == states


steps = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["x.csv", "y.csv"]),
        st.sampled_from(["d1", "d2", "d3"]),
        st.sampled_from(["finish", "reject", "die"]),
        st.floats(0, 40),
    ),
    max_size=30,
)


@given(steps)
def test_whoever_dies_whenever_no_content_is_done_twice_nor_read_by_two_at_once(
    history: list[tuple[str, str, str, str, float]],
) -> None:
    entries: list[Entry] = []
    clock = 0.0
    for number, (owner, name, digest, end, pause) in enumerate(history):
        clock += pause
        decision = take(entries, found(digest, name, str(number)), claim(owner, clock))
        if decision.entry:
            entries.append(decision.entry)
        if decision.is_ours and decision.entry and end != "die":
            done(entries, decision.entry, State.DONE if end == "finish" else State.REJECTED)
        running = [e.digest for e in open_versions(entries)]
        assert len(running) == len(set(running))
    finished = [e.digest for e in entries if e.state == State.DONE]
    assert len(finished) == len(set(finished))
    for name in {e.name for e in entries}:
        of_name = [e for e in entries if e.name == name]
        assert [e.seq for e in of_name] == list(range(1, len(of_name) + 1))
        by_version = {e.version: e.digest for e in of_name if e.state != State.REPEATED}
        assert len(set(by_version.values())) == len(by_version)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99), st.booleans()), max_size=40))
def test_a_journal_is_read_back_as_it_was_and_never_for_other_content(
    rows: list[tuple[int, int, bool]],
) -> None:
    tally = Tally()
    for line, (partition, offset, is_good) in enumerate(rows, start=2):
        tally.add(line, 1, () if is_good else (Reason("rule", "field", "why"),))
        tally.stands_at(partition, offset)
    journal = Journal("d1", len(rows) + 1, 999, tally)
    assert read_journal(journal.to_json(), "d1") == journal
    assert read_journal(journal.to_json(), "d2") is None
    assert tally.accepted + tally.rejected == tally.rows == len(rows)
    for partition, start in look_from(dict.fromkeys(range(4), 5), journal).items():
        assert start >= 5
        assert all(start > offset for p, offset, _ in rows if p == partition and offset >= 5)


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b'{"digest":"d1"}', b'{"digest":"d1","line":-1,"byte":0,"tally":{}}']
)
def test_a_journal_that_cannot_be_read_is_none(content: bytes | None) -> None:
    assert read_journal(content, "d1") is None
    assert look_from({0: 7}, None) == {0: 7}
