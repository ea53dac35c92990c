"""Keys that commands share. Belongs here: where the settings keep them. Does not: what they are for."""

from __future__ import annotations

from collections.abc import Iterable

from config.settings import Settings
from quality.card_tokens import TokenKey
from streaming.errors import StreamingError
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
