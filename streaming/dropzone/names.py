"""Names in a partner's folder: data, what goes with a file, and what is none of ours.

Belongs here: suffixes and their meaning, and what we call a file. Does not: looking into files. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from quality.card_tokens import TokenKey, key_for, token
from quality.cards import card_numbers, without_card_numbers
from streaming.dropzone.rows import masked_text
from streaming.partners.registry import CardPolicy

DONE, DIGEST, MANIFEST, RECEIPT = ".done", ".sha256", ".manifest.json", ".receipt.json"
# In this order: the one that says most about a file is asked first.
SIDECARS = (MANIFEST, DIGEST, DONE)
# Bytes of a name, in every file system that is in use.
_LONGEST = 255
# Clients that upload under another name first: WinSCP, curl and many scripts.
_UNDER_WAY = (".filepart", ".part", ".tmp")


def is_data(name: str) -> bool:
    """Tell whether a name is that of a partner's file, and not of one that goes with it."""
    return not name.startswith(".") and not name.endswith((*SIDECARS, RECEIPT))


def is_under_way(name: str) -> bool:
    """Tell whether the partner's client says by the name that it is still at work on the file."""
    return name.lower().endswith(_UNDER_WAY)


def has_room(name: str) -> bool:
    """Tell whether the receipt of a file of this name can have a name of its own beside it."""
    return len(receipt_of(name).encode("utf-8", "surrogateescape")) <= _LONGEST


def receipt_of(name: str) -> str:
    """Name of the receipt of a file."""
    return name + RECEIPT


def called(name: str, digest: str, policy: CardPolicy, token_keys: Sequence[TokenKey]) -> tuple[str, bool]:
    """Name a file of this content without card numbers; and say whether it is refused for one."""
    if not card_numbers(name):
        return name, False
    if policy == "refuse":  # the digest tells apart names that look alike when masked
        return f"{masked_text(name)}.{digest[:12]}", True
    key = key_for(token_keys, None)
    tokenised: str = without_card_numbers(name, lambda digits: token(key, digits))
    return tokenised, False
