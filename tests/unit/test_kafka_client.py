"""What every client of Kafka is given, and what no setting overrides."""

from __future__ import annotations

import base64
import pickle
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from confluent_kafka import Producer

from config.settings import load_settings
from streaming.errors import StreamingError
from streaming.kafka_client import PINNED, connection, producer_config

SETTINGS = {"bootstrap.servers": "127.0.0.1:1", "linger.ms": "7", "partitioner": "random", "acks": "1"}


def test_settings_go_before_defaults_and_what_is_pinned_before_both() -> None:
    config = producer_config({"linger.ms": "20", "client.id": "x"}, SETTINGS, {"delivery.timeout.ms": 5})
    assert config == {**SETTINGS, "client.id": "x", "delivery.timeout.ms": 5, **PINNED}


def test_settings_for_topics_that_are_given_apart_are_refused() -> None:
    hidden: dict[str, Any] = {**SETTINGS, "default.topic.config": {"partitioner": "random"}}
    Producer({**hidden, **PINNED})  # librdkafka takes them, and then chooses another partition
    with pytest.raises(StreamingError, match=r"default\.topic\.config is not taken"):
        producer_config({}, hidden, {})


def test_tokens_for_msk_are_signed_in_process_for_the_region_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not a real one")
    monkeypatch.setenv("PAYWAVE_KAFKA__BOOTSTRAP_SERVERS", "b-1.example:9098")
    monkeypatch.setenv("PAYWAVE_KAFKA__REGION", "eu-central-1")
    monkeypatch.setenv("PAYWAVE_CATALOG__URI", "https://catalog.example")
    monkeypatch.setenv("PAYWAVE_CATALOG__WAREHOUSE", "s3://lake")
    given = load_settings(home=tmp_path, profile="aws").kafka_properties()
    assert pickle.loads(pickle.dumps(given)) == given, "the gateway's worker is another process"
    config = connection(given)
    token, ends = config["oauth_cb"](config["sasl.oauthbearer.config"])
    url = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    assert url.hostname == "kafka.eu-central-1.amazonaws.com"
    assert parse_qs(url.query)["Action"] == ["kafka-cluster:Connect"] and ends > 1e9
    Producer(config)


def test_a_token_of_the_callers_own_is_left_alone() -> None:
    own = {"sasl.mechanism": "OAUTHBEARER", "oauth_cb": print}
    assert connection(own) == own
    assert connection(SETTINGS) == SETTINGS
