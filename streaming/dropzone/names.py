"""Names in a partner's folder: data, what goes with a file, and what is none of ours.

Belongs here: suffixes and their meaning. Does not: looking into files. Pure.
"""

from __future__ import annotations

DONE, DIGEST, MANIFEST, RECEIPT = ".done", ".sha256", ".manifest.json", ".receipt.json"
# In this order: the one that says most about a file is asked first.
SIDECARS = (MANIFEST, DIGEST, DONE)
# Clients that upload under another name first: WinSCP, curl and many scripts.
_UNDER_WAY = (".filepart", ".part", ".tmp")


def is_data(name: str) -> bool:
    """Tell whether a name is that of a partner's file, and not of one that goes with it."""
    return not name.startswith(".") and not name.endswith((*SIDECARS, RECEIPT))


def is_under_way(name: str) -> bool:
    """Tell whether the partner's client says by the name that it is still at work on the file."""
    return name.lower().endswith(_UNDER_WAY)


def receipt_of(name: str) -> str:
    """Name of the receipt of a file."""
    return name + RECEIPT
