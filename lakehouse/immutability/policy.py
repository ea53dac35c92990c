"""What the bucket of raw must be, as data: versions, Object Lock, a deny-delete policy, a lifecycle. Pure.

Belongs here: the documents, and what differs from them. Does not: asking S3 or changing it (`bucket.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Mode = Literal["none", "governance", "compliance"]
SID_PREFIX = "PaywaveRaw"
LIFECYCLE_ID = "paywave-raw-versions"
# What was deleted is still a version: so long it can be brought back, once its lock is over.
UNDELETE_DAYS = 30
# A leap day must not make a lock end a day before its years are over.
YEAR_DAYS = 366
_CONFIGURING = (
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutLifecycleConfiguration",
)


@dataclass(frozen=True)
class Protection:
    """How a bucket is to be protected.

    Args:
        prefix: of the keys that nobody may delete; empty: of all.
        mode: `governance` can be lifted by who has the right to; `compliance` by nobody, root included.
        years: for so long after it was written no version can be deleted or overwritten.
        exempt_role_arn: the one role that may delete (retention, expiry) and change the bucket; None: nobody
            may delete, and whoever has the right to changes the bucket.
    """

    bucket: str
    mode: Mode
    years: int
    prefix: str = ""
    exempt_role_arn: str | None = None


@dataclass(frozen=True)
class State:
    """What of a bucket we speak of. `statements` and `rules`: all there are, those of others too."""

    versioned: bool
    lock_mode: str | None = None
    lock_days: int = 0
    statements: tuple[Mapping[str, Any], ...] = ()
    rules: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Change:
    """One step: `versioning`, `lock`, `policy` or `lifecycle`. `impossible`: S3 refuses it, for good."""

    what: str
    said: str
    impossible: bool = False

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What differs, and the state that the changes lead to."""

    changes: tuple[Change, ...]
    wanted: State


def plan(protection: Protection, found: State) -> Plan:
    """Compare a bucket with what it must be. Nothing is loosened: a stricter lock is no step, but said."""
    if protection.mode == "none":
        return Plan((), found)
    wanted = State(
        True,
        protection.mode.upper(),
        protection.years * YEAR_DAYS,
        _ours_among(found.statements, statements(protection), "Sid", SID_PREFIX),
        _ours_among(found.rules, [lifecycle_rule(protection)], "ID", LIFECYCLE_ID),
    )
    return Plan(tuple(_changes(found, wanted)), wanted)


def _changes(found: State, wanted: State) -> Iterator[Change]:
    if not found.versioned:
        yield Change("versioning", "versions are not kept -> kept")
    yield from _lock_changes(found, wanted)
    for what, have, want in (
        ("policy", found.statements, wanted.statements),
        ("lifecycle", found.rules, wanted.rules),
    ):
        if _as_set(have) != _as_set(want):
            yield Change(what, _difference(have, want))


def _lock_changes(found: State, wanted: State) -> Iterator[Change]:
    have, want = _lock_text(found), _lock_text(wanted)
    if have == want:
        return
    is_looser = found.lock_mode == "COMPLIANCE" and (
        wanted.lock_mode != "COMPLIANCE" or wanted.lock_days < found.lock_days
    )
    if is_looser:
        said = f"{have} is stricter than {want}: it is not loosened, and what is locked stays locked"
        yield Change("lock", said, impossible=True)
    else:
        yield Change("lock", f"{have} -> {want}")


def statements(protection: Protection) -> list[dict[str, Any]]:
    """Write the policy's statements: what nobody but the exempt role may do."""
    bucket = f"arn:aws:s3:::{protection.bucket}"
    objects = f"{bucket}/{protection.prefix}*"
    found = [
        _deny("KeepObjects", ["s3:DeleteObject", "s3:DeleteObjectVersion"], objects, protection),
        # Not even the exempt role: a lock may be set for longer, never for less than it is set to be.
        {
            **_deny("KeepLocks", ["s3:PutObjectRetention"], objects, None),
            "Condition": {
                "NumericLessThan": {
                    "s3:object-lock-remaining-retention-days": str(protection.years * YEAR_DAYS)
                }
            },
        },
    ]
    if protection.exempt_role_arn is not None:
        found.append(_deny("KeepBucket", list(_CONFIGURING), [bucket, f"{bucket}/*"], protection))
    return found


def lifecycle_rule(protection: Protection) -> dict[str, Any]:
    """Write the rule that frees what was deleted, once its lock is over, and that tidies up after it."""
    return {
        "ID": LIFECYCLE_ID,
        "Status": "Enabled",
        "Filter": {"Prefix": protection.prefix},
        "NoncurrentVersionExpiration": {"NoncurrentDays": UNDELETE_DAYS},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }


def policy_document(statements: Iterable[Mapping[str, Any]]) -> str:
    """Write a bucket policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, sort_keys=True)


def _deny(
    name: str, actions: list[str], resource: str | list[str], protection: Protection | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Sid": SID_PREFIX + name,
        "Effect": "Deny",
        "Principal": "*",
        "Action": actions,
        "Resource": resource,
    }
    if protection is not None and protection.exempt_role_arn is not None:
        found["Condition"] = {"ArnNotEquals": {"aws:PrincipalArn": protection.exempt_role_arn}}
    return found


def _ours_among(
    found: Iterable[Mapping[str, Any]], ours: Iterable[Mapping[str, Any]], name: str, prefix: str
) -> tuple[Mapping[str, Any], ...]:
    """Put ours in place of those of ours that there are; those of others stay."""
    return (*(one for one in found if not str(one.get(name, "")).startswith(prefix)), *ours)


def _as_set(documents: Iterable[Mapping[str, Any]]) -> set[str]:
    return {json.dumps(_plain(one), sort_keys=True) for one in documents}


def _plain(value: Any) -> Any:
    """Write alike what S3 gives back in another form: a list of one is the one."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        parts = sorted((_plain(inner) for inner in value), key=str)
        return parts[0] if len(parts) == 1 else parts
    return value


def _difference(have: Iterable[Mapping[str, Any]], want: Iterable[Mapping[str, Any]]) -> str:
    before, after = _as_set(have), _as_set(want)
    gone, come = (sorted(map(_name, some)) for some in (before - after, after - before))
    steps = [f"{name} is written anew" for name in come if name in gone]
    steps += [f"+ {name}" for name in come if name not in gone]
    steps += [f"- {name}" for name in gone if name not in come]
    return ", ".join(steps)


def _name(document: str) -> str:
    read = json.loads(document)
    return str(read.get("Sid") or read.get("ID") or "one without a name")


def _lock_text(state: State) -> str:
    return "no lock" if state.lock_mode is None else f"{state.lock_mode.lower()} {state.lock_days} days"
