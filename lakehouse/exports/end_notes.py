"""Notes that a standing export was ended: their exact bytes, what is signed of them, and reading them back.

Belongs here: what makes a note one of ours. Does not: what may be ended, and what follows (`ending.py`).

A note is one file, with its signature in it, so that it is there whole or not at all. Unsigned, it could be
written by whoever can write beside the chain, to keep exports from being made again in anybody's name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lakehouse.errors import ExportError
from lakehouse.exports.request import Request
from lakehouse.exports.signing import is_signed
from lakehouse.exports.store import Store

ENDED = ".ended-"
_SIGNATURE = "signature"
_WITHOUT = {"request", "ended", "ended_by", "reason"}


class EndNote(NamedTuple):
    """A note as it was found: the request that it ends, by its default name, and when.

    Args:
        state: `unsigned` has no signature, as earlier releases wrote them; `wrong` is not as it was signed;
            `unknown`: there is no key to hold it against. Only a signed one ends anything.
    """

    file: str
    state: Literal["signed", "unsigned", "wrong", "unknown"]
    ended: datetime | None = None

    @property
    def request(self) -> str:
        return self.file.removeprefix(ENDED).removesuffix(".json")


def file_of(request: Request) -> str:
    """Name the file of a request's note."""
    return f"{ENDED}{request.default_name}.json"


def note_of(value: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> bytes:
    """Render a note (request, ended, ended_by, reason) with its signature. Raises `SigningFailed`."""
    return _rendered({**value, _SIGNATURE: sign(_statement_of(value)).hex()})


def notes_in(store: Store, keys: Sequence[Ed25519PublicKey]) -> Iterator[EndNote]:
    """Read all notes of a store, and hold each against keys of which any may have signed."""
    names = (name for name in store.names() if name.startswith(ENDED) and "/" not in name)
    return (read_note(name, store.read(name), keys) for name in sorted(names))


def read_note(file: str, data: bytes, keys: Sequence[Ed25519PublicKey]) -> EndNote:
    """Read a note. Each byte of it counts: what is not just what `note_of` makes is wrong."""
    try:
        value = json.loads(data)
        signature = value.pop(_SIGNATURE, None)
        ended = datetime.fromisoformat(value["ended"])
        is_ours = file == file_of(Request.from_json(value["request"])) and ended.tzinfo is not None
        if signature is None and value.keys() == _WITHOUT:  # not one whose signature lost its name
            return EndNote(file, "unsigned", ended)
        said, signed = _statement_of(value), bytes.fromhex(signature)
        is_ours = is_ours and data == _rendered({**value, _SIGNATURE: signed.hex()})
        if is_ours and not keys:
            return EndNote(file, "unknown", ended)
    except (ExportError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return EndNote(file, "wrong")
    is_ours = is_ours and any(is_signed(key, said, signed) for key in keys)
    return EndNote(file, "signed" if is_ours else "wrong", ended)


def _rendered(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _statement_of(value: Mapping[str, Any]) -> bytes:
    """Return what is signed: never what is signed of a manifest, whatever a note says."""
    return b"paywave audit end sha256:" + hashlib.sha256(_rendered(value)).hexdigest().encode()
