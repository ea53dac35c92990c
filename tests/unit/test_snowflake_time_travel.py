"""Tables read at a version: what a SELECT names, what is sent instead, and which way is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from lakehouse import moments
from lakehouse.definitions import BY_NAME, PAYMENTS, RAW, TRANSACTIONS
from lakehouse.moments import Moment
from lakehouse.query import Result
from snowflake_external import time_travel
from snowflake_external.deployment import Bearer, Deployment, RestCatalog, S3Volume
from snowflake_external.errors import Denied, SnowflakeError, Unreachable, WrongQuery
from snowflake_external.pinned_sql import Pin, Select
from snowflake_external.session import Rows
from snowflake_external.sql import identifier
from snowflake_external.time_travel import Reading, Way, read_at

DEPLOYMENT = Deployment(S3Volume("s3://b/w"), RestCatalog("https://c.example", Bearer("t")))
TABLE = identifier("PAYWAVE_LAKE", "CURATED", "PAYMENTS")
COUNT = f"SELECT count(*) AS n FROM {PAYMENTS}"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@pytest.mark.parametrize(
    ("sql", "pinned"),
    [
        ("SELECT * FROM curated.payments", "SELECT * FROM <p>"),
        ("select p.amount from Curated . PAYMENTS p;", "select p.amount from <p> p"),
        ('SELECT 1 FROM "curated"."payments" AS p -- curated.payments', "SELECT 1 FROM <p> AS p"),
        (
            "/* curated.payments */ WITH a AS (SELECT * FROM curated.payments) SELECT 'raw.x' FROM a",
            "/* curated.payments */ WITH a AS (SELECT * FROM <p>) SELECT 'raw.x' FROM a",
        ),
        (
            "SELECT p.attributes:a.b.c FROM curated.payments p JOIN curated.transactions t USING (a)",
            "SELECT p.attributes:a.b.c FROM <p> p JOIN <t> t USING (a)",
        ),
        (
            r"SELECT 'it''s \' FROM curated.payments' FROM curated.payments",
            r"SELECT 'it''s \' FROM curated.payments' FROM <p>",
        ),
        ("SELECT $$;$$ FROM curated.payments", "SELECT $$;$$ FROM <p>"),
        (
            """SELECT p."call", 'SYSTEM$X' FROM curated.payments p, TABLE(FLATTEN(input => p.a)) f""",
            """SELECT p."call", 'SYSTEM$X' FROM <p> p, TABLE(FLATTEN(input => p.a)) f""",
        ),
    ],
)
def test_every_table_that_is_named_is_read_at_its_version(sql: str, pinned: str) -> None:
    assert Select.of(sql, BY_NAME).at({PAYMENTS: "<p>", TRANSACTIONS: "<t>"}) == pinned


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("", "one SELECT"),
        ("DELETE FROM curated.payments", "one SELECT"),
        ("SELECT 1 FROM curated.payments; DROP DATABASE x", "one SELECT"),
        ("SELECT 1 FROM curated.payments ->> DELETE FROM x", "one SELECT"),
        (
            "WITH p AS PROCEDURE () RETURNS VARCHAR LANGUAGE SQL AS $$ BEGIN DROP DATABASE x; END $$, "
            "c AS (SELECT 1 AS k FROM curated.payments) CALL p()",
            "PROCEDURE may do more than read",
        ),
        ("WITH c AS (SELECT 1 FROM curated.payments) CALL p()", "CALL may do more"),
        ("SELECT 1 INTO :x FROM curated.payments", "INTO may do more"),
        ("SELECT 1 FROM curated.payments, IDENTIFIER('X.CURATED.PAYMENTS')", "IDENTIFIER may do more"),
        ("SELECT System$Cancel_All_Queries(1) FROM curated.payments", "Cancel_All_Queries may do more"),
        ('SELECT "SYSTEM$CANCEL_ALL_QUERIES"(1) FROM curated.payments', "CANCEL_ALL_QUERIES.* may do more"),
        ("""SELECT 1 FROM curated.payments, "IDENTIFIER"('X.Y.Z')""", "IDENTIFIER.* may do more"),
        ("SELECT 1 FROM curated.payments, TABLE('X.CURATED.PAYMENTS')", r"TABLE\(…\) may read anything"),
        ("SELECT 1 FROM curated.payments, TABLE($name)", "may read anything"),
        ("SELECT 1 FROM curated.payments, table ( :name )", "may read anything"),
        ("SELECT 1 FROM curated.payments, TABLE(RESULT_SCAN('x'))", "may read anything"),
        ("SELECT 1 FROM curated.payments, TABLE(x.y.f())", "may read anything"),
        ("SELECT 1 FROM curated.payments, @stage/file.csv", "one SELECT"),
        ("SELECT 1", "no table of the lake"),
        ("SELECT 1 FROM paywave.payments.payments", "too many parts"),
        ("SELECT 1 FROM curated.payments, db.curated.payments", "too many parts"),
        ("SELECT curated.payments.amount FROM curated.payments", "too many parts"),
        ("SELECT 'curated.payments' FROM a -- curated.payments", "no table of the lake"),
    ],
)
def test_what_might_read_something_else_is_refused(sql: str, said: str) -> None:
    with pytest.raises(WrongQuery, match=said):
        Select.of(sql, BY_NAME)


@given(TEXT, TEXT)
def test_nothing_within_a_string_or_a_quoted_name_is_taken_for_a_table(text: str, name: str) -> None:
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    alias = identifier(f"a{name}")
    sql = f"SELECT {quoted} AS {alias} FROM curated.payments"
    assert Select.of(sql, BY_NAME).at({PAYMENTS: "<p>"}) == f"SELECT {quoted} AS {alias} FROM <p>"


@given(TEXT)
def test_a_tag_is_one_constant_whatever_it_is_called(tag: str) -> None:
    (statement,) = sqlglot.parse(
        f"SELECT 1 FROM t {Pin(1, tag)}".replace("VERSION_TAG", "VERSION"), dialect="snowflake"
    )
    assert statement is not None
    (when,) = statement.find_all(exp.HistoricalData)
    assert when.expression.this == tag


@dataclass
class Account:
    """Answers as told: errors by a part of the statement, where a tag stands, and one row."""

    errors: Mapping[str, SnowflakeError] = field(default_factory=dict)
    tagged: int | None = 7
    sent: list[str] = field(default_factory=list)

    def ask(self, text: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        self._send(text)
        return [{"version_id": self.tagged}] if "VERSION_REFS" in text and self.tagged else []

    def fetch(self, text: str) -> Rows:
        self._send(text)
        return Rows(["n"], [(3,)])

    def _send(self, text: str) -> None:
        self.sent.append(text)
        for part, error in self.errors.items():
            if part in text:
                raise error


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lake where every table stands at snapshot 7 at every moment, and has one row."""
    monkeypatch.setattr(time_travel, "load_table", lambda _catalog, name: name)
    monkeypatch.setattr(time_travel, "snapshots_at", lambda tables, _: (dict.fromkeys(tables, 7), None))
    monkeypatch.setattr(
        time_travel, "run_query", lambda _c, _p, sql, _m: Result(["n"], [(3,)], {PAYMENTS: 7})
    )


