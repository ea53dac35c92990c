"""Keys that commands share. Belongs here: where the settings keep them. Does not: what they are for."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from config.settings import Settings
from lakehouse.keyring import KeyringConfig
from quality.card_tokens import TokenKey
from quality.sealing import KEY_BYTES
from streaming.errors import StreamingError
from streaming.partners.keys import made_secret
from streaming.partners.registry import Partner
from streaming.token_keys import kms_decrypt, made_token_keys, token_keys


def token_keys_of(settings: Settings, partners: Iterable[Partner]) -> tuple[TokenKey, ...]:
    """Read the keys of card tokens; none are needed where every partner's card numbers are refused."""
    ours = settings.gateway
    if ours.token_keys:
        return token_keys(ours.token_keys, kms_decrypt(ours.kms_region) if ours.kms_region else None)
    if all(partner.card_numbers == "refuse" for partner in partners):
        return ()
    if settings.dev_keys is None:
        raise StreamingError(
            "a partner's card numbers are to be tokenised, and there are no keys for it",
            "set gateway.token_keys, and gateway.kms_region if KMS opens them",
        )
    return made_token_keys(settings.dev_keys / "card-tokens.toml")


def keyring_of(settings: Settings) -> KeyringConfig:
    """Say where the keys of persons are, and fetch their master key; raises StreamingError without one."""
    ours = settings.erasure
    path = ours.keyring or settings.home / "keyring" / "subjects.sqlite"
    return KeyringConfig(path, _master_key(settings), ours.cached_keys, ours.cached_s)


def _master_key(settings: Settings) -> bytes:
    ours = settings.erasure
    if ours.master_key is None and settings.dev_keys is None:
        raise StreamingError(
            "personal fields are to be sealed, and there is no master key for their keys",
            "set erasure.master_key, and erasure.kms_region if KMS opens it",
        )
    try:
        if ours.master_key is None:
            assert settings.dev_keys is not None
            return _checked(bytes.fromhex(_text(made_secret(settings.dev_keys / "subjects.key", KEY_BYTES))))
        said = _text(ours.master_key.read_bytes())
        if ours.kms_region:
            return _checked(kms_decrypt(ours.kms_region)(base64.b64decode(said, validate=True)))
        return _checked(bytes.fromhex(said))
    except OSError as error:
        where = ours.master_key or Path("of the embedded stack")
        raise StreamingError(
            f"cannot read the master key {where}: {error.strerror}", "check erasure.master_key"
        ) from None
    except ValueError:  # its message could hold the key
        raise StreamingError(
            f"the master key is not {KEY_BYTES} bytes, in hex, or in base64 as KMS closed them",
            "check erasure.master_key",
        ) from None


def _text(raw: bytes) -> str:
    return raw.decode("ascii").strip()


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError(f"{len(key)} bytes")
    return key
