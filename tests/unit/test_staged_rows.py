"""What pandera states of the curated tables: rows that the contract made pass, spoilt ones are named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.definitions import BY_NAME, PAYMENTS, QUARANTINE, VERSIONS
from lakehouse.errors import AuditFailed
from lakehouse.staged_rows import check_rows, schema_of
from quality.contract import Violation
from quality.policy import STAGED_ROWS
from tests.events import KAFKA_TS, event_id, valid, wire
from tests.reference import expected
from tests.rows import arrow
from tests.streams import dirty

Row = dict[str, Any]
COORDINATES = {"topic_id": "topic", "topic": "payments.events", "partition": 2, "offset": 7}


def version(**changes: Any) -> Row:
    fields = valid(wire(**changes))._asdict()
    fields["first_ingest_ts"] = fields.pop("ingest_ts")
    return fields | COORDINATES | {"source": "bank", "kafka_ts": KAFKA_TS}


def payment(**changes: Any) -> Row:
    row = version(**changes)
    del row["kafka_ts"]
    return row | {"event_ids": [row["event_id"]], "flags": []}


def quarantined() -> Row:
    violation = Violation("enum", "currency", "XX", "currency: not a known value")._asdict()
    judged = {"violations": [violation], "contract_version": 1, "state": "open"}
    return COORDINATES | {"kafka_ts": KAFKA_TS, "source": None} | judged


MAKERS: dict[str, Callable[[], Row]] = {VERSIONS: version, PAYMENTS: payment, QUARANTINE: quarantined}


def check(table: str, *rows: Row) -> None:
    check_rows(arrow(BY_NAME[table], list(rows)), BY_NAME[table])


@pytest.mark.parametrize("table", MAKERS)
def test_rows_as_they_are_made_pass(table: str) -> None:
    check(table, MAKERS[table]())
    check(table)


@settings(max_examples=40)  # each is judged by pandera twice
@given(
    amount=st.decimals(0, 10**15 - 1, places=2).map(str),
    name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=32),
    revision=st.none() | st.integers(0, 2**63 - 1),
    attributes=st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=9), st.text("ab{}\\", max_size=9)
    ),
)
def test_whatever_the_contract_lets_pass_passes(
    amount: str, name: str, revision: Any, attributes: Any
) -> None:
    fields = {"amount": amount, "merchant_id": name, "revision": revision, "attributes": attributes}
    check(VERSIONS, version(**fields))
    check(PAYMENTS, payment(**fields, transaction_ref=name))


@pytest.mark.parametrize("seed", [1, 11, 2026])
def test_whatever_the_fold_makes_of_a_dirty_stream_passes(seed: int) -> None:
    now = datetime.now(UTC)
    place = {"topic_id": "topic", "topic": "payments.events", "partition": 0, "kafka_ts": now, "headers": []}
    lines = dirty(600, seed).lines()
    for table, rows in expected(place | {"offset": k, "value": v} for k, v in enumerate(lines)).items():
        assert len(rows) > 20
        check(table, *rows.values())


SPOILT: list[tuple[str, str, Any]] = [
    ("event_id", "a UUID", "e1"),
    ("event_id", "not_nullable", None),
    ("original_event_id", "a UUID", "E" * 36),
    ("event_type", "a known type", "auth"),
    ("account_id", "1 to 128 bytes", ""),
    ("merchant_id", "1 to 128 bytes", "é" * 65),
    ("transaction_ref", "1 to 128 bytes", ""),
    ("amount", "0 or more", Decimal("-0.0100")),
    ("amount", "decimal places", Decimal("1.0001")),
    ("currency", "a known currency", "XXY"),
    ("network", "a known network", "DINERS"),
    ("status", "a known status", "PENDING"),
    ("revision", "1 or more", 0),
    ("attributes", "an object", "[]"),
    ("content_hash", "a sha256", "0" * 63),
    ("business_key", "a sha256", "F" * 64),
    ("partition", "0 or more", -1),
    ("offset", "not_nullable", None),
]


@pytest.mark.parametrize("table", [VERSIONS, PAYMENTS])
@pytest.mark.parametrize(("column", "says", "value"), SPOILT)
def test_a_spoilt_value_is_named_by_check_and_coordinates(
    table: str, column: str, says: str, value: Any
) -> None:
    good = MAKERS[table]()
    with pytest.raises(AuditFailed, match=says) as failed:
        check(table, good, good | {"offset": 8, column: value})
    assert (failed.value.gate, failed.value.table) == (STAGED_ROWS, table)
    if column not in COORDINATES:
        assert "topic-2@8" in str(failed.value)
        assert "topic-2@7" not in str(failed.value)


def test_a_row_is_held_against_itself() -> None:
    with pytest.raises(AuditFailed, match="ahead of its record"):
        check(VERSIONS, version() | {"kafka_ts": version()["event_ts"] - timedelta(minutes=6)})
    check(VERSIONS, version() | {"kafka_ts": None})
    with pytest.raises(AuditFailed, match=r"row: the event .* is a member \(1: topic-2@7\)"):
        check(PAYMENTS, payment() | {"event_ids": [event_id("e2")]})
    check(PAYMENTS, payment(status="REVERSED", original="e2") | {"event_ids": [event_id("e2")]})
    with pytest.raises(AuditFailed, match="at least one"):
        check(PAYMENTS, payment() | {"event_ids": []})
    with pytest.raises(AuditFailed, match="decimal places"):
        check(PAYMENTS, payment(currency="JPY", amount="100") | {"amount": Decimal("100.5")})


def test_quarantine_says_why_and_by_which_contract() -> None:
    with pytest.raises(AuditFailed, match="at least one"):
        check(QUARANTINE, quarantined() | {"violations": []})
    with pytest.raises(AuditFailed, match="a known version"):
        check(QUARANTINE, quarantined() | {"contract_version": 99})


def test_values_are_masked_and_examples_few() -> None:
    spoilt = [version() | {"offset": k, "account_id": "4111111111111111" * 9} for k in range(50)]
    with pytest.raises(AuditFailed) as failed:
        check(VERSIONS, *spoilt)
    assert "411111" not in str(failed.value)
    assert "(50: topic-2@0 '4111…" in str(failed.value)
    assert str(failed.value).count("topic-2@") == 3


def test_a_column_of_another_type_or_name_is_found() -> None:
    rows = arrow(BY_NAME[VERSIONS], [version()])
    as_text = rows.set_column(rows.schema.get_field_index("amount"), "amount", pa.array(["100.0000"]))
    for wrong in (as_text, rows.drop_columns(["currency"]), rows.append_column("more", pa.array([1]))):
        with pytest.raises(AuditFailed, match=r"amount: dtype|currency|more"):
            check_rows(wrong, BY_NAME[VERSIONS])


def test_no_environment_variable_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANDERA_VALIDATION_ENABLED", "False")
    monkeypatch.setattr("pandera.config.CONFIG.validation_enabled", False)
    with pytest.raises(AuditFailed):
        check(VERSIONS, version() | {"currency": "???"})


@pytest.mark.parametrize("table", MAKERS)
def test_the_schema_has_the_columns_of_the_definition(table: str) -> None:
    stated = schema_of(BY_NAME[table]).columns
    assert {name: not c.nullable for name, c in stated.items()} == {
        c.name: c.required for c in BY_NAME[table].columns
    }
