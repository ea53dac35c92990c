"""How our clients reach Kafka: what every librdkafka client of ours is given, and what no setting overrides.

Belongs here: properties, tokens of MSK, librdkafka's own log. Does not: sending (`producer.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from streaming.errors import StreamingError

# Not to be overridden by settings: the guarantees, the partition of an account's events, and the codec.
PINNED: Mapping[str, str] = {
    "acks": "all",
    "enable.idempotence": "true",
    # Java's default for keyed records, so that every client puts an account into the same partition.
    "partitioner": "murmur2",
    # The topic's own (docs/topics.md): batches of any other codec would be compressed anew by the broker.
    "compression.type": "zstd",
    # When all brokers are gone, librdkafka (2.11 and later) forgets them and begins anew. What is on its way
    # may be left with no broker then, neither sent nor timed out: how often is measured in docs/adr/0015.
    "metadata.recovery.strategy": "none",
}
LIBRDKAFKA_LOG = logging.getLogger("paywave.librdkafka")
LIBRDKAFKA_LOG.addHandler(logging.NullHandler())  # librdkafka would write to stderr by itself
# Settings for topics that are given apart: they would go before those that we pin.
_BESIDE = "default.topic.config"


def connection(kafka: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the properties of any client, `bootstrap.servers` at least, by what is not plain text.

    With OAUTHBEARER and no token of the caller's own, tokens are signed for MSK in the region that
    `sasl.oauthbearer.config` names. Raises StreamingError where the library for that is missing.
    """
    given = dict(kafka)
    is_ours = not given.keys() & {"oauth_cb", "sasl.oauthbearer.method"}
    if given.get("sasl.mechanism") == "OAUTHBEARER" and is_ours:
        given["oauth_cb"] = _token_of_msk()
    return given


def producer_config(
    defaults: Mapping[str, Any], kafka: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Put together a producer's properties: settings go before `defaults`, what is pinned before both.

    `own` is what this producer decides by itself. Raises StreamingError where the settings hold what would go
    before the pinned ones.
    """
    if _BESIDE in kafka:
        said = "name its settings beside the others; what keeps records safe and in their partition stays"
        raise StreamingError(f"Kafka setting {_BESIDE} is not taken", said)
    return {**defaults, **connection(kafka), **PINNED, **own}


def _token_of_msk() -> Any:
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
    except ImportError:
        raise StreamingError(
            "kafka.security is msk-iam, and the library that signs its tokens is not installed",
            "install the extra `aws` (pip install 'paywave-lakehouse[aws]'), or use kafka.security = scram",
        ) from None

    def token(region: str) -> tuple[str, float]:
        """Return a token and when it ends, in seconds since 1970; librdkafka asks again before that."""
        signed, ends_ms = MSKAuthTokenProvider.generate_auth_token(region)
        return signed, ends_ms / 1000

    return token
