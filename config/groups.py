"""The groups of settings: which values exist, their types, limits and defaults.

Belongs here: the pydantic models of each group. Does not: where values come from (`sources.py`,
`settings.py`) or what other tools call them (`render.py`).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

Port = Annotated[int, Field(ge=1, le=65535)]
KafkaSecurity = Literal["plaintext", "tls", "scram", "msk-iam"]


def _listed(value: Any) -> Any:
    """Environment variables say lists as `a,b`."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class Group(BaseModel):
    """A frozen group that refuses names it does not know, so that a typing error never passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KafkaSettings(Group):
    """The log: where it is, how to speak to it, and how its topic is laid out."""

    bootstrap_servers: str | None = None
    topic: str = "payments.events"
    partitions: int = Field(default=4, ge=1)
    replication_factor: int = Field(default=1, ge=1)
    min_insync_replicas: int = Field(default=1, ge=1)
    retention_days: int = Field(default=30, ge=1)
    security: KafkaSecurity = "plaintext"
    region: str = "us-east-1"  # of MSK, for msk-iam
    username: str | None = None
    password: SecretStr | None = None


class S3Settings(Group):
    """The object store. Without keys the usual AWS credential chain is used."""

    endpoint: str | None = None
    region: str = "us-east-1"
    path_style: bool = False
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None


class CatalogSettings(Group):
    """The Iceberg REST catalog, any implementation."""

    uri: str | None = None
    warehouse: str | None = None
    sigv4: bool = False
    signing_name: str = "glue"
    signing_region: str | None = None
    token: SecretStr | None = None
    credential: SecretStr | None = None
    oauth2_server_uri: str | None = None
    scope: str | None = None


class SparkSettings(Group):
    """The engine. `jars` are local files, `packages` are coordinates that Spark resolves by itself."""

    master: str | None = None
    driver_memory: str = Field(default="1g", pattern=r"^\d+[kmgKMG]$")
    shuffle_partitions: int = Field(default=4, ge=1)
    jars: Annotated[tuple[Path, ...], BeforeValidator(_listed)] = ()
    packages: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    conf: Annotated[dict[str, str], BeforeValidator(_json)] = {}


class StreamingSettings(Group):
    """The streaming jobs: `trigger_s`, from one publish of raw to the next. Curated follows each.

    What a batch costs hardly depends on its records: shorter pauses cost CPU, snapshots and small files,
    longer ones freshness. Readers are promised two minutes; Snowflake's refresh takes up to 30 s of them.
    """

    trigger_s: float = Field(default=10, gt=0)


class TablesSettings(Group):
    """What the tables' layout depends on."""

    buckets: int = Field(default=4, ge=1)


class PartnersSettings(Group):
    """Who may send: the registry's file. The one that ships with the project unless another is named."""

    registry: Path | None = None


class GatewaySettings(Group):
    """The HTTP gateway: where it listens, what it takes at most, how long it waits.

    `token_keys` is the file of the keys that card numbers are tokenised with; the embedded stack makes its
    own. With `kms_region`, AWS KMS opens the keys in it. TLS needs certificate and key; with `tls_client_ca`,
    callers must show a certificate of that authority too.
    """

    host: str = "127.0.0.1"
    port: Port = 18080
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    max_events: int = Field(default=10_000, ge=1)
    max_in_flight_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    # More than a load balancer waits (60 s at AWS): it must not use a connection that is being closed.
    idle_timeout_s: float = Field(default=65, gt=0)
    body_timeout_s: float = Field(default=10, gt=0)
    delivery_timeout_s: float = Field(default=10, gt=0)
    signature_window_s: float = Field(default=300, gt=0)
    drain_s: float = Field(default=20, gt=0)
    token_keys: Path | None = None
    kms_region: str | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None

    @model_validator(mode="after")
    def _has_room_for_a_body(self) -> Self:
        # One partner gets half of the room: a body that is taken must fit into it.
        if self.max_in_flight_bytes < 4 * self.max_body_bytes:
            raise ValueError("max_in_flight_bytes must be at least four times max_body_bytes")
        return self


class DropzoneSettings(Group):
    """The dropzone: where partners' files land, how often it looks, how long a claim on a file holds.

    `delivery_timeout_s` without an acknowledgement is an alert; a file is not given up for it. A file that
    changed within `quiet_s` is left alone yet. `landing` is a folder or `s3://bucket/prefix`, with one folder
    per partner. Without it the embedded stack uses a folder of its own. `sftp_host_key` is the SFTP server's
    private key; that stack makes its own.
    """

    landing: str | None = None
    scan_s: float = Field(default=5, gt=0)
    # Three times the brokers' replica.lag.time.max.ms. Half of a claim is left when a dropzone is killed. In
    # that time, which is once and a half that lag, replicas that hang drop out, and all it sent can be read.
    lease_s: float = Field(default=90, ge=1)
    delivery_timeout_s: float = Field(default=10, gt=0)
    # On S3 a file's time is in whole seconds: what changes it within the same second would not be seen.
    quiet_s: float = Field(default=5, ge=0)
    sftp_host: str = "127.0.0.1"
    sftp_port: Port = 18022
    sftp_host_key: Path | None = None


