"""Partner profiles: rows become valid events, the same each time; rows that do not fit go on as they came."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quality.contract import HISTORY, Event
from quality.judge import judge
from streaming.errors import ProfileError
from streaming.event_file import open_event_file
from streaming.message import Message
from streaming.partners import Profile, RowMapper, load_profiles, recognise
from streaming.partners.profile import load_profile
from streaming.partners.rows import UnmappableRow

SAMPLE = Path(__file__).parents[1] / "data" / "card-transactions-sample.csv"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SHIPPED = load_profiles()["card-transactions"]
HEADER = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]

# A made-up acquirer: semicolons, decimal commas, Berlin time, an old encoding.
SETTLEMENT = """
name = "settlement"
description = "A European acquirer's settlement file"
source = "acquirer"
delimiter = ";"
encoding = "cp1252"
timezone = "Europe/Berlin"
time_format = "%d.%m.%Y %H:%M:%S"
decimal_comma = true
row_key = ["Nummer", "Art"]
[fields]
event_type = "{Art}"
event_ts = "{Zeit}"
account_id = "{Konto}"
card_id = "card-of-{Konto}"
merchant_id = "{Händler}"
amount = "{Betrag}"
currency = "EUR"
network = "VISA"
status = "APPROVED"
[attributes]
note = "{Händler}/{Nummer}"
"""


def sample() -> list[Message]:
    with open_event_file(SAMPLE) as file:
        return list(file.messages())


def row(line: str, profile: Profile = SHIPPED, header: list[str] | None = None) -> list[dict[str, Any]]:
    mapper = RowMapper(profile, header or HEADER, "day.csv")
    return [json.loads(m.value) for m in mapper.messages(line.encode(profile.encoding), 2)]


@pytest.fixture
def settlement(tmp_path: Path) -> Profile:
    path = tmp_path / "settlement.toml"
    path.write_text(SETTLEMENT, "utf-8")
    return load_profile(path)


def test_every_row_is_a_capture_and_fraud_adds_a_chargeback() -> None:
    events = [judge(m.value, NOW, HISTORY[0], archive=True) for m in sample()]
    assert all(isinstance(e, Event) for e in events), events
    captures = [e for e in events if isinstance(e, Event) and e.event_type == "CAPTURE"]
    chargebacks = [e for e in events if isinstance(e, Event) and e.event_type == "CHARGEBACK"]
    assert (len(captures), len(chargebacks)) == (40, 3)
    captured = {c.transaction_ref: c for c in captures}
    for chargeback in chargebacks:
        of = captured[chargeback.transaction_ref]
        assert (of.amount, of.account_id) == (chargeback.amount, chargeback.account_id)
        assert of.event_id != chargeback.event_id
    rows = SAMPLE.read_text().splitlines()[1:]
    assert sum(c.amount for c in captures) == sum(Decimal(r.split(",")[4]) for r in rows)


def test_an_archive_says_so_in_a_header_and_is_too_old_without_it() -> None:
    message = sample()[0]
    assert ("archive", b"true") in message.headers
    assert ("ce_source", b"card-simulator") in message.headers
    verdict = judge(message.value, NOW, HISTORY[0])
    assert isinstance(verdict, list)
    assert [v.rule for v in verdict] == ["age"]


def test_the_same_file_gives_the_same_bytes_each_time() -> None:
    assert sample() == sample()
    assert len({json.loads(m.value)["event_id"] for m in sample()}) == 43


def test_ids_never_change() -> None:
    """Pinned: another id for the same row would count every archive twice."""
    (event,) = row("1,2019-03-05 00:20:15,20,145,58.03,0")
    assert event["event_id"] == "478cd8f0-8d24-5bea-83ac-9e11941fc48c"
    assert event["event_ts"] == "2019-03-05T00:20:15.000000Z"
    assert event["ingest_ts"] == "2019-03-05T00:20:16.000000Z"


@pytest.mark.parametrize(
    "line",
    [
        b"1,2019-03-05 00:20:15,20,145,58.03",
        b"1,2019-03-05 00:20:15,20,145,58.03,0,more",
        b"1,yesterday,20,145,58.03,0",
        b"1,2019-02-30 00:20:15,20,145,58.03,0",
        b"1,2019-03-05 00:20:15,20,145,58.03,maybe",
        b'1,"2019-03-05 00:20:15,20,145,58.03,0',
        b"1,2019-03-05 00:20:15,\xff,145,58.03,0",
        b"\x00\x01",
        b" ",
    ],
)
def test_a_row_that_cannot_be_mapped_goes_on_as_it_came_and_is_quarantined(line: bytes) -> None:
    (message,) = RowMapper(SHIPPED, HEADER, "day.csv").messages(line + b"\r\n", 17)
    assert (message.value, message.key) == (line, None)
    assert {("file", b"day.csv"), ("line", b"17")} <= set(message.headers)
    assert isinstance(judge(message.value, NOW, HISTORY[0], archive=True), list)


def test_an_amount_that_is_none_is_left_to_the_contract() -> None:
    (event,) = row("1,2019-03-05 00:20:15,20,145,cheap,0")
    assert event["amount"] == "cheap"


def test_blank_lines_are_no_rows() -> None:
    assert row("") == row("\r\n") == []


def test_another_notation_zone_and_encoding(settlement: Profile) -> None:
    header = ["Nummer", "Art", "Zeit", "Konto", "Händler", "Betrag"]
    (event,) = row('7;REFUND;01.07.2026 14:00:00;K1;"Müller; Söhne";1.234,50', settlement, header)
    assert event["amount"] == "1234.50"
    assert event["event_ts"] == "2026-07-01T12:00:00.000000Z"
    assert event["merchant_id"] == "Müller; Söhne"
    assert event["attributes"] == {"note": "Müller; Söhne/7"}


def test_an_hour_that_does_not_exist_is_not_guessed_and_of_a_double_one_the_first_is_meant(
    settlement: Profile,
) -> None:
    header = ["Nummer", "Art", "Zeit", "Konto", "Händler", "Betrag"]
    mapper = RowMapper(settlement, header, "day.csv")
    (skipped,) = mapper.messages(b"7;AUTH;29.03.2026 02:30:00;K1;M;1,00", 2)
    assert skipped.value.startswith(b"7;AUTH")
    (event,) = row("7;AUTH;25.10.2026 02:30:00;K1;M;1,00", settlement, header)
    assert event["event_ts"] == "2026-10-25T00:30:00.000000Z"


def test_a_profile_fits_headers_with_more_columns_in_any_order() -> None:
    header = b"EXTRA,TX_FRAUD,TX_AMOUNT,TERMINAL_ID,CUSTOMER_ID,TX_DATETIME,TRANSACTION_ID\r\n"
    assert recognise(header, [SHIPPED]) is SHIPPED
    assert recognise(b"TX_FRAUD,TX_AMOUNT\n", [SHIPPED]) is None
    assert recognise(b"\xff\xfe", [SHIPPED]) is None


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('currency = "EUR"', "", "currency"),
        ("Europe/Berlin", "Europe/Atlantis", "time zone"),
        ("cp1252", "utf-16", "single-byte"),
        ("[fields]", "[fields]\ncolour = 'red'", "colour"),
        ("[fields]", "[fields", "wrong"),
        ('source = "acquirer"', "", "source"),
    ],
)
def test_a_wrong_profile_is_an_error_that_says_what(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(SETTLEMENT.replace(old, new), "utf-8")
    with pytest.raises(ProfileError, match=complaint):
        load_profile(path)


def amount_of(profile: Profile, text: str) -> Decimal | None:
    """What a row of the acquirer's makes of an amount; None where it cannot be mapped."""
    header = ["Nummer", "Art", "Zeit", "Konto", "Händler", "Betrag"]
    mapper = RowMapper(profile, header, "day.csv")
    try:
        (event,) = mapper.events(f"7;AUTH;20.11.2026 11:00:00;K1;Laden;{text}".encode(profile.encoding))
    except UnmappableRow:
        return None
    return Decimal(event["amount"])


@pytest.mark.parametrize(
    "text",
    ["12.50", "1,234.56", "1.23,4", "1234.567,00", "1.2345", ",5", "5,", "1,2,3", "1e3", "--1", "+1", ""],
)
def test_an_amount_in_another_notation_than_the_profiles_is_not_guessed_at(
    settlement: Profile, text: str
) -> None:
    assert amount_of(settlement, text) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.decimals(-(10**9), 10**9, allow_nan=False, places=2), st.booleans())
def test_an_amount_with_a_decimal_comma_is_read_as_it_is_meant_or_not_at_all(
    settlement: Profile, amount: Decimal, has_points: bool
) -> None:
    written = f"{amount:,.2f}" if has_points else f"{amount:.2f}"
    assert amount_of(settlement, written.translate(str.maketrans(",.", ".,"))) == amount
    assert amount_of(settlement, written) is None  # two digits after a point are no thousands
