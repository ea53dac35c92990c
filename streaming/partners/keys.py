"""The secrets of partners' signing keys: fetched from where the registry says they are.

Belongs here: reading them. Does not: signing (`streaming/gateway/signature.py`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from streaming.errors import RegistryError
from streaming.partners.registry import Registry, SecretSource, SigningKey

MIN_SECRET_BYTES = 16
_MADE_BYTES = 32


def secret_of(key: SigningKey, dev_folder: Path | None, environment: Mapping[str, str]) -> bytes:
    """Fetch one key's secret.

    Args:
        key: whose secret.
        dev_folder: where the local stack keeps the keys it makes (here, on first use); None: no such stack.
        environment: variables, as of `os.environ`.

    Raises:
        RegistryError: no secret, or one shorter than `MIN_SECRET_BYTES`. It never holds the secret.
    """
    secret = _read(key, dev_folder, environment).strip()
    if len(secret) < MIN_SECRET_BYTES:
        raise _unusable(key, f"is shorter than {MIN_SECRET_BYTES} bytes")
    return secret


def secrets_of(registry: Registry, dev_folder: Path | None) -> dict[str, bytes]:
    """Fetch the secrets of every active partner's keys, by key id. Raises RegistryError, see `secret_of`."""
    active = [p for p in registry.partners.values() if p.active]
    return {key.id: secret_of(key, dev_folder, os.environ) for p in active for key in p.keys}


def _read(key: SigningKey, dev_folder: Path | None, environment: Mapping[str, str]) -> bytes:
    source: SecretSource = key.secret
    if source.env:
        return environment.get(source.env, "").encode()
    try:
        if source.file:
            return source.file.read_bytes()
        if dev_folder is None:
            raise _unusable(key, "is made by the embedded stack, which this profile does not use")
        return made_secret(dev_folder / f"{key.id}.key")
    except OSError as error:
        raise _unusable(key, f"cannot be read: {error.strerror}") from None


def made_secret(path: Path, length: int = _MADE_BYTES) -> bytes:
    """Read a secret of the local stack, in hex; whoever comes first makes it, whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(length))
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the key
            path.hardlink_to(fresh)
        fresh.unlink()
    return path.read_bytes()


def _unusable(key: SigningKey, reason: str) -> RegistryError:
    return RegistryError(
        f"the secret of key {key.id} ({key.secret}) {reason}",
        "put the secret there, or take the key out of the registry",
    )
