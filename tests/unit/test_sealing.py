"""Personal fields: which ones are found, and that sealing is exact, repeatable, and nobody else's to open."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.canonical import canonical_json, parse_json
from quality.cards import card_numbers
from quality.contract import Event, in_force
from quality.judge import judge
from quality.personal import PERSONAL, PERSONAL_FIELDS, PersonalFields
from quality.sealing import (
    KEY_BYTES,
    SubjectKey,
    Unopenable,
    is_sealed,
    seal,
    sealed_fields,
    sealed_values,
    unseal,
)
from tests.events import wire

KAFKA_TS = datetime(2026, 11, 20, 12, tzinfo=UTC)
ANN, BEN = (SubjectKey(letter * 16, letter.encode() * KEY_BYTES) for letter in "ab")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def key_of(subject: str) -> SubjectKey:
    return {"acct-ann": ANN, "acct-ben": BEN}[subject]


def found(fields: dict[str, Any], personal: PersonalFields = PERSONAL) -> dict[str, Any]:
    told: dict[str, Any] = {}
    personal.replaced(fields, lambda path, value: told.setdefault(path, value))
    return told


@pytest.mark.parametrize("name", PERSONAL_FIELDS)
def test_every_field_of_the_list_is_found(name: str) -> None:
    attributes: Any = "somebody"
    for part in reversed(name.split(".")):
        attributes = {part: attributes}
    assert list(found({"attributes": attributes}).values()) == ["somebody"]
    assert list(found(attributes).values()) == ["somebody"]


@pytest.mark.parametrize("name", ["cardholder_name", "cardholderName", "Cardholder-Name", "~CARDHOLDER_NAME"])
def test_case_and_punctuation_of_a_name_do_not_count(name: str) -> None:
    assert found({"attributes": {name: "Ann"}}) == {"cardholdername": "Ann"}


def test_fields_are_found_wherever_they_stand_beside_the_contract() -> None:
    fields = {
        "account_id": "acct-ann",
        "email": "a@x",
        "attributes": {
            "device": {"ip": "192.0.2.1", "os": "x", "id": 7},
            "orders": [{"phone": ["1", "2"]}, "email", {"n": 1}],
            "id": "not a device's",
            "name": "not a cardholder's",
            "cardholder": {"name": "Ann"},
            "address": {"street": "High Street", "no": 1},
            "mobile": None,
            "iban": "",
        },
    }
    assert found(fields) == {
        "email": "a@x",
        "device/ip": "192.0.2.1",
        "device/id": 7,
        "orders/phone": ["1", "2"],
        "cardholder/name": "Ann",
        "address": {"street": "High Street", "no": 1},
    }


def test_an_event_without_personal_fields_stays_itself() -> None:
    fields = parse_json(wire("plain", attributes={"channel": "pos", "list": [1, {"a": []}]}))
    assert PERSONAL.replaced(fields, lambda _path, _value: "x") is fields
    assert not PERSONAL.are_in(fields)
    assert not PERSONAL.are_in({"attributes": ["email"]})


def test_fields_of_the_contract_are_never_personal() -> None:
    more = PersonalFields(["account_id", "card_id"])
    fields = {"account_id": "acct-ann", "attributes": {"account_id": "acct-other"}}
    assert found(fields, more) == {"accountid": "acct-other"}


def test_a_partner_may_have_more_of_them_and_none_less() -> None:
    more = PersonalFields(["loyalty.number", "nickname"])
    fields = {"attributes": {"loyalty": {"number": 1}, "nickname": "Annie", "email": "a@x", "number": 2}}
    assert found(fields, more) == {"loyalty/number": 1, "nickname": "Annie", "email": "a@x"}
    assert more.names("Nick-Name")
    assert not PERSONAL.names("nickname")
    for wrong in ("", "a..b", "--"):
        with pytest.raises(ValueError, match=r"parent\.name"):
            PersonalFields([wrong])


@pytest.mark.parametrize(
    ("raw", "may"),
    [
        (b'{"email": "a@x"', True),
        (b"{'cardholderName': Ann", True),
        (b'{"cardholder": {"name": broken', True),
        (b'{"e\\u006dail": "a@x"', True),
        (b'{"name": "x", "amount": ', False),
        (b"\xff\xfe nothing", False),
    ],
)
def test_bytes_that_are_no_event_are_looked_through_by_their_words(raw: bytes, may: bool) -> None:
    assert PERSONAL.may_be_in(raw) is may


@given(json_values)
def test_what_is_sealed_opens_to_the_same_value(value: Any) -> None:
    text = seal(ANN, "email", value)
    assert is_sealed(text)
    assert canonical_json(unseal(ANN, "email", text)) == canonical_json(value)
    assert text == seal(ANN, "email", value)
    assert not card_numbers(text)
    assert not any(letter.isdigit() for letter in text.removeprefix("sealed:v1:"))


@given(json_values)
def test_nobody_elses_key_and_no_other_field_gives_or_opens_the_same(value: Any) -> None:
    text = seal(ANN, "email", value)
    same_id = SubjectKey(ANN.id, BEN.secret)
    assert (
        len({text, seal(BEN, "email", value), seal(same_id, "email", value), seal(ANN, "phone", value)}) == 4
    )
    for key, path in ((BEN, "email"), (same_id, "email"), (ANN, "phone")):
        with pytest.raises(Unopenable):
            unseal(key, path, text)


@given(st.text(min_size=1, max_size=20), st.integers(min_value=0))
def test_a_text_that_was_altered_does_not_open(value: str, place: int) -> None:
    text = seal(ANN, "email", value)
    at = len(text) - 1 - place % (len(text) - 30)
    other = "b" if text[at] == "a" else "a"
    with pytest.raises(Unopenable):
        unseal(ANN, "email", text[:at] + other + text[at + 1 :])
    for wrong in ("", text[:-1], f"{text}ab", text.upper(), "sealed:v1::"):
        with pytest.raises(Unopenable):
            unseal(ANN, "email", wrong)


def test_a_redelivery_has_the_same_content_and_a_correction_another() -> None:
    def content(raw: bytes) -> str:
        fields = sealed_fields(parse_json(raw), PERSONAL, "acct-ann", key_of)
        verdict = judge(canonical_json(fields).encode(), KAFKA_TS, in_force(KAFKA_TS))
        assert isinstance(verdict, Event), verdict
        return verdict.content_hash

    def event(**attributes: Any) -> bytes:
        return wire("e1", event_ts="2026-11-20T11:00:00Z", attributes=attributes)

    first = content(event(email="a@x", weight=1, device={"ip": "192.0.2.1"}))
    assert content(event(device={"ip": "192.0.2.1"}, weight=1.0, email="a@x")) == first
    assert content(event(email="b@x", weight=1, device={"ip": "192.0.2.1"})) != first


def test_sealing_again_changes_nothing_and_another_text_is_sealed() -> None:
    fields = {
        "account_id": "acct-ann",
        "attributes": {"email": "a@x", "phone": "sealed:v1:aaaaaaaaaaaaaaaa:abcd"},
    }
    sealed = sealed_fields(fields, PERSONAL, "acct-ann", key_of)
    assert sealed_fields(sealed, PERSONAL, "acct-ann", key_of) is sealed
    assert unseal(ANN, "phone", sealed["attributes"]["phone"]) == "sealed:v1:aaaaaaaaaaaaaaaa:abcd"
    moved = {"attributes": {"phone": sealed["attributes"]["email"]}}  # our own text, in another place
    assert sealed_fields(moved, PERSONAL, "acct-ann", key_of) != moved


def test_sealed_texts_are_found_in_attributes_with_their_paths() -> None:
    fields = {
        "attributes": {"device": {"ip": "192.0.2.1"}, "more": [{"E-Mail": 1}, {"email": "a@x"}]},
        "phone": "1",
    }
    sealed = sealed_fields(fields, PERSONAL, "acct-ann", key_of)
    attributes = json.dumps({**sealed["attributes"], "phone": sealed["phone"]})
    opened = {one.path: unseal(ANN, one.path, one.text) for one in sealed_values(attributes)}
    assert opened["device/ip"] == "192.0.2.1"
    assert opened["phone"] == "1"
    assert len(list(sealed_values(attributes))) == 4
    assert {one.key_id for one in sealed_values(attributes)} == {ANN.id}


def test_a_key_never_shows() -> None:
    assert "aaaaaaaa'" not in repr(ANN).replace("a" * 16, "")
    assert "secret" not in repr(ANN)
