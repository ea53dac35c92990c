"""What a stack remembers in its home: ports, keys, the cluster's id. Belongs here: those small files.

Does not: processes (`process.py`), decisions about them (`stack.py`).
"""

from __future__ import annotations

import base64
import json
import secrets as random_source
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from local.errors import StackError
from local.services.base import write_private

REGION = "us-east-1"


@dataclass(frozen=True)
class Secrets:
    """The object store's keys: random, one pair per home, never in `repr`."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class Cluster:
    """What must never change once Kafka's folders exist."""

    id: str
    brokers: int


def secrets_of(home: Path) -> Secrets:
    """The keys of this home, made on first use in a file that only its owner may read."""
    path = home / "run" / "secrets.json"
    if not path.exists():
        fresh = Secrets(random_source.token_hex(10), random_source.token_hex(20))
        write_private(path, json.dumps(asdict(fresh)))
    return Secrets(**_read(path))


def cluster_of(home: Path, brokers: int | None) -> Cluster:
    """The Kafka cluster of this home, made on first use with `brokers` (1 if not given).

    Raises StackError if it exists with another number: voters cannot be added to data that has one.
    """
    path = home / "kafka" / "cluster.json"
    if not path.exists():
        fresh = Cluster(_kafka_uuid(), brokers or 1)
        write_private(path, json.dumps(asdict(fresh)))
    cluster = Cluster(**_read(path))
    if brokers not in (None, cluster.brokers):
        raise StackError(
            f"{home} belongs to a cluster of {cluster.brokers}, and {brokers} brokers were asked for",
            hint="leave --brokers out, or set PAYWAVE_HOME to another folder",
        )
    return cluster


def existing_cluster(home: Path) -> Cluster | None:
    """The Kafka cluster of this home, or None before the first start."""
    path = home / "kafka" / "cluster.json"
    return Cluster(**_read(path)) if path.exists() else None


def remembered_ports(home: Path) -> dict[str, int]:
    """The ports of the last start, by the name of their use."""
    path = home / "run" / "stack.json"
    return dict(_read(path)["ports"]) if path.exists() else {}


def remember(home: Path, ports: Mapping[str, int], settings: Mapping[str, Any]) -> None:
    """Write run/stack.json, which `config` reads as a source of settings. It holds the keys: mode 600."""
    write_private(home / "run" / "stack.json", json.dumps({"ports": ports, "settings": settings}, indent=1))


def _kafka_uuid() -> str:
    while True:  # Kafka refuses ids that begin with a dash: they look like an option
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(value, dict)
        return value
    except (OSError, ValueError, AssertionError) as error:
        raise StackError(
            f"cannot read {path}: {error}", hint="put it back from a copy, or remove it"
        ) from error
