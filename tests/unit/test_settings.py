"""Where settings come from, in which order, and what is said when one is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.errors import ConfigError, MissingSetting
from config.settings import Settings, load_settings

PLACES = ["arguments", "environment", "paywave.toml", "stack.json", "profiles/local.toml", "defaults"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAYWAVE_HOME", str(tmp_path))
    return tmp_path


def write_stack(home: Path, **settings: Any) -> None:
    (home / "run").mkdir(exist_ok=True)
    (home / "run" / "stack.json").write_text(json.dumps({"ports": {}, "settings": settings}))


def test_each_place_wins_over_those_after_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def topic(**overrides: Any) -> str:
        return load_settings(**overrides).kafka.topic

    assert topic() == "payments.events"
    write_stack(home, kafka={"topic": "of-the-stack", "bootstrap_servers": "127.0.0.1:1"})
    assert topic() == "of-the-stack"
    (home / "paywave.toml").write_text('[kafka]\ntopic = "of-the-home"\n')
    assert topic() == "of-the-home"
    monkeypatch.setenv("PAYWAVE_KAFKA__TOPIC", "of-the-environment")
    assert topic() == "of-the-environment"
    assert topic(kafka={"topic": "of-the-caller"}) == "of-the-caller"
    # places are merged per setting, not per group
    assert load_settings(kafka={"topic": "x"}).kafka.bootstrap_servers == "127.0.0.1:1"


def test_the_profiles_differ_in_more_than_addresses(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stack(home, kafka={"bootstrap_servers": "127.0.0.1:1"})
    monkeypatch.setenv("PAYWAVE_KAFKA__BOOTSTRAP_SERVERS", "b-1.example:9098")
    monkeypatch.setenv("PAYWAVE_CATALOG__URI", "https://glue.example/iceberg")
    monkeypatch.setenv("PAYWAVE_CATALOG__WAREHOUSE", "123456789012")
    local, aws = load_settings(), load_settings(profile="aws")
    assert (local.tables.buckets, aws.tables.buckets) == (4, 64)
    assert aws.kafka_properties()["sasl.mechanism"] == "OAUTHBEARER"
    assert aws.kafka_source_options()["kafka.sasl.mechanism"] == "AWS_MSK_IAM"
    assert aws.catalog_properties()["rest.sigv4-enabled"] == "true"
    conf = aws.spark_conf()
    assert conf["spark.sql.catalog.lake.rest.signing-name"] == "glue"
    assert "aws-msk-iam-auth" in conf["spark.jars.packages"]
    assert not any("access-key" in name or "bindAddress" in name or name == "spark.master" for name in conf)


def test_the_profile_may_come_from_the_homes_file(home: Path) -> None:
    (home / "paywave.toml").write_text(
        'profile = "aws"\n[kafka]\nbootstrap_servers = "b"\n[catalog]\nuri = "u"\nwarehouse = "w"\n'
    )
    assert load_settings().profile == "aws"


def test_a_missing_setting_names_every_place_in_order(home: Path) -> None:
    with pytest.raises(MissingSetting) as caught:
        load_settings().kafka_properties()
    said = str(caught.value)
    assert "kafka.bootstrap_servers" in said
    positions = [said.index(place) for place in PLACES]
    assert positions == sorted(positions)
    assert "PAYWAVE_KAFKA__BOOTSTRAP_SERVERS" in caught.value.hint
    assert "paywave up" in caught.value.hint


def test_the_aws_profile_misses_its_settings_at_once(home: Path) -> None:
    with pytest.raises(MissingSetting, match=r"profiles/aws\.toml"):
        load_settings(profile="aws")


def test_a_wrong_setting_names_its_origin_and_every_place(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYWAVE_KAFKA__PARTITIONS", "many")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    said = str(caught.value)
    assert "kafka.partitions is wrong" in said
    assert "came from: environment" in said
    assert all(place in said for place in PLACES)
    assert "PAYWAVE_KAFKA__PARTITIONS" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PAYWAVE_KAFAK__TOPIC", "t", "PAYWAVE_KAFKA"),
        ("PAYWAVE_KAFKA__TOPPIC", "t", "kafka.toppic"),
        ("PAYWAVE_PROFIL", "aws", "PAYWAVE_PROFILE"),
        ("PAYWAVE_PROFILE", "nowhere", "local, aws"),
        ("PAYWAVE_SPARK__DRIVER_MEMORY", "much", "spark.driver_memory"),
        ("PAYWAVE_STACK__S3_PORT", "70000", "stack.s3_port"),
    ],
)
def test_what_names_no_setting_or_no_value_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        load_settings()


def test_a_group_cannot_also_be_a_value(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYWAVE_KAFKA", "x")
    monkeypatch.setenv("PAYWAVE_KAFKA__TOPIC", "t")
    with pytest.raises(ConfigError, match="twice"):
        load_settings()


@pytest.mark.parametrize("text", ["not toml", "[kafka\n"])
def test_a_broken_file_is_named(home: Path, text: str) -> None:
    (home / "paywave.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"paywave\.toml"):
        load_settings()


def test_a_broken_stack_file_is_named(home: Path) -> None:
    write_stack(home)
    (home / "run" / "stack.json").write_text("{")
    with pytest.raises(ConfigError, match=r"stack\.json"):
        load_settings()


def secret_settings() -> Settings:
    return load_settings(
        kafka={"security": "scram", "username": "u", "password": "hush-1", "bootstrap_servers": "b"},
        s3={"access_key": "hush-2", "secret_key": "hush-3"},
        catalog={"uri": "u", "token": "hush-4"},
    )


def test_secrets_reach_other_tools_but_never_a_repr(home: Path) -> None:
    settings = secret_settings()
    assert "hush" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.kafka_properties()["sasl.password"] == "hush-1"
    assert settings.catalog_properties()["s3.secret-access-key"] == "hush-3"
    assert settings.spark_conf()["spark.sql.catalog.lake.token"] == "hush-4"


def test_a_wrong_secret_is_not_shown(home: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(s3={"secret_key": ["hush"]})
    assert "s3.secret_key" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_cannot_break_out_of_the_login_line(home: Path) -> None:
    settings = load_settings(
        kafka={"security": "scram", "username": "u", "password": 'a"b\\', "bootstrap_servers": "b"}
    )
    assert 'password="a\\"b\\\\";' in settings.kafka_source_options()["kafka.sasl.jaas.config"]


def test_spark_stays_on_the_loopback_with_the_stacks_jars(home: Path) -> None:
    write_stack(home, catalog={"uri": "http://127.0.0.1:1"}, spark={"jars": ["/j/a.jar", "/j/b.jar"]})
    conf = load_settings().spark_conf()
    assert conf["spark.driver.extraClassPath"] == "/j/a.jar:/j/b.jar"
    assert (conf["spark.driver.bindAddress"], conf["spark.driver.host"]) == ("127.0.0.1", "127.0.0.1")
    assert conf["spark.master"] == "local[2]"
    assert conf["spark.sql.catalog.lake.cache-enabled"] == "false"
    assert "spark.jars.packages" not in conf


def test_lists_and_tables_can_come_from_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYWAVE_SPARK__PACKAGES", "g:a:1, g:b:2")
    monkeypatch.setenv("PAYWAVE_SPARK__CONF", '{"spark.ui.enabled": "true"}')
    monkeypatch.setenv("PAYWAVE_CATALOG__URI", "u")
    conf = load_settings().spark_conf()
    assert conf["spark.jars.packages"] == "g:a:1,g:b:2"
    assert conf["spark.ui.enabled"] == "true"


def test_only_a_kafka_on_this_machine_is_taken_for_the_embedded_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An address of production with the profile forgotten: no place for unguarded topics, made-up keys."""
    for address, is_embedded in {
        "127.0.0.1:9092": True,
        "localhost:9092": True,
        "prod-1:9092": False,
        "127.0.0.1:9092,prod-1:9092": False,
    }.items():
        monkeypatch.setenv("PAYWAVE_KAFKA__BOOTSTRAP_SERVERS", address)
        settings = load_settings(home=tmp_path)
        assert settings.is_local and settings.is_embedded == is_embedded
        assert (settings.dev_keys is not None) == is_embedded
