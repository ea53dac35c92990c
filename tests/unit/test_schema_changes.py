"""Which changes of a schema break, which do not, and that nothing called compatible refuses an old event."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import jsonschema_rs
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.main import paywave
from quality.contract import HISTORY, Contract
from quality.event_schema import Schema, event_schema
from quality.schema_changes import breaks
from streaming.errors import SchemaError
from streaming.schemas.files import (
    Break,
    find_breaks,
    find_drift,
    find_rewritten,
    read_schemas,
    release,
    schema_text,
    write,
)
from streaming.schemas.registry import subject_of
from streaming.simulate import Mix, Plan
from tests.schema_edits import BREAKING, HARMLESS, OLD, Change, changed
from tests.streams import steady

LATER = datetime(2028, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_change_is_no_break(name: str) -> None:
    assert breaks(OLD, changed(HARMLESS[name])) == []


@pytest.mark.parametrize("name", BREAKING)
def test_a_break_is_named(name: str) -> None:
    change, said = BREAKING[name]
    assert any(said in what for what in breaks(OLD, changed(change)))


SAMPLE = [json.loads(line) for line in steady(Plan.recent(200, 3, Mix(unknown_fields=0.5))).lines()]
VALID = [fields for fields in SAMPLE if jsonschema_rs.is_valid(OLD, fields)]
CHANGES = [*HARMLESS.values(), *(change for change, _ in BREAKING.values())]


@given(st.lists(st.sampled_from(CHANGES), max_size=3, unique=True))
def test_what_is_called_compatible_accepts_every_old_event(changes: list[Change]) -> None:
    schema = changed(lambda new: [change(new) for change in changes])
    if not breaks(OLD, schema):
        accepts = jsonschema_rs.validator_for(schema).is_valid
        assert all(accepts(fields) for fields in VALID)
    assert len(VALID) > 150


def test_the_versions_there_are_break_only_where_they_say_so() -> None:
    found = find_breaks({c.version: event_schema(c) for c in HISTORY})
    assert {(one.version, one.against, one.announced) for one in found} == {(2, 1, True)}


def test_every_earlier_version_counts_not_only_the_last() -> None:
    wide, narrow = {"required": ["a"]}, {"required": ["a", "b"]}
    history = tuple(replace(HISTORY[0], version=v) for v in (1, 2, 3))
    found = find_breaks({1: wide, 2: narrow, 3: narrow}, history)
    assert [(one.version, one.against) for one in found] == [(2, 1), (3, 1)]
    assert not any(one.announced for one in found)


def test_an_announced_break_opens_a_line_of_its_own() -> None:
    history = (HISTORY[0], replace(HISTORY[1], announced_break="b"), Contract(3, LATER), Contract(4, LATER))
    schemas: dict[int, Schema] = {
        1: {},
        2: {"required": ["a"]},
        3: {"required": ["a"]},
        4: {"required": ["b"]},
    }
    assert find_breaks(schemas, history) == [
        Break(2, 1, "the event: a is now required", True),
        Break(4, 2, "the event: b is now required", False),
        Break(4, 3, "the event: b is now required", False),
    ]
    assert [subject_of("t", v, history) for v in (1, 2, 3)] == ["t-value", "t-value.v2", "t-value.v2"]


def test_a_version_in_force_is_never_rewritten() -> None:
    mine = {
        1: {"x-effective-from": "2020-01-01T00:00:00+00:00"},
        2: {"x-effective-from": "2030-01-01T00:00:00+00:00"},
    }
    changed_all = {version: {**schema, "required": ["x"]} for version, schema in mine.items()}
    other_words = {version: {**schema, "title": "other"} for version, schema in mine.items()}
    assert find_rewritten(mine, mine) == find_rewritten(other_words, mine) == []
    earlier = {1: {"x-effective-from": "2019-01-01T00:00:00+00:00"}}
    assert len(find_rewritten(earlier | {2: mine[2]}, mine)) == 1
    assert len(find_rewritten(changed_all, mine)) == 2
    assert find_rewritten(changed_all, mine)[0].startswith(
        "v1.json is not what was released; in force from 2020"
    )
    assert [problem[:25] for problem in find_rewritten(mine, {1: mine[1]})] == ["v2.json was never release"]


def test_a_shared_rule_that_becomes_stricter_is_noticed_though_all_versions_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, released, page = tmp_path / "schemas", tmp_path / "released", tmp_path / "page.md"
    write(folder, page)
    assert len(release(LATER, folder, released)) == len(HISTORY) and release(LATER, folder, released) == []
    monkeypatch.setattr("quality.event_schema.MAX_ID_BYTES", 16)
    write(folder, page)
    assert all(one.announced for one in find_breaks(read_schemas(folder))), "no version breaks with another"
    assert len(find_rewritten(read_schemas(folder), read_schemas(released))) == len(HISTORY)
    with pytest.raises(SchemaError, match=r"v1.json is in force since 1970"):
        release(LATER, folder, released)


def test_files_are_written_and_held_to_the_code(tmp_path: Path) -> None:
    folder, page = tmp_path / "schemas", tmp_path / "docs" / "page.md"
    assert sorted(path.name for path in write(folder, page)) == ["page.md", "v1.json", "v2.json"]
    assert write(folder, page) == [] == find_drift(folder, page)
    (folder / "v1.json").write_text("{}")
    (folder / "v9.json").write_text("{}")
    page.write_text("")
    assert find_drift(folder, page) == [
        "v1.json is not what the contract says",
        "v9.json belongs to no version of the contract",
        "page.md is not what the contract says",
    ]


def test_the_command_refuses_a_break_and_shows_what_it_is(tmp_path: Path) -> None:
    result = CliRunner().invoke(paywave, ["schemas", "check", "--output", "json"])
    assert (result.exit_code, json.loads(result.stdout)["ok"]) == (0, True)
    for contract in HISTORY:
        (tmp_path / f"v{contract.version}.json").write_text(schema_text(event_schema(contract)))
    third = event_schema(HISTORY[1])
    third["required"].append("channel")
    (tmp_path / "v3.json").write_text(schema_text(third))
    result = CliRunner().invoke(paywave, ["schemas", "check", "--folder", str(tmp_path)])
    assert result.exit_code == 1
    assert "BREAK: v3 against v2: the event: channel is now required" in result.stdout
    assert "v1, v2, v3: refused" in result.stdout
