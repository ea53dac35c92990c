"""Events and rows with personal fields on their way in: none leaves in clear, and none without its key."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lakehouse.errors import KeyringUnavailable
from quality.canonical import MAX_BYTES
from quality.contract import HISTORY, Event
from quality.judge import judge
from quality.personal import PersonalFields
from quality.sealing import KEY_BYTES, SubjectKey, is_sealed, unseal
from streaming.dropzone.rows import MASK, WITHHELD, Origin, RowIntake
from streaming.gateway.intake import TOO_LARGE, IngestClock, Intake, Rejected, Taken
from streaming.partners import RowMapper, load_profiles
from tests.events import wire, wire_now

NOW = datetime(2026, 11, 20, 13, tzinfo=UTC)
CARDS = load_profiles()["card-transactions"]
WITH_NAME = CARDS.model_copy(update={"attributes": {"holder": "{HOLDER}", "cardholder_name": "{HOLDER}"}})
HEADER = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD", "HOLDER"]
CLEAR = (b"Ann Example", b"ann@example.org", b"192.0.2.77")
PERSONAL = {
    "cardholder_name": "Ann Example",
    "email": "ann@example.org",
    "device": {"ip": "192.0.2.77", "os": "x"},
}


def key_of(subject: str) -> SubjectKey:
    return SubjectKey("k" * 16, subject.encode().ljust(KEY_BYTES, b"."))


def no_key(_subject: str) -> SubjectKey:
    raise KeyringUnavailable("away")


def event(**changes: Any) -> bytes:
    return wire_now("e1", **{"attributes": PERSONAL, **changes})


def intake(key_of: Any = key_of) -> Intake:
    return Intake(IngestClock(), (), key_of)


def rows(key_of: Any = key_of, profile: Any = None, **more: Any) -> RowIntake:
    mapper = RowMapper(profile, HEADER, "day.csv") if profile else None
    return RowIntake(Origin("bank", "day", "d", NOW), "refuse", mapper, key_of=key_of, **more)


def shows(value: bytes) -> bool:
    return any(clear in value for clear in CLEAR)


def test_an_event_leaves_with_its_personal_fields_sealed() -> None:
    taken = intake().take(event(phone="+49 1"), "bank", "refuse")
    assert isinstance(taken, Taken)
    fields = json.loads(taken.message.value)
    assert not shows(taken.message.value)
    assert unseal(key_of("acct-1"), "phone", fields["phone"]) == "+49 1"
    assert unseal(key_of("acct-1"), "device/ip", fields["attributes"]["device"]["ip"]) == "192.0.2.77"
    assert fields["attributes"]["device"]["os"] == "x"
    assert taken.message.key == b"acct-1"
    verdict = judge(taken.message.value, datetime.now(UTC), HISTORY[0])
    assert isinstance(verdict, Event)
    again = intake().take(event(phone="+49 1", minute=9), "bank", "refuse")
    assert isinstance(again, Taken)
    assert json.loads(again.message.value)["attributes"] == fields["attributes"]


def test_an_event_without_them_keeps_its_bytes_and_needs_no_key() -> None:
    raw = event(attributes={"channel": "pos"}) + b" "
    taken = intake(no_key).take(raw, "bank", "refuse")
    assert isinstance(taken, Taken)
    assert taken.message.value == raw


def test_what_one_partner_calls_personal_is_sealed_too() -> None:
    more = PersonalFields(["nickname"])
    taken = intake().take(event(attributes={"nickname": "Ann Example"}), "bank", "refuse", personal=more)
    assert isinstance(taken, Taken)
    assert not shows(taken.message.value)


def test_without_keys_nothing_personal_is_taken() -> None:
    rejected = intake(None).take(event(), "bank", "refuse")
    assert isinstance(rejected, Rejected)
    assert [reason.rule for reason in rejected.reasons] == ["personal_data"]
    with pytest.raises(KeyringUnavailable):
        intake(no_key).take(event(), "bank", "refuse")
    with pytest.raises(KeyringUnavailable):
        rows(no_key).take(event(), 1)


def test_no_key_is_made_for_an_event_that_is_rejected() -> None:
    rejected = intake(no_key).take(event(amount="much"), "bank", "refuse")
    assert isinstance(rejected, Rejected)


def test_an_event_that_grows_over_the_limit_by_its_seals_is_rejected() -> None:
    attributes = {"address": "x" * (MAX_BYTES - 1000)}
    long = event(attributes=attributes)
    rejected = intake().take(long, "bank", "refuse")
    assert isinstance(rejected, Rejected)
    assert [reason.rule for reason in rejected.reasons] == [TOO_LARGE]
    taken = rows().take(wire("e1", attributes=attributes), 1)
    assert [reason.rule for reason in taken.reasons] == [TOO_LARGE]
    assert taken.messages[0].value == WITHHELD.encode()


def test_a_card_number_is_found_before_the_field_is_sealed() -> None:
    raw = event(attributes={"address": "card 4111111111111111"})
    assert isinstance(intake().take(raw, "bank", "refuse"), Rejected)
    taken = rows().take(raw, 1)
    assert [reason.rule for reason in taken.reasons] == ["card_number"]
    assert b"4111" not in taken.messages[0].value


def test_a_row_of_json_is_sealed_as_an_event_is() -> None:
    raw = wire("e1", attributes=PERSONAL)
    (message,), reasons = rows().take(raw, 1)
    assert not reasons
    assert not shows(message.value)
    assert is_sealed(json.loads(message.value)["attributes"]["email"])
    assert rows().take(raw, 2).messages[0].value == message.value


def test_a_rejected_row_of_json_keeps_all_but_the_clear_text() -> None:
    (message,), reasons = rows().take(wire("e1", attributes=PERSONAL, amount="much"), 1)
    fields = json.loads(message.value)
    assert [reason.field for reason in reasons] == ["amount"]
    assert (fields["amount"], fields["attributes"]["device"]["os"]) == ("much", "x")
    assert unseal(key_of("acct-1"), "email", fields["attributes"]["email"]) == "ann@example.org"
    assert not shows(message.value)


@pytest.mark.parametrize(
    "raw",
    [
        wire("e1", attributes=PERSONAL)[:-1],
        wire("e1", attributes=PERSONAL, account_id=...),
        wire("e1", attributes=PERSONAL, account_id=7),
        wire("e1", attributes={"address": "Ann Example " * 30_000}),
    ],
)
def test_a_rejected_row_that_cannot_be_sealed_is_withheld(raw: bytes) -> None:
    (message,), reasons = rows().take(raw, 1)
    assert reasons
    assert message.value == WITHHELD.encode()
    assert not any(shows(value) for _, value in message.headers)


def test_a_broken_row_that_speaks_of_nobody_stays_as_it_came() -> None:
    (message,), reasons = rows().take(b'{"amount": broken', 1)
    assert reasons
    assert message.value == b'{"amount": broken'


def test_rows_of_a_table_are_sealed_and_rejected_ones_withheld() -> None:
    good = rows(profile=WITH_NAME).take(b"1,2019-03-05 00:20:15,20,145,58.03,0,Ann Example", 2)
    # `holder` is no name that we know of: the profile's reviewer has to say it
    assert not good.reasons
    assert is_sealed(json.loads(good.messages[0].value)["attributes"]["cardholder_name"])
    assert unseal(
        key_of("20"), "cardholdername", json.loads(good.messages[0].value)["attributes"]["cardholder_name"]
    )
    strict = PersonalFields(["holder"])
    good = rows(profile=WITH_NAME, personal=strict).take(
        b"1,2019-03-05 00:20:15,20,145,58.03,0,Ann Example", 2
    )
    assert not shows(good.messages[0].value)
    for bad in (b"1,never,20,145,58.03,0,Ann Example", b"1,2019-03-05 00:20:15,20,145,cheap,0,Ann Example"):
        (message,), reasons = rows(profile=WITH_NAME, personal=strict).take(bad, 2)
        assert reasons
        assert message.value == WITHHELD.encode()


def test_a_row_that_was_sealed_passes_again_without_any_key() -> None:
    (message,), _ = rows().take(wire("e1", attributes=PERSONAL, amount="much"), 1)
    mended = message.value.replace(b'"much"', b'"5.00"')
    (again,), reasons = rows(None).take(mended, 1)
    assert not reasons
    assert again.value == mended
    (_,), reasons = rows(None).take(wire("e1", attributes=PERSONAL), 1)
    assert [reason.rule for reason in reasons] == ["personal_data"]


def test_the_mark_of_a_withheld_row_is_not_that_of_a_card_number() -> None:
    assert MASK not in WITHHELD
