"""Which records a selection means, asked of DuckDB; and that what is shown of them does no harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import duckdb
import pytest
from rich.console import Console

from cli.quarantined import raw_as_json, record_as_json, show_groups, show_record, show_records
from lakehouse.quarantined import Group, Quarantined, RawRecord, Selection
from quality.contract import Violation

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
# offset, source, state, hours after noon, (rule, field) of each violation
ROWS: tuple[tuple[int, str | None, str, int, tuple[tuple[str, str], ...]], ...] = (
    (1, "bank", "open", 0, (("age", "event_ts"),)),
    (2, "bank", "redriven", 1, (("age", "event_ts"), ("format", "amount"))),
    (3, None, "open", 2, (("format", "event_ts"),)),
    (4, "it's", "open", 3, (("not_utf8", ""),)),
)
HOSTILE = "\x1b[2J[red]4111"


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (Selection(), {1, 2, 3, 4}),
        (Selection(rule="age"), {1, 2}),
        (Selection(field="event_ts"), {1, 2, 3}),
        (Selection(rule="format", field="event_ts"), {3}),  # of one and the same violation
        (Selection(field=""), {4}),
        (Selection(source="bank", state="open"), {1}),
        (Selection(source=""), {3}),
        (Selection(source="it's"), {4}),
        (Selection(since=NOON + HOUR, until=NOON + 3 * HOUR), {2, 3}),
        (Selection(rule="' OR true --"), set()),
    ],
    ids=str,
)
def test_a_selection_means_the_records_that_have_all_of_it(selection: Selection, meant: set[int]) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            'CREATE TABLE q (source text, state text, kafka_ts timestamptz, "offset" bigint, '
            "violations struct(rule text, field text)[])"
        )
        for offset, source, state, hours, told in ROWS:
            violations = [{"rule": rule, "field": field} for rule, field in told]
            row = [source, state, NOON + hours * HOUR, offset, violations]
            connection.execute("INSERT INTO q VALUES (?, ?, ?, ?, ?)", row)
        where, values = selection.condition()
        for name, value in values.items():
            connection.execute(f'SET VARIABLE "{name}" = ?', [value])
        found = connection.execute(f'SELECT "offset" FROM q WHERE {where}').fetchall()
    assert {offset for (offset,) in found} == meant


def test_what_is_shown_holds_no_card_number_and_nothing_that_a_terminal_obeys() -> None:
    told = (Violation("format", "amount", HOSTILE[:4], "what is wanted"),)
    record = Quarantined(
        "t", "topic", 0, 1, NOON, HOSTILE, told, 1, "redriven", "t/0/0", "t/0/2", NOON, "valid"
    )
    headers = (
        ("ce_source", HOSTILE.encode()),
        ("ce_id", b"4111-1111-1111-1111"),
        ("x", b"secret"),
        ("y", None),
    )
    raw = RawRecord(b"k", b'\xff\x1b[2J {"card": "4111 1111 1111 1111"}', headers)
    value = record_as_json(record) | raw_as_json(raw)
    shown = text_of(show_record, value) + text_of(show_records, [record], 1)
    shown += text_of(show_groups, [Group("age", "", HOSTILE, "open", 1, NOON, NOON)], 1)
    assert "\x1b" not in shown
    assert "[red]" in shown
    for text in (shown, str(value)):
        assert "1111" not in text.replace("[red]4111", "")
        assert "secret" not in text
    assert "[card number]" in shown
    assert "redriven by t/0/2" in shown
    assert raw_as_json(None)["in_raw"] is False


def text_of(show: Any, *what: Any) -> str:
    written = StringIO()
    show(Console(file=written, width=200, force_terminal=True, color_system=None), *what)
    return written.getvalue()
