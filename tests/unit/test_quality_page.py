"""What the quality page shows, and that nothing which partners name themselves can break it."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser

import duckdb
import pytest

from quality.drift import HIDDEN
from streaming.quality_page.material import Anomalies, Counted, EventHour, Reason
from streaming.quality_page.model import MOST_BARS, page_of
from streaming.quality_page.read import IDENTITIES, RECONCILIATION, read_identities
from streaming.quality_page.render import render
from streaming.quality_page.tables import MOST_ROWS, duration, share, tables_of
from streaming.quality_page.verdict import NO_NAME
from tests.pages import CARD, END, HOSTILE, HOUR, START, full, gate, identity, material


class Seen(HTMLParser):
    """Tags, ids, attributes and text of a page; every tag must be closed in its turn."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


# -- the verdict ---------------------------------------------------------------------------------------------


def test_without_a_reconciliation_it_is_not_known_whether_it_balances() -> None:
    assert page_of(material()).balance.is_good is None
    assert page_of(material(identities=[])).balance.is_good is None


def test_it_balances_if_every_identity_of_every_current_run_does() -> None:
    assert page_of(material(identities=[identity("a"), identity("b")])).balance.is_good is True
    broken = identity("b", state="broken", first_break="t-0@17")
    page = page_of(material(identities=[identity("a"), broken]))
    assert page.balance.is_good is False
    assert "t-0@17" in page.balance.detail
    assert page.needs[0].grave and "t-0@17" in page.needs[0].what


def test_a_broken_hour_counts_until_a_newer_run_looked_at_it_as_deeply() -> None:
    hour = {"scope_from": START, "scope_to": START + HOUR}
    broken = identity("a", run="old", depth="counts", state="broken", made_at=START, **hour)
    next_hour = identity("a", run="new", depth="counts", scope_from=START + HOUR, scope_to=START + 2 * HOUR)
    whole_by_counts = identity("a", run="new", depth="counts")
    of_tables = identity("b", run="new", depth="counts")
    deep = identity("a", run="new", depth="deep")
    assert page_of(material(identities=[broken, next_hour])).balance.is_good is False
    assert page_of(material(identities=[broken, of_tables])).balance.is_good is False
    assert page_of(material(identities=[broken, whole_by_counts])).balance.is_good is False
    assert page_of(material(identities=[broken, deep])).balance.is_good is True
    deep_and_broken = broken._replace(depth="deep")
    assert page_of(material(identities=[deep_and_broken, whole_by_counts])).balance.is_good is False


def test_gates_that_are_closed_or_held_need_a_person_first_until_they_end() -> None:
    held, ended = gate(1, "held", source="shop"), gate(2, "hold_ended", source="shop")
    closed = gate(3, "closed", "conservation", table_name="curated.payments")
    fields = full(["bank"])
    page = page_of(material(gates=[held, closed], drift=fields.drift))
    assert [need.grave for need in page.needs] == [True, True, False]
    assert page_of(material(gates=[held, ended, closed])).standing == [closed]
    assert page_of(material(gates=[])).needs == []


def test_where_nothing_is_wrong_nothing_needs_a_person() -> None:
    fine = material(counted=[Counted(START, "bank", 10, 0, 10, 0, 0)], identities=[identity("a")], gates=[])
    page = page_of(fine)
    assert (page.balance.is_good, page.needs) == (True, [])
    assert "Nothing" in Seen(render(page)).text


def test_what_reconciliation_keeps_is_read_whole() -> None:
    hour = f"TIMESTAMPTZ '{START.isoformat()}'"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA quality")
        connection.execute(f"""CREATE TABLE {RECONCILIATION} AS SELECT * FROM (VALUES
            ('r1', {hour}, 'deep', 'all records', NULL::TIMESTAMPTZ, NULL::TIMESTAMPTZ,
             'records', 'records = a + b', NULL, NULL,
             3.0000, 3.0000, '{{"a": "1", "b": "2"}}', 'balanced', 0, NULL)) AS t(run, made_at, depth, scope,
            scope_from, scope_to, identity, formula, currency, event_type, left_sum, right_sum, terms, state,
            breaks, first_break)""")
        within = {"start": hour, "end": hour.replace("T08", "T09")}
        (one,) = read_identities(connection.execute(IDENTITIES.format(**within)).fetchall())
    assert (one.terms, one.left, one.is_broken, one.made_at) == ({"a": "1", "b": "2"}, 3, False, START)


# -- figures -------------------------------------------------------------------------------------------------


def test_while_counts_lag_behind_the_tables_nothing_is_redelivered_less_than_never() -> None:
    page = page_of(material(counted=[Counted(START, "bank", 5, 0, 9, 1, 1)]))
    assert page.partners[0].redelivered == 0


