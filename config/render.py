"""Settings in the words of other tools: pyiceberg, Spark, librdkafka. Pure functions of the settings.

Belongs here: names of foreign options. Does not: values of our own, I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from config.groups import CatalogSettings, KafkaSettings, S3Settings, SparkSettings

CATALOG = "lake"
_MSK_IAM = "software.amazon.msk.auth.iam"
_SPARK_CATALOG = f"spark.sql.catalog.{CATALOG}"


def catalog_properties(catalog: CatalogSettings, s3: S3Settings) -> dict[str, str]:
    """Properties for `pyiceberg.catalog.load_catalog`; contains secrets in clear."""
    return _given(
        {
            "type": "rest",
            "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
            **_rest(catalog, s3),
            "s3.endpoint": s3.endpoint,
            "s3.access-key-id": _secret(s3.access_key),
            "s3.secret-access-key": _secret(s3.secret_key),
            "s3.region": s3.region,
            "s3.path-style-access": str(s3.path_style).lower(),
            "s3.force-virtual-addressing": "false" if s3.path_style else None,
        }
    )


def spark_conf(
    spark: SparkSettings, catalog: CatalogSettings, s3: S3Settings, local: bool, scratch: Path
) -> dict[str, str]:
    """All of Spark's configuration; contains secrets in clear. Locally everything binds 127.0.0.1."""
    return _given(
        {
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            "spark.sql.defaultCatalog": CATALOG,
            "spark.sql.session.timeZone": "UTC",
            # Batch after batch runs the same code: with the default of 100 it is compiled again each time.
            "spark.sql.codegen.cache.maxEntries": "1000",
            # A batch is kept while it is folded: looking for how to press it costs more than its room.
            "spark.sql.inMemoryColumnarStorage.compressed": "false",
            "spark.sql.shuffle.partitions": str(spark.shuffle_partitions),
            "spark.redaction.regex": "(?i)secret|password|token|access[.-]?key|jaas|credential",
            "spark.jars.packages": ",".join(spark.packages) or None,
            **_spark_catalog(catalog, s3),
            **(_on_this_machine(spark, scratch) if local else {}),
            "spark.master": spark.master,
            **spark.conf,
        }
    )


def kafka_properties(kafka: KafkaSettings) -> dict[str, str]:
    """librdkafka's properties. With `msk-iam`, `streaming.kafka_client` adds what signs tokens in process."""
    return _given({"bootstrap.servers": kafka.bootstrap_servers, **_librdkafka_security(kafka)})


def kafka_source_options(kafka: KafkaSettings) -> dict[str, str]:
    """Options of Spark's Kafka source: how to reach the brokers, not what to read."""
    return _given({"kafka.bootstrap.servers": kafka.bootstrap_servers, **_java_security(kafka)})


def _rest(catalog: CatalogSettings, s3: S3Settings) -> dict[str, str | None]:
    signing = {
        "rest.sigv4-enabled": "true",
        "rest.signing-name": catalog.signing_name,
        "rest.signing-region": catalog.signing_region or s3.region,
    }
    return {
        "uri": catalog.uri,
        "warehouse": catalog.warehouse,
        "token": _secret(catalog.token),
        "credential": _secret(catalog.credential),
        "oauth2-server-uri": catalog.oauth2_server_uri,
        "scope": catalog.scope,
        **(signing if catalog.sigv4 else {}),
    }


def _spark_catalog(catalog: CatalogSettings, s3: S3Settings) -> dict[str, str | None]:
    options = {
        "type": "rest",
        # A cached table would hide commits that pyiceberg publishes beside Spark.
        "cache-enabled": "false",
        "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        **_rest(catalog, s3),
        "client.region": s3.region,
        "s3.endpoint": s3.endpoint,
        "s3.path-style-access": str(s3.path_style).lower(),
        "s3.access-key-id": _secret(s3.access_key),
        "s3.secret-access-key": _secret(s3.secret_key),
    }
    prefixed = {f"{_SPARK_CATALOG}.{name}": value for name, value in options.items()}
    return {_SPARK_CATALOG: "org.apache.iceberg.spark.SparkCatalog", **prefixed}


def _on_this_machine(spark: SparkSettings, scratch: Path) -> dict[str, str | None]:
    return {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": spark.driver_memory,
        "spark.driver.extraClassPath": ":".join(map(str, spark.jars)) or None,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # Keeps Spark from printing its own JSON of every failed call on stderr, beside our one error.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
    }


def _librdkafka_security(kafka: KafkaSettings) -> dict[str, str | None]:
    if kafka.security == "plaintext":
        return {}
    if kafka.security == "tls":
        return {"security.protocol": "SSL"}
    if kafka.security == "msk-iam":
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "OAUTHBEARER",
            # Handed to whoever signs the tokens: the region that they are for.
            "sasl.oauthbearer.config": kafka.region,
        }
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": kafka.username,
        "sasl.password": _secret(kafka.password),
    }


def _java_security(kafka: KafkaSettings) -> dict[str, str | None]:
    if kafka.security == "plaintext":
        return {}
    if kafka.security == "tls":
        return {"kafka.security.protocol": "SSL"}
    if kafka.security == "msk-iam":
        return {
            "kafka.security.protocol": "SASL_SSL",
            "kafka.sasl.mechanism": "AWS_MSK_IAM",
            "kafka.sasl.jaas.config": f"{_MSK_IAM}.IAMLoginModule required;",
            "kafka.sasl.client.callback.handler.class": f"{_MSK_IAM}.IAMClientCallbackHandler",
        }
    return {
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.mechanism": "SCRAM-SHA-512",
        "kafka.sasl.jaas.config": _scram_login(kafka),
    }


def _scram_login(kafka: KafkaSettings) -> str:
    def quoted(value: str | None) -> str:
        escaped = (value or "").replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    return (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        f"username={quoted(kafka.username)} password={quoted(_secret(kafka.password))};"
    )


def _secret(value: object) -> str | None:
    reveal = getattr(value, "get_secret_value", None)
    return str(reveal()) if reveal else None


def _given(options: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in options.items() if value is not None}
