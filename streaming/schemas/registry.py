"""Registering the schemas with a registry that speaks Confluent's REST API (Confluent, Apicurio's ccompat).

Belongs here: its requests and answers. Does not: which schemas there are (`files.py`).
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from quality.contract import HISTORY, Contract
from quality.event_schema import Schema
from streaming.errors import SchemaError
from streaming.schemas.files import find_breaks, line_of, schema_text

COMPATIBILITY = "BACKWARD_TRANSITIVE"
_TYPE = "application/vnd.schemaregistry.v1+json"
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Registered:
    """What became of one version. `state` is registered, unchanged or, in a dry run, missing."""

    version: int
    subject: str
    state: str
    id: int | None


@dataclass(frozen=True)
class Registry:
    """A registry at `url`, up to and without `/subjects`; the password stays out of `repr`."""

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Send a request; returns status and body. Raises SchemaError where that is not 2xx, 404 or 409."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url.rstrip('/')}/{path}", data, self._headers(), method=method)  # noqa: S310
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # the URL is a setting of ours
                return answer.status, json.loads(answer.read())
        except HTTPError as error:
            said = error.read().decode("utf-8", "replace")[:300]
            if error.code in (404, 409):
                return error.code, said
            raise SchemaError(f"the registry at {self.url} answered {error.code}: {said}") from None
        except (URLError, OSError, ValueError, http.client.HTTPException) as error:
            raise SchemaError(
                f"no schema registry answers at {self.url}: {error}", "check the setting registry.url"
            ) from error

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": _TYPE, "Accept": f"{_TYPE}, application/json"}
        if self.username is not None:
            login = base64.b64encode(f"{self.username}:{self.password or ''}".encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        return headers


def subject_of(topic: str, version: int, history: tuple[Contract, ...] = HISTORY) -> str:
    """The subject of a version: the topic's value, and a new one where an announced break begins a line."""
    line = line_of(version, history)
    return f"{topic}-value" if line == history[0].version else f"{topic}-value.v{line}"


def register(
    registry: Registry,
    topic: str,
    schemas: Mapping[int, Schema],
    history: tuple[Contract, ...] = HISTORY,
    dry_run: bool = False,
    lift: bool = False,
) -> list[Registered]:
    """Register every version that the registry does not have, oldest first; idempotent.

    Each subject is set to BACKWARD_TRANSITIVE first, so that the registry holds whoever comes to the same
    rule. Its own comparison is stricter than ours in places (docs/adr/0016): `lift` takes the rule away for
    the moment of registering a version that ours finds compatible.

    Raises SchemaError where our own check, or the registry, refuses a version, or it does not answer. Those
    before it stay registered.
    """
    _refuse_breaks(schemas, history)
    done = []
    if not dry_run:  # also those that have all: an earlier run may have ended while its rule was lifted
        for subject in sorted({subject_of(topic, version, history) for version in schemas}):
            _hold_to(registry, subject, COMPATIBILITY)
    for version, schema in schemas.items():
        subject = subject_of(topic, version, history)
        body = {"schemaType": "JSON", "schema": schema_text(schema)}
        known = _lookup(registry, subject, body)
        state = "unchanged"
        if known is None:
            state = "missing" if dry_run else "registered"
            known = None if dry_run else _add(registry, subject, version, body, lift)
        done.append(Registered(version, subject, state, known))
    return done


def _refuse_breaks(schemas: Mapping[int, Schema], history: tuple[Contract, ...]) -> None:
    for one in find_breaks(schemas, history):
        if not one.announced:
            raise SchemaError(
                f"version {one.version} breaks with {one.against}: {one.what}; nothing was registered",
                "`paywave schemas check` lists all; a break has to be announced in the contract",
            )


def _lookup(registry: Registry, subject: str, body: Mapping[str, Any]) -> int | None:
    status, found = registry.ask("POST", f"subjects/{quote(subject, safe='')}", body)
    return int(found["id"]) if status == http.client.OK else None


def _add(registry: Registry, subject: str, version: int, body: Mapping[str, Any], lift: bool) -> int:
    if lift:
        _hold_to(registry, subject, "NONE")
    try:
        status, answer = registry.ask("POST", f"subjects/{quote(subject, safe='')}/versions", body)
    finally:
        if lift:
            _hold_to(registry, subject, COMPATIBILITY)
    if status != http.client.OK:
        raise SchemaError(
            f"the registry refuses version {version} under {subject}: {answer}",
            "our own check found it compatible: `--lift` registers it all the same",
        )
    return int(answer["id"])


def _hold_to(registry: Registry, subject: str, rule: str) -> None:
    status, said = registry.ask("PUT", f"config/{quote(subject, safe='')}", {"compatibility": rule})
    if status != http.client.OK:
        raise SchemaError(f"the registry does not hold {subject} to {rule}: {said}")
