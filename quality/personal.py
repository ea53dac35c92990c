"""Which fields of an event are personal: the list, and finding such fields in an event.

Belongs here: names and where they count. Does not: sealing what was found (`sealing.py`), which partner names
more of them (`streaming/partners/registry.py`). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from quality.fields import FIELDS

# What tells who somebody is, beside the pseudonyms of the contract (account_id, card_id, merchant_id). A name
# counts wherever it stands among the fields that the contract does not name; `a.b` only where b stands in a.
# Case and punctuation do not count: cardholderName is cardholder_name. Only ever add to it.
PERSONAL_FIELDS = (
    "cardholder_name", "cardholder.name", "customer_name", "customer.name", "billing.name", "shipping.name",
    "first_name", "last_name", "full_name", "maiden_name",
    "email", "email_address", "phone", "phone_number", "mobile", "mobile_number",
    "address", "street", "street_address", "billing_address", "shipping_address", "postal_code", "zip_code",
    "date_of_birth", "birth_date", "national_id", "passport_number", "tax_id", "iban",
    "ip", "ip_address", "device_ip", "client_ip", "geolocation",
    "device_id", "device.id", "device_fingerprint", "device.fingerprint",
)  # fmt: skip
Replace = Callable[[str, Any], Any]
"""Gives what is to stand for a value at a path, such as `cardholder/name`."""

_CONTRACT = frozenset(name for name, _, _ in FIELDS)
_ATTRIBUTES = "attributes"
_NO_LETTER = re.compile(r"[\W_]+")
_REMEMBERED = 4096
_WORD = re.compile(r"[\w~-]+")


class PersonalFields:
    """The personal fields of one partner: those of everybody, and `more` of its own."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        paths = [tuple(map(plain_name, name.split("."))) for name in (*PERSONAL_FIELDS, *more)]
        if not all(all(path) for path in paths):
            raise ValueError("a personal field is written as its name, or as parent.name")
        self._paths = frozenset(paths)
        self._seen: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {}

    def replaced(self, fields: dict[str, Any], replace: Replace) -> dict[str, Any]:
        """Copy an event (of `parse_json`) with its personal values replaced; itself where it has none.

        A value is replaced whole, whatever it is; nothing stands for null and the empty text.
        """
        found = {name: fields[name] for name in fields.keys() - _CONTRACT}
        changed = self._within(found, (), replace) if found else found
        attributes = fields.get(_ATTRIBUTES)
        inner = self._within(attributes, (), replace) if isinstance(attributes, dict) else attributes
        if changed is found and inner is attributes:
            return fields
        return fields | changed | ({_ATTRIBUTES: inner} if inner is not attributes else {})

    def are_in(self, fields: dict[str, Any], harmless: Callable[[Any], bool] | None = None) -> bool:
        """Tell whether an event holds a personal value, those that are `harmless` aside."""
        is_harmless = harmless or (lambda _value: False)
        return self.replaced(fields, lambda _, value: value if is_harmless(value) else None) is not fields

    def may_be_in(self, raw: bytes) -> bool:
        """Tell whether bytes that are no event may hold one, by the words in them; False is no proof."""
        if b"\\u" in raw:  # a name may be written in escapes
            return True
        words = set(map(plain_name, _WORD.findall(raw.decode("utf-8", "replace"))))
        return any(words.issuperset(path) for path in self._paths)

    def names(self, name: str) -> bool:
        """Tell whether a name, of a column or an attribute, is a personal one by itself."""
        return () in self._look_up(name)[1]

    def _within(self, fields: dict[str, Any], parents: tuple[str, ...], replace: Replace) -> dict[str, Any]:
        """Look through an object. Every event is, field by field: what is no candidate costs one look-up."""
        changed: dict[str, Any] = {}
        seen = self._seen
        for name, value in fields.items():
            plain, wanted = seen.get(name) or self._look_up(name)
            if wanted and _stands_in(parents, wanted):
                new = value if value in (None, "") else replace("/".join((*parents, plain)), value)
            elif isinstance(value, dict):
                new = self._within(value, (*parents, plain), replace)
            elif isinstance(value, list):
                new = self._below(value, (*parents, plain), replace)
            else:
                continue
            if new is not value:
                changed[name] = new
        return fields | changed if changed else fields

    def _look_up(self, name: str) -> tuple[str, tuple[tuple[str, ...], ...]]:
        """Give a field's plain name, and the parents that it is personal in; remembered, up to a number."""
        if len(self._seen) >= _REMEMBERED:  # partners choose names freely
            self._seen.clear()
        plain = plain_name(name)
        found = plain, tuple(path[:-1] for path in self._paths if path[-1] == plain)
        self._seen[name] = found
        return found

    def _below(self, value: Any, path: tuple[str, ...], replace: Replace) -> Any:
        if isinstance(value, dict):
            return self._within(value, path, replace)
        if isinstance(value, list):
            several = [self._below(inner, path, replace) for inner in value]
            return value if all(a is b for a, b in zip(several, value, strict=True)) else several
        return value


def _stands_in(parents: tuple[str, ...], wanted: tuple[tuple[str, ...], ...]) -> bool:
    return any(not several or parents[-len(several) :] == several for several in wanted)


def plain_name(name: str) -> str:
    """Write a field's name without case and punctuation, as paths hold it."""
    return _NO_LETTER.sub("", name.casefold())


PERSONAL = PersonalFields()
