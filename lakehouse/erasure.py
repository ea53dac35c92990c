"""Erasing a person's personal values everywhere at once, by destroying the key that they are sealed with.

Belongs here: what would become unreadable, what stands against it, doing it, showing values to those who may
see them. Does not: sealing (`quality/sealing.py`), keys (`keyring.py`), recording it (`cli/trail.py`).

No file is touched: raw, curated tables, quarantine, exports and Kafka keep their bytes, and so their hashes
and counts. What they hold of the person is noise from then on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from opentelemetry import trace
from pyiceberg.catalog.rest import RestCatalog

from lakehouse.access_log import Entry
from lakehouse.definitions import PAYMENTS, RAW, VERSIONS
from lakehouse.errors import ErasureRefused, HoldRefused
from lakehouse.keyring import Keyring, KeyState, Order
from lakehouse.query import run_query
from quality.sealing import MARK, SealedValue, SubjectKey, Unopenable, sealed_values, unseal

Held = Callable[[str], str | None]
"""Says why the account's values must be kept (a legal hold: its name and reason); None where nothing does."""

ERASE = "subject erase"
_REFUSED = {f"failed: {refusal.__name__}" for refusal in (ErasureRefused, HoldRefused)}
_tracer = trace.get_tracer(__name__)
# In raw's bytes a sealed text is plain ASCII. The others are read in the account's buckets only.
_OF_ACCOUNT = "account_id = getvariable('account') AND regexp_matches(attributes, getvariable('sealed'))"
_CONDITIONS = {
    RAW: "regexp_matches(CAST(value AS VARCHAR), getvariable('sealed'))",
    VERSIONS: _OF_ACCOUNT,
    PAYMENTS: _OF_ACCOUNT,
}
_SEALED = (
    f"SELECT event_id, event_ts, attributes FROM {VERSIONS} WHERE {_OF_ACCOUNT} ORDER BY event_ts, event_id"  # noqa: S608
)


def erased_keys(entries: Iterable[Entry]) -> dict[str, str]:
    """Find the keys that the trail says were to be destroyed: each with its account.

    Also those of an erasure that failed or never ended: the key may be gone, and where it is not, that is
    to be told. Those that were refused are left out.

    Args:
        entries: of the action `ERASE`, in the trail's order.
    """
    asked: dict[str, tuple[str, tuple[str, ...]]] = {}
    for entry in entries:
        if entry.result in _REFUSED:
            asked.pop(entry.access_id, None)
        else:
            asked[entry.access_id] = entry.target, tuple(json.loads(entry.parameters).get("keys", ()))
    return {key_id: account for account, key_ids in asked.values() for key_id in key_ids}


@dataclass(frozen=True)
class Erasure:
    """What becomes unreadable with an account's keys, or has: rows by table, and what is against it."""

    account_id: str
    keys: tuple[KeyState, ...]
    rows: Mapping[str, int]
    held: str | None = None

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of the keys that there are, and would be destroyed."""
        return tuple(key.key_id for key in self.keys if key.destroyed_at is None)

    def as_json(self) -> dict[str, Any]:
        """Render for programs."""
        return {
            "account_id": self.account_id,
            "keys": [key.as_json() for key in self.keys],
            "rows": dict(self.rows),
            "held": self.held,
        }


class Revealed(NamedTuple):
    """One sealed value of an account: `open`, `erased` with its key, or `altered` and opened by none."""

    event_id: str
    event_ts: datetime
    path: str
    state: str
    value: Any


class Eraser:
    """Erases and reveals on one lake.

    Args:
        catalog: the lake's.
        properties: pyiceberg's properties of the same catalog.
        keyring: whose keys the values are sealed with.
        held: is asked before a key is destroyed; what it says stands against it.
    """

    def __init__(
        self,
        catalog: RestCatalog,
        properties: Mapping[str, str],
        keyring: Keyring,
        held: Held,
    ) -> None:
        self._catalog, self._properties = catalog, properties
        self._keyring, self._held = keyring, held

    def look(self, account_id: str, counted: bool = True) -> Erasure:
        """Say what destroying an account's keys makes unreadable.

        Rows are only counted if they are to be: it reads all of raw, which takes minutes in a large lake.
        """
        found = Erasure(account_id, self._keyring.states(account_id), {}, self._held(account_id))
        if not counted:
            return found
        with _tracer.start_as_current_span("erasure look"):
            return replace(found, rows=self._rows(account_id, found.key_ids))

    def erase(self, account_id: str, order: Order) -> tuple[str, ...]:
        """Destroy an account's keys. Returns their ids, none where there were none (any more).

        Raises ErasureRefused: a legal hold is on it. Raises KeyringUnavailable: nothing, or not all of it,
        was done; run it again.
        """
        if held := self._held(account_id):
            raise ErasureRefused(
                f"account {account_id} is under legal hold: {held}",
                "release the hold first, or wait until it ends",
            )
        with _tracer.start_as_current_span("erase"):
            return self._keyring.destroy(account_id, order)

    def reveal(self, account_id: str) -> list[Revealed]:
        """Open what the account's versions hold sealed, the oldest event first."""
        keys = {key.id: key for key in self._keyring.keys(account_id)}
        rows = self._asked(_SEALED, {"account": account_id, "sealed": MARK})
        return [
            Revealed(event_id, event_ts, sealed.path, *_opened(keys.get(sealed.key_id), sealed))
            for event_id, event_ts, attributes in rows
            for sealed in sealed_values(attributes)
        ]

    def returned(self, erased: Iterable[str]) -> tuple[str, ...]:
        """Say which keys that were destroyed are there again, as after a restored backup."""
        return self._keyring.alive(tuple(dict.fromkeys(erased)))

    def _rows(self, account_id: str, key_ids: tuple[str, ...]) -> dict[str, int]:
        if not key_ids:
            return dict.fromkeys(_CONDITIONS, 0)
        asked = {"account": account_id, "sealed": f"{MARK}({'|'.join(key_ids)}):"}
        return {
            table: self._asked(f"SELECT count(*) FROM {table} WHERE {condition}", asked)[0][0]  # noqa: S608
            for table, condition in _CONDITIONS.items()
        }

    def _asked(self, sql: str, variables: Mapping[str, str]) -> list[tuple[Any, ...]]:
        return run_query(self._catalog, self._properties, sql, variables=variables).rows


def _opened(key: SubjectKey | None, sealed: SealedValue) -> tuple[str, Any]:
    """Open a sealed text. Returns its state, and its value where there is one."""
    if key is None:
        return "erased", None
    try:
        return "open", unseal(key, sealed.path, sealed.text)
    except Unopenable:
        return "altered", None
