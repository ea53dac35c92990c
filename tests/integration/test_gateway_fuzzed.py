"""The gateway under requests that schemathesis makes up from its OpenAPI document: no 5xx but 503, ever."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config.settings import Settings
from streaming.gateway.openapi import document
from streaming.gateway.signature import signed_headers
from tests.gateways import GatewayProcess

pytestmark = pytest.mark.integration

CHECKS = (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)


@pytest.fixture(scope="module")
def gateway(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("fuzzed"), stack.kafka_properties())
    yield process
    process.end()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def _cases() -> st.SearchStrategy[Any]:
    described = document(4 * 1024 * 1024, 10_000)
    # It has no words for lines of JSON; what these can do is tried beside (test_gateway.py).
    del described["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/x-ndjson"]
    operation = schemathesis.openapi.from_dict(described)["/v1/events"]["POST"]
    return st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )


@given(case=_cases(), is_signed=st.sampled_from((True, True, True, False)))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_no_request_that_can_be_made_up_breaks_it(
    gateway: GatewayProcess, session: requests.Session, case: Any, is_signed: bool
) -> None:
    arguments = case.as_transport_kwargs(base_url=f"http://127.0.0.1:{gateway.port}")
    arguments.pop("timeout", None)
    with contextlib.suppress(requests.exceptions.InvalidHeader, UnicodeError):  # such a header cannot be sent
        request = session.prepare_request(requests.Request(**arguments))
        body = request.body or b""
        if is_signed and isinstance(body, bytes | str):
            raw = body.encode() if isinstance(body, str) else body
            key = gateway.client.secrets["shop-1"]
            request.headers.update(signed_headers("shop-1", key, raw, time.time()))
        answer = session.send(request, timeout=30)
        assert answer.status_code < 500 or answer.status_code == 503
        case.validate_response(answer, checks=CHECKS)


def test_it_is_well_after_all_that(gateway: GatewayProcess) -> None:
    assert gateway.client.get("/healthz").status == 200
    assert gateway.client.get("/readyz").status == 200
    assert '"failed"' not in gateway.process.said
