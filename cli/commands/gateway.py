"""`paywave gateway`: the HTTP gateway. Belongs here: composing its configuration. Does not: the gateway."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import Any

import click

from cli.commands.partners import registry_file
from cli.keys import keyring_of, token_keys_of
from cli.logs import start_logs
from cli.output import Output, with_output
from cli.telemetry import prometheus_page, start_telemetry
from config.settings import Settings, load_settings
from streaming.gateway.app import make_app
from streaming.gateway.gateway import GatewayConfig
from streaming.gateway.server import Listener, serve
from streaming.partners.keys import secrets_of
from streaming.partners.registry import load_registry
from streaming.topics import require_durable


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Listen here rather than at gateway.port.")
@with_output
def gateway(out: Output, port: int | None) -> None:
    """Take in events over HTTP, acknowledged once Kafka holds them. Drains and ends on SIGTERM.

    \b
    POST /v1/events    one event, a JSON array, or NDJSON; signed
    /docs              how to sign, and what is answered
    /healthz  /readyz  /metrics  /openapi.json
    """
    settings = load_settings()
    config, level = gateway_config(settings), logging.DEBUG if out.debug else logging.INFO
    if not settings.is_embedded:
        require_durable(settings.kafka_properties(), settings.kafka.topic)
    start_logs(level)
    listener = listener_of(settings, port)
    scheme = "https" if listener.certificate else "http"
    where = f"{scheme}://{listener.host}:{listener.port}"
    out.result({"pid": os.getpid(), "url": where}, lambda console: console.print(f"gateway at {where}"))
    serve(partial(make_worker_app, config, level), listener)


def gateway_config(settings: Settings) -> GatewayConfig:
    """Gather what a gateway needs; raises RegistryError or TokenKeyError for keys that are not there."""
    registry, ours = load_registry(registry_file(settings)), settings.gateway
    return GatewayConfig(
        settings.kafka.topic,
        settings.kafka_properties(),
        registry,
        secrets_of(registry, settings.dev_keys),
        token_keys_of(settings, list(registry.partners.values())),
        keyring_of(settings),
        max_body_bytes=ours.max_body_bytes,
        max_events=ours.max_events,
        max_in_flight_bytes=ours.max_in_flight_bytes,
        body_timeout_s=ours.body_timeout_s,
        delivery_timeout_s=ours.delivery_timeout_s,
        signature_window_s=ours.signature_window_s,
        drain_s=ours.drain_s,
    )


def listener_of(settings: Settings, port: int | None = None) -> Listener:
    """Where the settings let the gateway listen."""
    ours = settings.gateway
    return Listener(
        ours.host,
        port or ours.port,
        ours.idle_timeout_s,
        ours.drain_s,
        ours.tls_certificate,
        ours.tls_key,
        ours.tls_client_ca,
    )


def make_worker_app(config: GatewayConfig, level: int) -> Any:
    """Make the application in the process that serves it, with logs and telemetry of its own."""
    start_logs(level)
    start_telemetry()
    return make_app(config, prometheus_page())
