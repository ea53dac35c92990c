"""Registering with a real Apicurio Registry, and our comparison of schemas held to its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from cli.main import paywave
from quality.contract import HISTORY, Contract
from quality.event_schema import Schema, event_schema
from quality.schema_changes import breaks
from streaming.errors import SchemaError
from streaming.schemas.files import schema_text
from streaming.schemas.registry import Registry, register
from tests.apicurio import apicurio
from tests.schema_edits import BREAKING, HARMLESS, OLD, changed

pytestmark = pytest.mark.integration

# Where the registry refuses what we allow, and why we do: docs/adr/0016.
STRICTER = {"a new optional field", "a new currency with a condition of its own"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with apicurio(tmp_path_factory.mktemp("apicurio")) as running:
        yield running


def versions_of(registry: Registry, subject: str) -> list[int]:
    _, found = registry.ask("GET", f"subjects/{subject}/versions")
    return found  # type: ignore[no-any-return]


def is_compatible(registry: Registry, schema: Schema) -> bool:
    body = {"schemaType": "JSON", "schema": schema_text(schema)}
    _, answer = registry.ask("POST", "compatibility/subjects/compared-value/versions/latest", body)
    return answer["is_compatible"]  # type: ignore[no-any-return]


def test_versions_are_registered_once_and_held_to_the_rule(registry: Registry) -> None:
    def run(*more: str) -> list[str]:
        arguments = ["schemas", "register", "--registry", registry.url, "--output", "json", *more]
        result = CliRunner().invoke(paywave, arguments, catch_exceptions=False)
        return [one["state"] for one in json.loads(result.stdout)["schemas"]]

    assert run("--dry-run") == ["missing", "missing"]
    assert run() == ["registered", "registered"]
    assert run() == ["unchanged", "unchanged"]
    # the second version announces a break: it has a subject of its own
    for subject, version in (("payments.events-value", 1), ("payments.events-value.v2", 2)):
        assert versions_of(registry, subject) == [1]
        _, found = registry.ask("GET", f"subjects/{subject}/versions/1")
        assert found["schemaType"] == "JSON"
        assert json.loads(found["schema"]) == event_schema(HISTORY[version - 1])
        assert registry.ask("GET", f"config/{subject}")[1] == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}


def test_our_comparison_is_that_of_the_registry(registry: Registry) -> None:
    register(registry, "compared", {1: OLD}, HISTORY[:1])
    edits = HARMLESS | {name: change for name, (change, _) in BREAKING.items()}
    ours = {name: not breaks(OLD, changed(edit)) for name, edit in edits.items()}
    theirs = {name: is_compatible(registry, changed(edit)) for name, edit in edits.items()}
    assert {name for name in edits if ours[name] != theirs[name]} == STRICTER
    assert all(ours[name] for name in STRICTER)


def test_a_break_is_refused_by_us_and_by_the_registry(registry: Registry) -> None:
    history = (HISTORY[0], Contract(2, HISTORY[1].effective_from))
    broken = changed(BREAKING["another type"][0])
    with pytest.raises(SchemaError, match=r"version 2 breaks with 1.*account_id.*nothing was registered"):
        register(registry, "broken", {1: OLD, 2: broken}, history)
    assert registry.ask("GET", "subjects/broken-value/versions")[0] == 404

    register(registry, "broken", {1: OLD}, history)
    with pytest.raises(SchemaError, match="the registry refuses version 2 under broken-value"):
        register(registry, "broken", {2: broken}, history)  # as somebody would who has no earlier version
    assert versions_of(registry, "broken-value") == [1]


def test_a_version_that_only_the_registry_finds_too_much_is_registered_if_told(registry: Registry) -> None:
    history = (HISTORY[0], Contract(2, HISTORY[1].effective_from))
    both: dict[int, Schema] = {1: OLD, 2: changed(HARMLESS["a new optional field"])}
    with pytest.raises(SchemaError, match="refuses version 2") as refused:
        register(registry, "wider", both, history)
    assert "--lift" in refused.value.hint
    register(registry, "wider", both, history, lift=True)
    assert versions_of(registry, "wider-value") == [1, 2]
    assert registry.ask("GET", "config/wider-value")[1] == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}


def test_no_registry_is_said_with_its_address() -> None:
    with pytest.raises(SchemaError, match=r"no schema registry answers at http://127\.0\.0\.1:1"):
        register(Registry("http://127.0.0.1:1"), "t", {1: OLD}, HISTORY[:1])