def read(account: Account, moment: Moment = moments.NOW, sql: str = COUNT) -> Reading:
    return read_at(DEPLOYMENT, None, {}, account, sql, moment)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("moment", "clause"),
    [(Moment(snapshots={PAYMENTS: 7}), "AT (VERSION => 7)"), (Moment(tag="t"), "AT (VERSION_TAG => 't')")],
)
def test_snowflake_reads_if_it_can(lake: None, moment: Moment, clause: str) -> None:
    account = Account()
    reading = read(account, moment)
    assert (reading.way, reading.rows, reading.snapshots) == (Way.SNOWFLAKE, [(3,)], {PAYMENTS: 7})
    assert reading.statement == account.sent[-1] == f"SELECT count(*) AS n FROM {TABLE} {clause}"
    assert account.sent[0] == f"SELECT 1 FROM {TABLE} LIMIT 0"


@pytest.mark.parametrize(
    ("account", "moment", "why"),
    [
        (Account({"AT (VERSION": SnowflakeError("unexpected")}), moments.NOW, "unexpected"),
        (Account({"VERSION_REFS": SnowflakeError("unknown")}), Moment(tag="t"), "unknown"),
        (Account(tagged=6), Moment(tag="t"), "elsewhere, or not yet"),
        (Account(tagged=None), Moment(tag="t"), "elsewhere, or not yet"),
    ],
)
def test_where_it_cannot_the_lake_is_read_and_the_reason_told(
    lake: None, account: Account, moment: Moment, why: str
) -> None:
    reading = read(account, moment)
    assert (reading.way, reading.rows, reading.statement) == (Way.LAKEHOUSE, [(3,)], COUNT)
    assert why in reading.why


def test_what_snowflake_is_not_shown_is_read_in_the_lake_without_asking_it(lake: None) -> None:
    account = Account()
    reading = read(account, sql=f"SELECT 1 FROM {RAW} JOIN {PAYMENTS} USING (topic_id)")
    assert (reading.way, account.sent) == (Way.LAKEHOUSE, [])
    assert RAW in reading.why


@pytest.mark.parametrize(
    "errors",
    [
        {" LIMIT 0": Denied("may not")},
        {"AT (VERSION": Unreachable("gone")},
        {"count(*)": SnowflakeError("no")},
    ],
)
def test_a_refusal_an_outage_and_a_wrong_query_are_no_reason_to_go_another_way(
    lake: None, errors: Mapping[str, SnowflakeError]
) -> None:
    (error,) = errors.values()
    with pytest.raises(type(error), match=str(error)):
        read(Account(errors))