class ErasureSettings(Group):
    """Keys of the persons whose personal fields are sealed: where they are, and what opens them.

    `keyring` is the file, in the home folder unless given. `master_key` is the file of the key that it is
    under, 64 bytes in hex; with `kms_region` it holds what AWS KMS closed, in base64. The embedded stack
    makes its own. A process keeps at most `cached_keys` in memory, each for `cached_s`: so long after an
    erasure it may go on sealing with a key that nobody has any more.
    """

    keyring: Path | None = None
    master_key: Path | None = None
    kms_region: str | None = None
    cached_keys: int = Field(default=10_000, ge=1)
    cached_s: float = Field(default=60, ge=0)


class BackfillSettings(Group):
    """Planned backfills: how much at once, how far the live job may fall behind, what cores do and cost.

    At most `chunk_hours` and `chunk_rows` are gathered from raw at once: each chunk reads raw from its first
    hour on. At most `unit_rows` are published at once, fewer where live writers were first. A run waits while
    payments are more than `freshness_s` behind raw. The rates are what one core of the local profile did;
    once a backfill is done, plans go by how long that one took. `price_per_core_hour` is in dollars, memory
    included. `niceness` is the priority that a run leaves to others on its machine.
    """

    chunk_hours: int = Field(default=168, ge=1)
    chunk_rows: int = Field(default=20_000_000, ge=1)
    unit_rows: int = Field(default=200_000, ge=1)
    # Readers are promised records within two minutes: most of that is left to the live job for catching up.
    freshness_s: float = Field(default=30, gt=0)
    cores: int = Field(default=2, ge=1)
    raw_records_per_core_s: float = Field(default=8_000, gt=0)
    rows_per_core_s: float = Field(default=5_000, gt=0)
    price_per_core_hour: float = Field(default=0.08, ge=0)
    niceness: int = Field(default=15, ge=0, le=19)


class RetentionSettings(Group):
    """How long each store keeps what it has: never for less than was promised.

    `curated_months`: None keeps curated rows for good; they never go before raw's. Kafka's own days are
    `kafka.retention_days`, the years of exports `audit.retention_years`.
    """

    raw_months: int = Field(default=30, ge=30)
    curated_months: int | None = Field(default=None, ge=30)


class ImmutabilitySettings(Group):
    """How the bucket that raw's files are in is protected: Object Lock, versions, a policy against deletion.

    `prefix` is that of the keys which nobody may delete, all of the bucket's unless given. A lock of mode
    `governance` can be lifted by who has the right to, one of `compliance` by nobody before its `years` are
    over. `exempt_role_arn` is the role that retention, expiry and orphan removal run as.
    """

    bucket: str | None = None
    prefix: str = ""
    mode: Literal["none", "governance", "compliance"] = "none"
    years: int = Field(default=2, ge=1)
    exempt_role_arn: str | None = None


class AuditSettings(Group):
    """Audit exports: where they go, what signs them, how long the store keeps them from being deleted.

    `exports` is a folder or `s3://bucket/prefix`; PAYWAVE_HOME/exports unless given. They are signed by the
    Ed25519 key in the file `signing_key` (PEM), which the embedded stack makes for itself, or by the key
    `kms_key` of AWS KMS. `object_lock` is for a bucket that has it. `memory_mb` is what joining and
    sorting take before they spill to disk, beside about 300 MB for all else.
    """

    exports: str | None = None
    signing_key: Path | None = None
    kms_key: str | None = None
    kms_region: str = "us-east-1"
    object_lock: Literal["none", "governance", "compliance"] = "none"
    retention_years: int = Field(default=7, ge=7, le=100)
    memory_mb: int = Field(default=512, ge=256)

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if self.signing_key is not None and self.kms_key is not None:
            raise ValueError("give one of signing_key and kms_key")
        return self