def test_records_are_accepted_redelivered_or_quarantined() -> None:
    page = page_of(full(["bank", "shop"]))
    totals = {total.name: total.records for total in page.totals}
    assert totals["Records"] == totals["Accepted"] + totals["Redelivered"] + totals["Quarantined"]
    assert totals["Records"] == sum(row.records for row in page.material.counted)
    assert totals["Duplicates"] == 16
    bars = page.bars
    assert [sum(bar.accepted for bar in bars), sum(bar.quarantined for bar in bars)] == [
        totals["Accepted"],
        totals["Quarantined"],
    ]
    assert sum(p.records for p in page.partners) == totals["Records"]


@pytest.mark.parametrize("hours", [1, 2, 40, 60, 61, 168, 24 * 90, 24 * 400])
def test_bars_cover_the_whole_range_and_are_few_enough_to_be_seen(hours: int) -> None:
    page = page_of(material(end=START + timedelta(hours=hours)))
    assert page.bars[0].start == START
    assert page.bars[-1].start < page.material.end <= page.bars[-1].start + page.step
    assert len(page.bars) <= MOST_BARS


def test_partners_come_by_their_share_in_quarantine() -> None:
    rows = [Counted(START, "large", 1000, 0, 990, 10, 0), Counted(START, "bad", 10, 0, 5, 5, 0)]
    assert [p.name for p in page_of(material(counted=rows)).partners] == ["bad", "large"]


def test_long_tables_are_cut_and_say_so() -> None:
    reasons = [Reason("enum", "currency", "m", f"p{i}", i, 0) for i in range(MOST_ROWS + 7)]
    page = page_of(material(reasons=reasons))
    assert tables_of(page)["reasons"].left_out == 7
    assert "7 more rows are left out" in Seen(render(page)).text


def test_shares_and_delays_are_written_so_that_few_are_not_none() -> None:
    assert [share(0, 5), share(1, 10**6), share(10**6 - 1, 10**6), share(5, 5), share(0, 0)] == [
        "0.00 %",
        "< 0.01 %",
        "> 99.99 %",
        "100.00 %",
        "-",
    ]
    assert [duration(0.4), duration(59), duration(90), duration(7200), duration(172800)] == [
        "0.4 s",
        "59 s",
        "1.5 min",
        "2.0 h",
        "2.0 d",
    ]


# -- the page ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        material(),
        material(end=START + HOUR, gates=[], identities=[]),
        material(anomalies=Anomalies(24, 0, 40)),
        material(event_hours=[EventHour(START, 10, None, None)]),
        full(["bank"]),
        full([f"partner-{i}" for i in range(30)]),
        full(HOSTILE),
    ],
    ids=["empty", "an hour", "young", "open", "one partner", "thirty", "hostile"],
)
def test_a_page_is_whole_names_its_sections_and_asks_nobody_else(made: object) -> None:
    html = render(page_of(made))  # type: ignore[arg-type]
    seen = Seen(html)
    assert html.startswith("<!doctype html>")
    assert seen.tags.count("h1") == 1
    assert seen.tags.count("h2") >= 9
    assert not {"script", "img", "iframe", "object", "form"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    links = [v or "" for name, v in seen.attributes if name in ("href", "src", "xlink:href")]
    assert all(link.startswith(("#", "data:,")) for link in links)
    assert not re.search(r"(?:url\(|@import|https?:)(?!#|//www\.w3\.org/)", html.replace("url(#", "#"))
    ids = [v for name, v in seen.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {link[1:] for link in links if link.startswith("#")}
    assert targets <= set(ids)
    assert seen.tags.count("caption") == seen.tags.count("table")


def test_every_plot_says_in_words_what_it_shows() -> None:
    html = render(page_of(full(["bank"])))
    assert html.count("<svg") == html.count('role="img" aria-label="') > 5
    assert "Quarantined: 800 in all, most from" in html.replace("\n", " ")


def test_what_the_contract_warns_of_is_shown_by_partner_and_only_where_there_is_any() -> None:
    assert tables_of(page_of(full(["bank"])))["warned"].rows == [("reference", "bank", "12")]
    assert "Warned of" in render(page_of(full(["bank"]))) and "Warned of" not in render(page_of(material()))


def test_hostile_names_are_shown_as_text_and_card_numbers_not_at_all() -> None:
    html = render(page_of(full(HOSTILE)))
    text = Seen(html).text
    assert "<script>alert" not in html and "<img" not in html
    assert "<script>alert('x')</script>" in text
    assert CARD not in html and HIDDEN in text
    assert "x" * 129 not in html
    assert "{{ 7 * 7 }}" in text
    assert NO_NAME in text
    assert "Crédit Lunaire 東京 $\\alpha$ 😀" in text


def test_a_page_is_the_same_for_the_same_rows() -> None:
    assert render(page_of(full(["bank"]))) == render(page_of(full(["bank"])))


def test_the_page_tells_what_it_was_made_from() -> None:
    text = Seen(render(page_of(material()))).text
    for said in ("curated.payments", "123", "quality.partner_hours", '{"topic":{"0":7}}', "version 1"):
        assert said in text
    assert f"{END:%Y-%m-%d %H:%M}" in text
