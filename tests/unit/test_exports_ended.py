"""What a person ends: standing exports, and the pins of an export; and what is recorded of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cli.commands import audit
from cli.main import paywave
from lakehouse.access_log import AccessLog
from lakehouse.definitions import PAYMENTS
from lakehouse.errors import ExportError
from lakehouse.exports.end_notes import ENDED, file_of, note_of, notes_in, read_note
from lakehouse.exports.ending import check_release, end, ends_of, named
from lakehouse.exports.export import Exporter
from lakehouse.exports.listing import Listed, listed_in
from lakehouse.exports.pins import EXPORTED
from lakehouse.exports.renewal import name_of, to_renew
from lakehouse.exports.request import Request, Scope
from lakehouse.exports.signing import made_signer
from lakehouse.exports.verification import Verifier
from lakehouse.hold_log import HoldLog
from lakehouse.holds import Hold
from lakehouse.holds import Scope as HoldScope
from lakehouse.masking import plain
from lakehouse.refs import LAST_PINNED
from tests.offices import LINES, Desk, Killed, found, request
from tests.small_lake import SmallLake

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
STANDING = Request(Scope("all"), "daily", "me", standing=True)
Run = Callable[..., Any]


def listed(request: Request, created: datetime, name: str = "e") -> Listed:
    return Listed(name, "done", 1, request.as_json(), created.isoformat())


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_what_was_begun_after_the_end_stands(first: int, second: int) -> None:
    exports = [listed(STANDING, NOON + timedelta(hours=h)) for h in (first, second)]
    ended = {STANDING.default_name: NOON}
    assert bool(to_renew(exports, [NOON], ended)) == (max(first, second) > 0)
    assert to_renew(exports, [NOON], {"another": NOON}) == [STANDING]


def test_one_call_names_what_it_makes_again_always_alike() -> None:
    assert name_of(STANDING, "a") == name_of(STANDING, "a") != name_of(STANDING, "b")
    assert name_of(STANDING, "a").startswith(STANDING.default_name)


@pytest.mark.parametrize(
    ("age", "reason", "may"),
    [(366, None, True), (300, None, False), (300, "the court", True), (366, " ", False)],
)
def test_pins_are_released_after_the_years_or_for_a_reason(age: int, reason: str | None, may: bool) -> None:
    export = listed(STANDING, NOON - timedelta(days=age))
    if may:
        check_release(export, 1, reason, NOON)
        return
    with pytest.raises(ExportError):
        check_release(export, 1, reason, NOON)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallLake:
    lake = SmallLake(tmp_path / "lake")
    lake.take(LINES[:12])
    monkeypatch.setattr(audit, "catalog_of", lambda _settings: lake.catalog)
    monkeypatch.setenv("PAYWAVE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return lake


@pytest.fixture
def run(lake: SmallLake) -> Run:
    def told(*arguments: str, code: int = 0) -> Any:
        done = CliRunner().invoke(paywave, ["audit", *arguments, "--output", "json"])
        assert done.exit_code == code, (done.output, done.exception)
        return json.loads(done.stdout) if code == 0 else done.output

    return told


def actions(lake: SmallLake) -> list[str]:
    return [entry.as_json()["action"] for entry in AccessLog(lake.catalog).entries()]


def test_a_renewal_that_failed_midway_makes_nothing_twice(lake: SmallLake, run: Run) -> None:
    for scope in ("account:a", "account:b"):
        run("export", "--scope", scope, "--reason", "daily", "--standing")
    call = ("renew", "--hour", "2026-11-20T12:00Z")
    make = Exporter.run

    def fails(self: Exporter, request: Request, name: str | None = None, **how: bool) -> Any:
        if str(request.scope) == "account:b":
            raise Killed
        return make(self, request, name, **how)

    def sequences() -> list[int]:
        return [one["sequence"] for one in run("list")["exports"]]

    for options in ((), ("--id", "late 1")):
        before = len(sequences())
        with patch.object(Exporter, "run", fails), pytest.raises(Killed):
            CliRunner().invoke(paywave, ["audit", *call, *options], catch_exceptions=False)
        if options:
            lake.take(LINES[12:16])  # with an id, also where payments are others by now
        first, second = run(*call, *options)["exports"]
        assert (first["was_there"], second["was_there"]) == (True, False)
        assert all(one["was_there"] for one in run(*call, *options)["exports"])
        assert len(sequences()) == before + 2
    lake.take(LINES[16:20])
    assert not any(one["was_there"] for one in run(*call)["exports"]), "late data were not exported"


def test_a_renewal_that_fails_keeps_no_other_from_being_made(lake: SmallLake, run: Run) -> None:
    for scope in ("account:a", "account:b"):
        run("export", "--scope", scope, "--reason", "daily", "--standing")
    make = Exporter.run

    def fails(self: Exporter, request: Request, name: str | None = None, **how: bool) -> Any:
        if str(request.scope) == "account:a":
            raise ExportError("the disk is full")
        return make(self, request, name, **how)

    with patch.object(Exporter, "run", fails):
        said = run("renew", "--hour", "2026-11-20T12:00Z", code=1)
    assert "the disk is full" in said
    assert [one["request"]["scope"] for one in run("list")["exports"]] == [
        "account:a",
        "account:b",
        "account:b",
    ]


def test_an_unreadable_link_of_the_chain_is_neither_ended_nor_released(lake: SmallLake, run: Run) -> None:
    run("export", "--scope", "all", "--reason", "why", "--name", "it")
    (link,) = Path("home/exports/chain").glob("*1.json")
    link.write_bytes(b"{")
    name = f"chain/{link.name}"
    assert "is no manifest" in run("end", name, "--reason", "x", code=2)
    run("release", name, "--reason", "x", code=1)
    with pytest.raises(ExportError, match="is no manifest"):
        check_release(Listed(name, "unreadable", 1, {}, ""), 1, None, NOON)


def test_a_standing_export_is_ended_and_stands_again_when_it_is_made_again(lake: SmallLake, run: Run) -> None:
    order = ("export", "--scope", "account:a", "--reason", "daily", "--standing")
    name = run(*order)["name"]
    call = ("renew", "--hour", "2026-11-20T12:00Z", "--dry-run")
    assert run("end", name, "--reason", "done with", "--dry-run")["request"]["scope"] == "account:a"
    assert len(run(*call)["standing"]) == 1
    run("end", name, "--reason", "done with")
    assert run(*call)["standing"] == []
    assert any("a standing export was ended, as is signed" in said for said in run("verify")["remarks"])
    assert actions(lake).count("audit end") == 2
    assert run("verify")["whole"]
    run(*order)
    assert len(run(*call)["standing"]) == 1
    once = run("export", "--scope", "all", "--reason", "once")["name"]
    assert "does not stand" in run("end", once, "--reason", "x", code=2)
    assert "no export" in run("end", "nothing", "--reason", "x", code=2)


# -- what only looks like an end -----------------------------------------------------------------------------


@pytest.fixture
def desk(lake: SmallLake, tmp_path: Path) -> Desk:
    """A desk with one standing export, which was ended."""
    desk = Desk(lake.catalog, tmp_path)
    done = desk.export("account:a", standing=True)
    end(desk.store, desk.signer, named(listed_in(desk.store), done.manifest.name), "done with", "me", NOON)
    return desk


def note(desk: Desk) -> Path:
    (path,) = desk.store.root.glob(f"{ENDED}*.json")
    return path


def ends(desk: Desk) -> dict[str, datetime]:
    return ends_of(notes_in(desk.store, [desk.signer.public_key]))


def test_a_note_of_an_end_is_signed_and_counts(desk: Desk) -> None:
    assert ends(desk) == {request("account:a", standing=True).default_name: NOON}
    verified = desk.verify()
    assert verified.whole
    assert f"{note(desk).name}: a standing export was ended, as is signed" in verified.remarks
    assert Verifier(desk.store).run().whole, "held against the keys beside the exports, it is wrong"


def test_one_flipped_byte_of_a_note_is_told_every_time(desk: Desk) -> None:
    path = note(desk)
    data, keys = path.read_bytes(), [desk.signer.public_key]
    assert read_note(path.name, data, keys).state == "signed"
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        assert read_note(path.name, bytes(flipped), keys).state == "wrong", position
    for cut in range(len(data)):
        assert read_note(path.name, data[:cut], keys).state == "wrong", cut
    path.write_bytes(data.replace(b"done with", b"done witH"))
    said = "wrong signature: this note of an end was altered or forged, or another key signed"
    assert found(desk.verify()) == [f"{path.name}: {said}"]
    assert found(Verifier(desk.store).run()) == [f"{path.name}: {said}"]
    assert ends(desk) == {}


def test_a_forged_a_moved_and_a_stranger_s_note_are_wrong(desk: Desk, tmp_path: Path) -> None:
    path = note(desk)
    stranger = made_signer(tmp_path / "stranger.pem")
    value = {k: v for k, v in json.loads(path.read_bytes()).items() if k != "signature"}
    path.write_bytes(note_of(value, stranger.sign))
    (desk.store.root / f"{ENDED}all-0123456789ab.json").write_bytes(note_of(value, desk.signer.sign))
    (desk.store.root / f"{ENDED}junk").write_bytes(b"[" * 9)
    assert sorted(f.where for f in desk.verify().findings) == sorted(
        [path.name, f"{ENDED}all-0123456789ab.json", f"{ENDED}junk"]
    )
    assert ends(desk) == {}


def test_a_note_without_a_signature_is_said_and_ends_nothing(desk: Desk) -> None:
    path = note(desk)
    value = {k: v for k, v in json.loads(path.read_bytes()).items() if k != "signature"}
    path.write_text(json.dumps(value, indent=1) + "\n")
    verified = desk.verify()
    assert verified.whole
    assert any(r.startswith(f"{path.name}: ") and "is not signed" in r for r in verified.remarks)
    assert ends(desk) == {}


@given(st.dictionaries(st.text(), st.text()), st.binary(max_size=200))
def test_a_note_says_what_it_was_made_of_and_other_bytes_say_nothing(
    more: dict[str, str], data: bytes
) -> None:
    value = {**more, "request": STANDING.as_json(), "ended": NOON.isoformat()}
    value.pop("signature", None)
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    file, made = file_of(STANDING), note_of(value, key.sign)
    assert read_note(file, made, [key.public_key()]) == (file, "signed", NOON)
    assert read_note(file, made, []).state == "unknown"
    assert read_note(file, data, [key.public_key()]).state != "signed"


def test_a_planted_note_keeps_no_export_from_being_made_again(lake: SmallLake, run: Run) -> None:
    name = run("export", "--scope", "account:a", "--reason", "daily", "--standing")["name"]
    request = run("list")["exports"][0]["request"]
    value = {"request": request, "ended": "2999-01-01T00:00:00Z", "ended_by": "x", "reason": "y"}
    planted = Path("home/exports") / f"{ENDED}{name}.json"
    planted.write_text(json.dumps(value, indent=1) + "\n")
    call = ("renew", "--hour", "2026-11-20T12:00Z")
    said = run(*call, code=1)
    assert planted.name in said
    assert "audit end" in said
    assert len(run("list")["exports"]) == 2, "it was not made again"
    run("end", name, "--reason", "done with")
    assert run(*call)["standing"] == []
    assert run("verify")["whole"]


def test_pins_of_an_export_are_released_and_nothing_else(lake: SmallLake, run: Run) -> None:
    kept = run("export", "--scope", "all", "--reason", "why", "--name", "kept")
    lake.take(LINES[12:16])
    done = run("export", "--scope", "all", "--reason", "why", "--name", "it")
    tag = f"audit-{done['id']}"

    def tagged() -> list[str]:
        return [table for table in EXPORTED if tag in lake.load(table).metadata.refs]

    with_reason = ("release", "it", "--reason", "the lake moves")
    run("release", "it", code=1)
    assert run(*with_reason, "--dry-run")["tables"] == tagged() == list(EXPORTED)
    assert "audit release" not in actions(lake)
    assert run(*with_reason)["tables"] == list(EXPORTED)
    assert tagged() == []
    refs = lake.load(PAYMENTS).metadata.refs
    assert f"audit-{kept['id']}" in refs
    assert LAST_PINNED not in refs
    assert actions(lake).count("audit release") == 2
    assert run(*with_reason)["tables"] == []
    assert run("verify")["whole"]


def test_pins_that_a_hold_may_need_are_not_released(lake: SmallLake, run: Run) -> None:
    run("export", "--scope", "account:a", "--reason", "why", "--name", "it")
    hold = Hold("case", HoldScope("a"), "court", "J. Doe", "me", NOON)
    with patch.object(HoldLog, "in_force", lambda _: (hold,)):
        run("release", "it", "--reason", "the lake moves", code=1)
    assert run("release", "it", "--reason", "the lake moves")["tables"] == list(EXPORTED)


def test_who_shows_a_row_by_a_proof_is_recorded(lake: SmallLake, run: Run) -> None:
    run("export", "--scope", "all", "--reason", "why", "--name", "it")
    key = lake.load(PAYMENTS).scan().to_arrow().to_pylist()[0]["business_key"]
    run("prove", "it", "--table", PAYMENTS, "--key", key)
    last = list(AccessLog(lake.catalog).entries())[-1].as_json()
    assert (last["action"], last["target"]) == ("audit prove", plain(f"it {key}"))