class SnowflakeSettings(Group):
    """Snowflake: who logs in there, how its catalog integration reaches ours, how its objects are called.

    A service user logs in by `private_key_file` (PEM, with a passphrase or without); `host` and `password`
    are for the stand-in. `catalog_uri` and `volume_url` are the lake's own unless given. `catalog_auth` says
    which of the credentials below it counts. `oauth_scopes` are what the catalog's token is asked for:
    Polaris calls them so; another catalog has words of its own. `refresh_credits_per_hour` is what a guess of
    the refreshes' cost takes for an hour of Snowflake's own compute. Expiry keeps snapshots for `hold_days`
    that Snowflake has not gone past.
    """

    account: str | None = None
    user: str | None = None
    role: str | None = None
    warehouse: str | None = None
    private_key_file: Path | None = None
    private_key_passphrase: SecretStr | None = None
    password: SecretStr | None = None
    host: str | None = None
    port: Port | None = None
    protocol: Literal["https", "http"] = "https"

    prefix: str = Field(default="PAYWAVE", pattern=r"^[A-Z][A-Z0-9_]*$")
    linked: bool = False
    refresh_s: int = Field(default=30, ge=30, le=86_400)
    credits_per_month: int = Field(default=100, ge=1)
    hold_days: int = Field(default=1, ge=0, le=30)
    refresh_credits_per_hour: float = Field(default=1.0, gt=0)

    volume_url: str | None = None
    volume_role_arn: str | None = None
    volume_external_id: str | None = None
    catalog_uri: str | None = None
    catalog_name: str | None = None
    catalog_source: Literal["ICEBERG_REST", "POLARIS"] = "ICEBERG_REST"
    catalog_api_type: (
        Literal[
            "PUBLIC",
            "PRIVATE",
            "AWS_API_GATEWAY",
            "AWS_PRIVATE_API_GATEWAY",
            "AWS_GLUE",
            "AWS_PRIVATE_GLUE",
        ]
        | None
    ) = None
    catalog_auth: Literal["oauth", "sigv4", "bearer"] = "oauth"
    oauth_client_id: str | None = None
    oauth_client_secret: SecretStr | None = None
    oauth_token_uri: str | None = None
    oauth_scopes: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ("PRINCIPAL_ROLE:ALL",)
    sigv4_role_arn: str | None = None
    sigv4_external_id: str | None = None
    bearer_token: SecretStr | None = None


class WorkSettings(Group):
    """Where the commands run that Dagster launches: in a process beside it, or in a pod of Kubernetes.

    A pod runs `image`, which has `paywave` on its path. The keys of the secret named `secret` (`PAYWAVE_…`)
    are in its environment. It asks for `cores` and `memory`, and is ended after `deadline_s` at the latest.
    Its home folder is gone with it, and how far a backfill was too, unless `volume_claim` names a claim
    (ReadWriteMany, with locks, e.g. EFS) that is mounted as the home of every pod.
    """

    place: Literal["process", "kubernetes"] = "process"
    image: str | None = None
    namespace: str = "paywave"
    service_account: str | None = None
    secret: str | None = None
    volume_claim: str | None = None
    cores: int = Field(default=4, ge=1)
    memory: str = "16Gi"
    deadline_s: int = Field(default=6 * 3600, ge=1)
    poll_s: float = Field(default=10, gt=0)


class StackSettings(Group):
    """The embedded servers. A port that is taken is replaced by a free one when the stack starts."""

    kafka_port: Port = 19092
    s3_port: Port = 19000
    catalog_port: Port = 19120
    start_timeout_s: float = Field(default=120, gt=0)
    stop_timeout_s: float = Field(default=20, gt=0)


class RegistrySettings(Group):
    """The schema registry: base URL of its Confluent-compatible API, for `paywave schemas register`."""

    url: str | None = None
    username: str | None = None
    password: SecretStr | None = None


class ConductorSettings(Group):
    """Dagster: where its pages listen, where its runs are kept, who is told of what fails.

    Runs are kept on SQLite below the home folder, with `postgres_url` on PostgreSQL. `webhook_url` takes
    alerts as JSON; without it they are logged. `first_hour` is the first event hour that can be backfilled
    from the pages. A run of a backfill takes at most `backfill_hours`; if it fails, it tries again after
    `retry_seconds`.
    """

    host: str = "127.0.0.1"
    port: Port = 13000
    postgres_url: SecretStr | None = None
    webhook_url: SecretStr | None = None
    first_hour: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    backfill_hours: int = Field(default=24, ge=1)
    retry_seconds: float = Field(default=30.0, ge=0)

    @field_validator("webhook_url")
    @classmethod
    def _is_an_address(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("an address that begins with https:// is wanted")
        return url

    @field_validator("first_hour")
    @classmethod
    def _starts_an_hour(cls, hour: datetime) -> datetime:
        if hour.tzinfo is None or hour.replace(minute=0, second=0, microsecond=0) != hour:
            raise ValueError("the start of an hour with its offset is wanted, e.g. 2026-01-01T00:00Z")
        return hour.astimezone(UTC)
