"""What may be asked of an export, and what its manifest and chain say, as values."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import ExportError, WrongScope
from lakehouse.exports.chain import link_of, links_in, wrong_in_chain
from lakehouse.exports.journal import Journal, Part
from lakehouse.exports.manifest import FORMAT, FileEntry, Manifest, Tally, reconciled, root_over, rows_of
from lakehouse.exports.request import COLUMN_OF, Request, Scope, check_name, parse_scope
from lakehouse.exports.store import Lock

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
_values = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text.strip())


# -- scope and request ---------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(COLUMN_OF)), _values)
def test_a_scope_is_read_as_it_is_written(kind: str, value: str) -> None:
    scope = parse_scope(f"{kind}:{value}")
    assert scope == Scope(kind, value)
    assert parse_scope(str(scope)) == scope
    assert scope.tells_quarantine == (kind == "partner")


def test_all_has_no_value() -> None:
    assert parse_scope("all") == Scope("all")
    assert Scope("all").column is None
    assert Scope("all").tells_quarantine


@pytest.mark.parametrize("text", ["", "everyone", "account", "account:", "account: ", "all:x", "card:1", ":"])
def test_a_wrong_scope_lists_what_is_allowed(text: str) -> None:
    with pytest.raises(WrongScope) as wrong:
        parse_scope(text)
    for kind in ("all", *(f"{kind}:" for kind in COLUMN_OF)):
        assert kind in wrong.value.hint


def test_a_request_without_reason_range_or_one_moment_is_refused() -> None:
    scope = Scope("all")
    with pytest.raises(ExportError, match="reason"):
        Request(scope, " ", "me")
    with pytest.raises(WrongScope, match="empty"):
        Request(scope, "why", "me", NOON, NOON)
    with pytest.raises(ExportError, match="two moments"):
        Request(scope, "why", "me", as_of=NOON, tag="t")


@pytest.mark.parametrize("option", ["scope", "reason", "requested-by", "tag", "name"])
def test_a_card_number_is_refused_before_it_stands_where_nobody_can_delete_it(option: str) -> None:
    words = {"scope": "all", "reason": "why", "requested-by": "me", "tag": None, "name": None}
    card = "4111111111111111" if option == "name" else "transaction:4111 1111 1111 1111"
    words[option] = card
    request = Request(
        parse_scope(str(words["scope"])), str(words["reason"]), str(words["requested-by"]), tag=words["tag"]
    )
    with pytest.raises(ExportError, match=f"--{option} holds a card number") as refused:
        request.check_new(NOON, words["name"])
    assert "1111" not in str(refused.value)
    assert Request.from_json(request.as_json()) == request  # what was exported can still be read


def test_a_moment_that_is_to_come_is_refused() -> None:
    request = Request(Scope("all"), "why", "me", as_of=NOON)
    request.check_new(NOON)
    with pytest.raises(ExportError, match="lies in the future"):
        request.check_new(NOON - timedelta(microseconds=1))


@given(st.none() | st.datetimes(timezones=st.just(UTC)), st.booleans(), st.text(min_size=1).filter(str.strip))
def test_a_request_is_what_the_manifest_says(as_of: datetime | None, csv: bool, reason: str) -> None:
    request = Request(Scope("account", "a"), reason, "me", NOON, NOON + timedelta(days=1), as_of, None, csv)
    assert Request.from_json(request.as_json()) == request
    assert Request.from_json(request.as_json()).default_name == request.default_name
    assert check_name(request.default_name) == request.default_name


@pytest.mark.parametrize("name", ["", "chain", "A", "a/b", "..", "-a", "a" * 64, ".partial-x"])
def test_a_name_that_can_be_no_folder_of_ours_is_refused(name: str) -> None:
    with pytest.raises(ExportError, match="no name"):
        check_name(name)


# -- manifest ------------------------------------------------------------------------------------------------

_keys = st.tuples(st.sampled_from(["EUR", "USD"]), st.sampled_from(["AUTH", "REFUND"]), st.just("APPROVED"))
_amounts = st.integers(0, 10**18).map(lambda n: Decimal(n).scaleb(-4))


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    tally = Tally(Counter(draw(st.dictionaries(st.sampled_from(["raw", "versions"]), st.integers(1, 9)))))
    for key, amount in draw(st.lists(st.tuples(_keys, _amounts), max_size=5)):
        tally.add_money(key, 1, amount)
    return tally


@given(tallies(), tallies())
def test_tallies_add_up_in_any_order_and_survive_the_journal(one: Tally, other: Tally) -> None:
    left, right = Tally(), Tally()
    for tally in (one, other):
        left.add(Tally.from_json(tally.as_json()))
    for tally in (other, one):
        right.add(tally)
    assert left.as_json()["money"] == right.as_json()["money"]
    assert left.counts == right.counts


def test_a_sum_of_money_is_exact() -> None:
    tally = Tally()
    for _ in range(3):
        tally.add_money(("EUR", "AUTH", "APPROVED"), 1, Decimal("0.1000"))
    assert tally.money() == [
        {"currency": "EUR", "event_type": "AUTH", "status": "APPROVED", "payments": 3, "amount": "0.3000"}
    ]


def test_what_does_not_add_up_is_said() -> None:
    whole = {"raw": 5, "versions": 4, "quarantined": 1, "events": 3, "members": 3, "payments": 2}
    assert reconciled(whole)["breaks"] == []
    assert reconciled(whole)["statement"][0] == "versions 4 = winning 3 + superseded 1"
    assert len(reconciled(whole | {"members": 4})["breaks"]) == 1
    assert len(reconciled(whole | {"raw": 4})["breaks"]) == 1
    assert reconciled(whole | {"raw": 4, "not_kept": 1})["breaks"] == []


def test_rows_and_root_are_those_of_the_files_with_rows() -> None:
    files = [
        FileEntry("a.parquet", 1, "x", "rows", "t", 2, "00" * 32),
        FileEntry("a.csv", 1, "x", "csv", "t", 2),
        FileEntry("verify.py", 1, "x"),
    ]
    assert rows_of(files) == {"t": 2}
    assert root_over(files) == root_over(files[:1]) != root_over([])


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"format": 1}'])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ExportError, match="no manifest"):
        Manifest.read(data)


def test_a_manifest_of_another_format_is_for_the_verifier_beside_it() -> None:
    with pytest.raises(ExportError, match="format 2") as other:
        Manifest.read(b'{"format": 2}')
    assert "verify.py" in other.value.hint


# -- chain ---------------------------------------------------------------------------------------------------


def manifest(sequence: int, previous: str | None) -> Manifest:
    export = {"id": str(sequence), "name": f"n{sequence}"}
    return Manifest.made(
        {
            "format": FORMAT,
            "export": export,
            "files": [],
            "root": "",
            "sequence": sequence,
            "previous": previous,
        }
    )


def chain(length: int) -> dict[int, Manifest]:
    links: dict[int, Manifest] = {}
    for number in range(1, length + 1):
        links[number] = manifest(number, links[number - 1].sha256 if number > 1 else None)
    return links


@given(st.integers(0, 8))
def test_a_chain_as_it_was_made_is_right(length: int) -> None:
    assert list(wrong_in_chain(chain(length))) == []


@given(st.integers(2, 8), st.data())
def test_a_link_that_is_gone_or_altered_is_named(length: int, data: st.DataObject) -> None:
    links, number = chain(length), data.draw(st.integers(1, length - 1))
    altered = links | {number: Manifest.made({**links[number].value, "root": "00"})}
    assert [where for where, _ in wrong_in_chain(altered)] == [link_of(number + 1)]
    del links[number]
    assert [where for where, _ in wrong_in_chain(links)] == [link_of(number)]


@pytest.mark.parametrize(
    ("planted", "missing"),
    [
        (4, ["chain/00000003.json"]),
        (6, ["chain/00000003.json to chain/00000005.json"]),
        (10**12, ["chain/00000003.json to chain/999999999999.json"]),
    ],
)
def test_a_number_that_somebody_plants_is_one_finding(planted: int, missing: list[str]) -> None:
    links = {**chain(2), planted: manifest(planted, "00")}
    gaps = [where for where, what in wrong_in_chain(links) if what.startswith("missing")]
    assert gaps == missing


def test_links_are_told_by_their_names() -> None:
    assert links_in({"²2.json", "\u0661.json", "1e3.json", "-1.json"}) == [], "only plain digits are a number"
    assert links_in({"00000002.json", "00000001.json", "00000001.json.sig", "x.json"}) == [1, 2]
    assert link_of(12) == "chain/00000012.json"


# -- journal and lock ----------------------------------------------------------------------------------------


def test_a_journal_forgets_a_line_that_was_cut_off_only(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    assert journal.about is None
    journal.begin({"id": "1"})
    part = Part("one", (FileEntry("a", 1, "x"),), Tally(Counter({"raw": 1})))
    journal.done(part)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"part": "tw')
    again = Journal(path)
    assert again.about == Journal.look(path) == {"id": "1"}
    assert again.parts == {"one": part}
    assert path.read_bytes() == whole


@pytest.mark.parametrize("now", [datetime(2028, 2, 29, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)])
def test_a_lock_lasts_for_whole_years(now: datetime) -> None:
    assert Lock().arguments(now) == {}
    found = Lock("compliance", 7).arguments(now)
    assert found["ObjectLockMode"] == "COMPLIANCE"
    assert found["ObjectLockRetainUntilDate"].year == now.year + 7
