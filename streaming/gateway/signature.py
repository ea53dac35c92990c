"""Signatures of requests: HMAC-SHA256 over the timestamp and the raw body, by a key of the partner's.

Belongs here: signing, telling whose request it is, whether it came before. Does not: HTTP, clocks.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from streaming.gateway.refusal import Refusal
from streaming.partners.registry import Partner, Registry

KEY_HEADER, TIME_HEADER, SIGNATURE_HEADER = "paywave-key", "paywave-timestamp", "paywave-signature"
_VERSION = "v1="
_SECONDS = re.compile(r"[0-9]{1,11}")
_HEX = re.compile(r"[0-9a-f]{64}")


class Caller(NamedTuple):
    """Who says that the request is theirs, and what it is signed with; nothing is proved yet."""

    name: str
    partner: Partner
    secret: bytes
    timestamp: str
    signature: str


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the value of the signature's header: `v1=` and the hex HMAC-SHA256 of `<timestamp>.<body>`."""
    return _VERSION + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def signed_headers(key_id: str, secret: bytes, body: bytes, now: float) -> dict[str, str]:
    """Return the headers that sign a body as of `now` (seconds since 1970), for clients and tests."""
    timestamp = str(int(now))
    return {
        KEY_HEADER: key_id,
        TIME_HEADER: timestamp,
        SIGNATURE_HEADER: sign(secret, timestamp, body),
    }


def caller_of(
    headers: Mapping[str, str], registry: Registry, secrets: Mapping[str, bytes], now: float, window_s: float
) -> Caller:
    """Say whose request it is, from its headers alone.

    Args:
        headers: by lower-case name.
        secrets: of the keys of active partners, by key id.
        now: seconds since 1970.
        window_s: how far the timestamp may be from `now`.

    Raises:
        Refusal: 401 for headers that are missing, unreadable, unknown or out of the window; 403 for a partner
            that is not active, or a key outside its time.
    """
    key_id, timestamp, signature = (
        headers.get(name, "") for name in (KEY_HEADER, TIME_HEADER, SIGNATURE_HEADER)
    )
    if not (key_id and timestamp and signature):
        wanted = ", ".join((KEY_HEADER, TIME_HEADER, SIGNATURE_HEADER))
        raise Refusal(401, "unsigned", f"the headers {wanted} are wanted")
    found = registry.by_key.get(key_id)
    if found is None:
        raise Refusal(401, "unknown_key", f"the key in {KEY_HEADER} is not known")
    name, partner, key = found
    if not _SECONDS.fullmatch(timestamp) or abs(int(timestamp) - now) > window_s:
        raise Refusal(
            401,
            "timestamp",
            f"{TIME_HEADER}: seconds since 1970, at most {window_s:g} s from now, are wanted",
        )
    if not partner.active:
        raise Refusal(403, "partner_not_active", "this partner may not send at the moment")
    if not key.works_at(datetime.fromtimestamp(now, UTC)):
        raise Refusal(403, "key_not_in_force", "this key is not in force; sign with one that is")
    return Caller(name, partner, secrets[key_id], timestamp, signature)


def verify(caller: Caller, body: bytes) -> None:
    """Prove that the caller signed the body. Raises Refusal 401."""
    given = caller.signature.removeprefix(_VERSION)
    wanted = sign(caller.secret, caller.timestamp, body).removeprefix(_VERSION)
    is_hex = caller.signature.startswith(_VERSION) and _HEX.fullmatch(given)
    if not is_hex or not hmac.compare_digest(given, wanted):
        raise Refusal(401, "bad_signature", "the signature does not fit the key, the timestamp and the body")


class SeenSignatures:
    """Signatures that were taken in, for as long as their timestamps would be accepted again.

    Bounded: of too many, the oldest is forgotten. A replay that slips through so counts nothing twice.
    """

    def __init__(self, keep_s: float, most: int) -> None:
        self._keep_s = keep_s
        self._most = most
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def add(self, signature: str, now: float) -> bool:
        """Note a signature; False if it is known already. `now` never goes back."""
        while self._seen and (
            len(self._seen) >= self._most or next(iter(self._seen.values())) + self._keep_s < now
        ):
            self._seen.popitem(last=False)
        digest = bytes.fromhex(signature.removeprefix(_VERSION))[:16]
        if digest in self._seen:
            return False
        self._seen[digest] = now
        return True

    def forget(self, signature: str) -> None:
        """Allow a signature again: what it came with was not taken in."""
        self._seen.pop(bytes.fromhex(signature.removeprefix(_VERSION))[:16], None)
