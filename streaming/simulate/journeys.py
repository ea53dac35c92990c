"""A payment's clean life: AUTH, CAPTURE some minutes later, sometimes REFUND or CHARGEBACK.

Belongs here: events of a faultless partner. Does not: dirt (`dirt.py`), who pays whom (`world.py`).
"""

from __future__ import annotations

from random import Random
from typing import Any

from streaming.simulate.draft import HOUR, MINUTE, SECOND, Draft, letters, new_uuid
from streaming.simulate.world import Account, Merchant, World

UNREFERENCED, DECLINED, CAPTURED, PARTIAL, REFUNDED, CHARGED_BACK = 0.05, 0.06, 0.95, 0.03, 0.06, 0.012
LATE_TAIL = 24 * HOUR


class Journeys:
    """Writes journeys into a window that ends at `end_us`; `late` is the share of lines that arrive late."""

    def __init__(self, rng: Random, world: World, end_us: int, late: float) -> None:
        self._rng = rng
        self._world = world
        self._end_us = end_us
        self._late = late

    def next(self, start_us: int) -> list[Draft]:
        """One journey whose first event happens at `start_us`; its events have distinct types or times."""
        rng = self._rng
        base = self._base(self._world.account(), self._world.merchant())
        minor = self._amount(base.pop("_typical"))
        if rng.random() < UNREFERENCED:
            return [self._event(base, "CAPTURE", start_us, minor)]
        base["transaction_ref"] = f"txn_{letters(rng, 16)}"
        if rng.random() < DECLINED:
            return [self._event(base, "AUTH", start_us, minor, status="DECLINED")]
        events = [self._event(base, "AUTH", start_us, minor)]
        if rng.random() < CAPTURED:
            events += self._settled(base, start_us, minor)
        return events

    def _settled(self, base: dict[str, Any], start_us: int, minor: int) -> list[Draft]:
        rng = self._rng
        captured_us = self._later(start_us, 5 * MINUTE, 30 * MINUTE)
        captured = self._part(minor) if rng.random() < PARTIAL else minor
        events = [self._event(base, "CAPTURE", captured_us, captured)]
        if rng.random() < REFUNDED:
            back = captured if rng.random() < 0.5 else self._part(captured)
            refunded_us = self._later(captured_us, 20 * MINUTE, 4 * HOUR)
            events.append(self._event(base, "REFUND", refunded_us, back))
        elif rng.random() < CHARGED_BACK:
            disputed_us = self._later(captured_us, HOUR, 5 * HOUR)
            events.append(self._event(base, "CHARGEBACK", disputed_us, captured))
        return events

    def _later(self, moment: int, least: int, most: int) -> int:
        """A moment so much later, or anywhere in what is left of the window if that is shorter."""
        delay = self._rng.uniform(least, most)
        left = self._end_us - 1 - moment
        return moment + int(delay if delay <= left else self._rng.random() * left)

    def _part(self, minor: int) -> int:
        return max(1, int(minor * self._rng.uniform(0.2, 0.95)))

    def _amount(self, typical: float) -> int:
        return max(1, int(self._rng.lognormvariate(0.0, 0.75) * typical))

    def _base(self, account: Account, merchant: Merchant) -> dict[str, Any]:
        card_id, network = account.cards[int(self._rng.random() * len(account.cards))]
        return {
            "account_id": account.account_id,
            "card_id": card_id,
            "merchant_id": merchant.merchant_id,
            "currency": account.country.currency,
            "network": network,
            "attributes": self._attributes(account, merchant),
            "_typical": merchant.trade.typical * account.country.rate,
        }

    def _attributes(self, account: Account, merchant: Merchant) -> dict[str, Any]:
        is_online = self._rng.random() < merchant.trade.online
        attributes = {
            "merchant": merchant.facts,
            "card": account.card_facts,
            "channel": "ecom" if is_online else "pos",
        }
        if is_online:
            attributes["device"] = account.device
            attributes["three_ds"] = {"version": "2.2.0", "eci": "05", "flow": "frictionless"}
        else:
            attributes["terminal"] = {
                "id": f"term-{letters(self._rng, 8)}",
                "entry_mode": "contactless" if self._rng.random() < 0.7 else "chip",
                "software": "till 12.4.1",
                "verification": "device",
                "attendance": "attended",
            }
        return attributes

    def _event(
        self, base: dict[str, Any], event_type: str, event_us: int, minor: int, status: str = "APPROVED"
    ) -> Draft:
        rng = self._rng
        fields = {
            "event_id": new_uuid(rng),
            "event_type": event_type,
            "event_ts": "",
            "ingest_ts": "",
            "amount": "",
            "status": status,
            **base,
        }
        fields["attributes"] = {**base["attributes"], **self._circumstances(status)}
        draft = Draft(fields, event_us, event_us + self._delay(), minor)
        draft.stamp()
        return draft

    def _circumstances(self, status: str) -> dict[str, Any]:
        rng = self._rng
        is_approved = status == "APPROVED"
        return {
            "response": {
                "code": "00" if is_approved else "51",
                "text": "approved" if is_approved else "insufficient funds",
                "auth_code": letters(rng, 6).upper(),
            },
            "risk": {
                "score": int(rng.random() ** 3 * 1000),
                "model": "cardinal-2026.10",
                "velocity_1h": int(rng.random() ** 2 * 9),
                "reasons": ["known_device", "usual_merchant"] if is_approved else ["balance"],
            },
            "routing": {
                "trace": letters(rng, 24),
                "region": "eu-west-1" if rng.random() < 0.5 else "us-east-1",
                "node": f"gw-{int(rng.random() * 24)}",
                "attempt": 1,
                "schema": "payment-event/3",
            },
        }

    def _delay(self) -> int:
        """Time from happening to being taken in: seconds, or up to a day when late."""
        if self._rng.random() < self._late:
            return int(10 * MINUTE * (LATE_TAIL / (10 * MINUTE)) ** self._rng.random())
        return int((0.05 + self._rng.expovariate(1.25)) * SECOND)
