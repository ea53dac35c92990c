"""Sealing personal values: each is encrypted with its person's key, and erased with that key.

Belongs here: the sealed text, making and opening it, an event's fields sealed. Does not: which fields those
are (`personal.py`), where keys are kept (`lakehouse/keyring.py`). Pure: it does no I/O.

AES-SIV (RFC 5297) needs no nonce: the same value at the same place of the same person gives the same text.
So an event that is sent again stays the same version, and its hash and all counts stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from quality.canonical import canonical_json, parse_json
from quality.personal import PersonalFields, plain_name

KEY_BYTES = 64  # AES-256-SIV: one half authenticates, the other encrypts
MARK = "sealed:v1:"
_CONTEXT = b"paywave sealed v1"
# Letters only: of billions of texts with digits some would pass for a card number, for ever.
_HEX, _LETTERS = "0123456789abcdef", "abcdefghijklmnop"
_TO_LETTERS, _TO_HEX = str.maketrans(_HEX, _LETTERS), str.maketrans(_LETTERS, _HEX)
_SEALED = re.compile(r"sealed:v1:([a-z]+):([a-p]+)")


@dataclass(frozen=True)
class SubjectKey:
    """The key of one person's values. Its id is random, in small letters: nothing follows from it."""

    id: str
    secret: bytes = field(repr=False)

    @cached_property
    def cipher(self) -> AESSIV:
        """The key in use; made once."""
        return AESSIV(self.secret)


KeyOf = Callable[[str], SubjectKey]
"""Gives the key of a person, by account id; makes one where there is none. May raise its keyring's error."""


class Unopenable(ValueError):
    """A sealed text that a key does not open: it is another key's, or was altered."""


class SealedValue(NamedTuple):
    """A sealed text in an event: where it stands, the id of its key, and the text."""

    path: str
    key_id: str
    text: str


def seal(key: SubjectKey, path: str, value: Any) -> str:
    """Seal a value (of `parse_json`) that stands at a path. Equal values at one path give equal texts."""
    body = key.cipher.encrypt(canonical_json(value).encode(), [_CONTEXT, path.encode()])
    return f"{MARK}{key.id}:{body.hex().translate(_TO_LETTERS)}"


def unseal(key: SubjectKey, path: str, text: str) -> Any:
    """Open a sealed text. Raises Unopenable, also where it was sealed for another path."""
    found = _SEALED.fullmatch(text)
    if found is None or found[1] != key.id:
        raise Unopenable("it is no text that this key has sealed")
    try:
        body = bytes.fromhex(found[2].translate(_TO_HEX))
        return parse_json(key.cipher.decrypt(body, [_CONTEXT, path.encode()]))
    except (InvalidTag, ValueError):
        raise Unopenable("it was altered, or sealed for another field") from None


def sealed_fields(
    fields: dict[str, Any], personal: PersonalFields, subject: str, key_of: KeyOf
) -> dict[str, Any]:
    """Copy an event with its personal values sealed for a person; itself where nothing is to be sealed.

    What that person's key has sealed already stays: a producer may send the bytes of a failure again.
    """

    def sealed(path: str, value: Any) -> Any:
        key = key_of(subject)
        return value if _is_ours(key, path, value) else seal(key, path, value)

    return personal.replaced(fields, sealed)


def sealed_values(attributes: str) -> Iterator[SealedValue]:
    """Find the sealed texts in the attributes of a version or payment, as JSON text."""
    for path, text in _texts(json.loads(attributes), ()):
        found = _SEALED.fullmatch(text)
        if found is not None:
            yield SealedValue("/".join(path), found[1], text)


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, (*path, plain_name(name)))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, path)


def is_sealed(value: Any) -> bool:
    """Tell whether a value looks like a sealed text; whether a key opens it is another question."""
    return isinstance(value, str) and _SEALED.fullmatch(value) is not None


def _is_ours(key: SubjectKey, path: str, value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith(f"{MARK}{key.id}:"):
        return False
    try:
        unseal(key, path, value)
    except Unopenable:
        return False
    return True
