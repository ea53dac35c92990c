"""The made-up world: accounts with their cards, and merchants with their trade.

Belongs here: who pays and who is paid. Does not: the payments themselves (`journeys.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from streaming.simulate.draft import letters


class Country(NamedTuple):
    """A country's currency, its weight among accounts, and minor units of its currency per US cent."""

    code: str
    currency: str
    weight: int
    rate: float
    cities: tuple[str, ...]


class Trade(NamedTuple):
    """A line of business: merchant category code, name, typical amount in US cents, share of online sales."""

    mcc: str
    name: str
    typical: int
    online: float


COUNTRIES = (
    Country("US", "USD", 48, 1.0, ("New York", "Austin", "Chicago", "Seattle", "Miami", "San José")),
    Country("GB", "GBP", 16, 0.79, ("London", "Leeds", "Bristol", "Edinburgh")),
    Country("DE", "EUR", 10, 0.92, ("Berlin", "München", "Köln", "Hamburg")),
    Country("FR", "EUR", 9, 0.92, ("Paris", "Lyon", "Orléans", "Nîmes")),
    Country("ES", "EUR", 6, 0.92, ("Madrid", "Málaga", "A Coruña")),
    Country("NL", "EUR", 4, 0.92, ("Amsterdam", "Utrecht")),
    Country("JP", "JPY", 4, 1.5, ("東京", "大阪", "京都")),
    Country("BH", "BHD", 2, 3.77, ("Manama", "Muharraq")),
    Country("KW", "KWD", 1, 3.07, ("Kuwait City", "Salmiya")),
)
TRADES = (
    Trade("5411", "Grocery stores", 3200, 0.05),
    Trade("5812", "Restaurants", 2600, 0.02),
    Trade("5814", "Fast food", 950, 0.10),
    Trade("5541", "Service stations", 4100, 0.0),
    Trade("5311", "Department stores", 6800, 0.35),
    Trade("5732", "Electronics", 18900, 0.60),
    Trade("5942", "Book stores", 2100, 0.70),
    Trade("4121", "Taxis and rides", 1400, 0.95),
    Trade("4111", "Local transport", 320, 0.15),
    Trade("4511", "Airlines", 31000, 0.98),
    Trade("7011", "Hotels", 17500, 0.75),
    Trade("5815", "Digital goods", 1099, 1.0),
    Trade("5912", "Pharmacies", 1800, 0.08),
    Trade("6300", "Insurance", 8900, 1.0),
)
_NETWORKS, _NETWORK_WEIGHTS = ("VISA", "MC", "AMEX"), (55, 35, 10)
_FIRST = ("Blue", "Old", "North", "Golden", "Café", "Casa", "Le Petit", "Green", "Royal", "Zum", "Twin")
_SECOND = ("Harbour", "Lantern", "Müller", "Oak", "Corner", "Peña", "Bridge", "Fox", "Straße", "Mill")
_PRODUCTS = ("classic", "gold", "platinum", "business", "prepaid")
_ISSUERS = ("First Harbor Bank", "Banco del Río", "Nordlicht Bank", "Crédit Lunaire", "Sakura Trust")


@dataclass(frozen=True, slots=True)
class Account:
    """A holder with one or more cards, each a token and its network."""

    account_id: str
    country: Country
    cards: tuple[tuple[str, str], ...]
    card_facts: dict[str, Any]
    device: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Merchant:
    """A merchant with its trade; `facts` go into the attributes of every payment there."""

    merchant_id: str
    country: Country
    trade: Trade
    facts: dict[str, Any]


class World:
    """Accounts and merchants of one seed; as many as `size` payments would meet."""

    def __init__(self, rng: Random, size: int) -> None:
        self._rng = rng
        self.accounts = [_account(rng) for _ in range(min(20_000, max(20, size // 12)))]
        self.merchants = [_merchant(rng) for _ in range(min(2_500, max(12, size // 60)))]

    def account(self) -> Account:
        """Pick an account; few are very active, most hardly ever."""
        return self.accounts[self._rank(len(self.accounts))]

    def merchant(self) -> Merchant:
        """Pick a merchant, by the same law."""
        return self.merchants[self._rank(len(self.merchants))]

    def _rank(self, size: int) -> int:
        # Zipf's law with exponent 0.6: P(rank <= k) = (k / size) ** 0.4
        return int(size * self._rng.random() ** 2.5)


def _pick_country(rng: Random) -> Country:
    return rng.choices(COUNTRIES, [c.weight for c in COUNTRIES])[0]


def _account(rng: Random) -> Account:
    country = _pick_country(rng)
    cards = tuple(
        (f"tok_{letters(rng, 22)}", rng.choices(_NETWORKS, _NETWORK_WEIGHTS)[0])
        for _ in range(rng.choice((1, 1, 1, 2, 3)))
    )
    return Account(f"acct_{letters(rng, 14)}", country, cards, _card_facts(rng, country), _device(rng))


def _card_facts(rng: Random, country: Country) -> dict[str, Any]:
    return {
        "issuer": rng.choice(_ISSUERS),
        "issuer_country": country.code,
        "product": rng.choice(_PRODUCTS),
        "funding": rng.choice(("credit", "debit", "debit")),
        "token_requestor": f"trq-{letters(rng, 8)}",
        "token_assurance": rng.choice(("low", "medium", "high")),
        "wallet": rng.choice((None, None, "phone", "watch")),
    }


def _device(rng: Random) -> dict[str, Any]:
    phone = rng.choice(("Pixel 9", "iPhone 16", "Galaxy S25", "Xperia 1"))
    return {
        "fingerprint": letters(rng, 32),
        "user_agent": f"PayWaveApp/{rng.randint(3, 7)}.{rng.randint(0, 19)} ({phone}; {letters(rng, 6)})",
        # 198.51.100.0/24 and 203.0.113.0/24 are reserved for documentation
        "ip": f"{rng.choice(('198.51.100', '203.0.113'))}.{rng.randint(1, 254)}",
        "language": rng.choice(("en-US", "en-GB", "de-DE", "fr-FR", "es-ES", "ja-JP", "ar-BH")),
    }


def _merchant(rng: Random) -> Merchant:
    country, trade = _pick_country(rng), rng.choice(TRADES)
    facts = {
        "name": f"{rng.choice(_FIRST)} {rng.choice(_SECOND)}",
        "mcc": trade.mcc,
        "category": trade.name,
        "country": country.code,
        "city": rng.choice(country.cities),
        "acquirer": f"acq-{letters(rng, 6)}",
        "store": f"store-{rng.randint(1, 400)}",
        "descriptor": f"{letters(rng, 10).upper()} {country.code}",
    }
    return Merchant(f"mer_{letters(rng, 14)}", country, trade, facts)
