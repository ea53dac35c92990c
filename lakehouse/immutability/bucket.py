"""The bucket of raw as S3 has it: looking, applying a plan, and holding objects to their lock. By boto3.

Belongs here: the edge to S3. Does not: what a bucket must be (`policy.py`).
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from opentelemetry import trace

from lakehouse.errors import StoreRefused
from lakehouse.immutability.policy import YEAR_DAYS, Plan, Protection, State, plan, policy_document

_S3_YEAR_DAYS = 365
# Our clock is not the store's.
_SLACK = timedelta(days=1)
_ABSENT = {
    "NoSuchBucketPolicy",
    "NoSuchLifecycleConfiguration",
    "ObjectLockConfigurationNotFoundError",
}
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True)
class Unlocked:
    """An object whose newest version is not locked for as long as it must be."""

    key: str
    said: str

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return asdict(self)


def connect(options: Mapping[str, str]) -> Any:
    """Make a client of S3, by boto3's own names of options. Raises `StoreRefused` where there is no boto3."""
    try:
        import boto3
    except ImportError:
        raise StoreRefused(
            "S3's locks are set by boto3, which is not installed", "install the extra `aws`"
        ) from None
    return boto3.client("s3", **options)


class Bucket:
    """One bucket, to be protected as the settings say."""

    def __init__(self, client: Any, protection: Protection) -> None:
        self._client = client
        self._protection = protection
        self._name = {"Bucket": protection.bucket}

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._protection.bucket

    def plan(self) -> Plan:
        """Compare the bucket with what it must be. Raises `StoreRefused` where S3 does not tell."""
        return plan(self._protection, self.look())

    def look(self) -> State:
        """Read what the bucket is."""
        client = self._client
        with _asking(f"the bucket {self._protection.bucket} could not be looked at"):
            versioning = client.get_bucket_versioning(**self._name)
            lock = self._given(client.get_object_lock_configuration, "ObjectLockConfiguration", {})
            policy = self._given(client.get_bucket_policy, "Policy", None)
            rules = self._given(client.get_bucket_lifecycle_configuration, "Rules", [])
        default = lock.get("Rule", {}).get("DefaultRetention", {})
        days = int(default.get("Days") or 0) + _S3_YEAR_DAYS * int(default.get("Years") or 0)
        told = json.loads(policy)["Statement"] if policy else []
        return State(
            versioning.get("Status") == "Enabled",
            default.get("Mode"),
            days,
            tuple(told if isinstance(told, list) else [told]),
            tuple(rules),
        )

    def apply(self, wanted: Plan) -> None:
        """Carry out a plan, in the order in which each step needs the one before. Raises `StoreRefused`.

        Nothing is done where a step is impossible. To start again is safe.
        """
        impossible = [change.said for change in wanted.changes if change.impossible]
        if impossible:
            raise StoreRefused(
                f"bucket {self._protection.bucket}: {'; '.join(impossible)}; nothing was changed",
                "set immutability.mode and immutability.years to what it has, or more",
            )
        steps: dict[str, Callable[[State], None]] = {
            "versioning": self._keep_versions,
            "lock": self._lock,
            "lifecycle": self._free,
            "policy": self._forbid,  # last: it may forbid the others to whoever runs this
        }
        due = {change.what for change in wanted.changes}
        with _tracer.start_as_current_span("immutability.apply", attributes=self._name):
            for what, step in steps.items():
                if what in due:
                    with _asking(f"{what} of the bucket {self._protection.bucket} could not be set"):
                        step(wanted.wanted)
        _log.warning("bucket protected", bucket=self._protection.bucket, steps=sorted(due))

    def unlocked(self, most: int) -> Iterator[Unlocked]:
        """Hold the newest versions of some objects to the lock; says which are not, or for too short.

        Half of them are the newest, which no lock would keep that was lost since; the others any, others each
        time. All keys are listed, a thousand to a request; only the chosen ones are kept.
        """
        years = timedelta(days=YEAR_DAYS * self._protection.years)
        with _asking(f"objects of the bucket {self._protection.bucket} could not be looked at"):
            for one in chosen(self._listed(), most):
                head = self._client.head_object(**self._name, Key=one["Key"])
                mode, until = head.get("ObjectLockMode"), head.get("ObjectLockRetainUntilDate")
                if mode is None or until is None:
                    yield Unlocked(one["Key"], "not locked")
                elif mode != self._protection.mode.upper():
                    yield Unlocked(one["Key"], f"locked in mode {mode.lower()}")
                elif until < head["LastModified"] + years - _SLACK:
                    yield Unlocked(one["Key"], f"locked until {until.isoformat()} only")

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(**self._name, Prefix=self._protection.prefix):
            yield from page.get("Contents", [])

    def _keep_versions(self, _: State) -> None:
        self._client.put_bucket_versioning(**self._name, VersioningConfiguration={"Status": "Enabled"})

    def _lock(self, wanted: State) -> None:
        default = {"Mode": wanted.lock_mode, "Days": wanted.lock_days}
        configuration = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": default}}
        self._client.put_object_lock_configuration(**self._name, ObjectLockConfiguration=configuration)

    def _free(self, wanted: State) -> None:
        rules = {"Rules": [dict(rule) for rule in wanted.rules]}
        self._client.put_bucket_lifecycle_configuration(**self._name, LifecycleConfiguration=rules)

    def _forbid(self, wanted: State) -> None:
        self._client.put_bucket_policy(**self._name, Policy=policy_document(wanted.statements))

    def _given(self, ask: Callable[..., Mapping[str, Any]], name: str, absent: Any) -> Any:
        """Ask for a part that a bucket may lack."""
        try:
            return ask(**self._name).get(name, absent)
        except Exception as error:
            if _code(error) in _ABSENT:
                return absent
            raise


def chosen(listed: Iterable[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """Choose so many objects at most: the newest half, and of the others as many at random, in one pass."""
    newest: list[tuple[datetime, int, Mapping[str, Any]]] = []
    others: list[Mapping[str, Any]] = []
    passed, room = 0, most - (most + 1) // 2
    for number, one in enumerate(listed):
        heapq.heappush(newest, (one["LastModified"], number, one))
        if len(newest) <= most - room:
            continue
        older = heapq.heappop(newest)[2]
        passed += 1
        if len(others) < room:
            others.append(older)
        elif (at := random.randrange(passed)) < room:  # noqa: S311 - chance, no secret
            others[at] = older
    return [*(one for _, _, one in newest), *others]


@contextmanager
def _asking(doing: str) -> Iterator[None]:
    try:
        yield
    except StoreRefused:
        raise
    except Exception as error:
        code = _code(error) or type(error).__name__
        raise StoreRefused(
            f"{doing}: {code}", "see whether the bucket is there, and who you are to S3: immutability.*, s3.*"
        ) from error


def _code(error: Exception) -> str:
    """Read S3's own code out of boto3's error; empty for any other."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, Mapping) else ""
