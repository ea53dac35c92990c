"""The settings of everything: one frozen object, loaded once per process and handed on as plain values.

Belongs here: merging the places in order, and errors that name every place. Does not: what a group
contains (`groups.py`), how a place is read (`sources.py`), other tools' words (`render.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from config import render, sources
from config.errors import ConfigError, MissingSetting
from config.groups import (
    AuditSettings,
    BackfillSettings,
    CatalogSettings,
    ConductorSettings,
    DropzoneSettings,
    ErasureSettings,
    GatewaySettings,
    ImmutabilitySettings,
    KafkaSettings,
    PartnersSettings,
    RegistrySettings,
    RetentionSettings,
    S3Settings,
    SnowflakeSettings,
    SparkSettings,
    StackSettings,
    StreamingSettings,
    TablesSettings,
    WorkSettings,
)
from config.sources import Layer, env_name

_LOOPBACK = ("127.", "localhost:", "[::1]")
_NEEDED = {
    "aws": (("kafka", "bootstrap_servers"), ("catalog", "uri"), ("catalog", "warehouse")),
    "local": (),
}


class Settings(BaseSettings):
    """Where things are and how to reach them. Secrets never show in `repr`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    profile: Literal["local", "aws"] = "local"
    home: Path = Path(".paywave")
    cache: Path | None = None
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    s3: S3Settings = Field(default_factory=S3Settings)
    catalog: CatalogSettings = Field(default_factory=CatalogSettings)
    snowflake: SnowflakeSettings = Field(default_factory=SnowflakeSettings)
    spark: SparkSettings = Field(default_factory=SparkSettings)
    tables: TablesSettings = Field(default_factory=TablesSettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    backfill: BackfillSettings = Field(default_factory=BackfillSettings)
    conductor: ConductorSettings = Field(default_factory=ConductorSettings)
    dropzone: DropzoneSettings = Field(default_factory=DropzoneSettings)
    erasure: ErasureSettings = Field(default_factory=ErasureSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    immutability: ImmutabilitySettings = Field(default_factory=ImmutabilitySettings)
    streaming: StreamingSettings = Field(default_factory=StreamingSettings)
    partners: PartnersSettings = Field(default_factory=PartnersSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    stack: StackSettings = Field(default_factory=StackSettings)
    work: WorkSettings = Field(default_factory=WorkSettings)

    _looked_at: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Expect the layers as one argument, so that each load reads its own places and nothing is global."""
        assert isinstance(init_settings, InitSettingsSource)
        layers: Sequence[Layer] = init_settings.init_kwargs.pop("layers", ())
        given = (InitSettingsSource(settings_cls, dict(layer.values)) for layer in layers)
        return (init_settings, *given)

    @property
    def is_local(self) -> bool:
        """Whether the embedded stack is what these settings speak of."""
        return self.profile == "local"

    @property
    def is_embedded(self) -> bool:
        """Whether Kafka is the embedded one: with another address the profile `local` may be an oversight."""
        given = self.kafka.bootstrap_servers or ""
        return self.is_local and all(host.startswith(_LOOPBACK) for host in given.split(",") if host.strip())

    def need(self, *path: str) -> Any:
        """The value at `path`; raises MissingSetting, naming every place looked at, when there is none."""
        value: Any = self
        for part in path:
            value = getattr(value, part)
        if value is None:
            raise _missing(path, self.profile, self._looked_at)
        return value

    @property
    def dev_keys(self) -> Path | None:
        """Folder of the keys that the embedded stack makes for itself; None where there is no such stack."""
        return self.home / "run" / "keys" if self.is_embedded else None

    def catalog_properties(self) -> dict[str, str]:
        """Properties for `pyiceberg.catalog.load_catalog("lake", **properties)`. Not for logs."""
        self.need("catalog", "uri")
        return render.catalog_properties(self.catalog, self.s3)

    def spark_conf(self) -> dict[str, str]:
        """The complete configuration of a Spark session. Not for logs."""
        self.need("catalog", "uri")
        return render.spark_conf(self.spark, self.catalog, self.s3, self.is_local, self.home / "spark")

    def kafka_properties(self) -> dict[str, str]:
        """librdkafka's client properties. Not for logs."""
        self.need("kafka", "bootstrap_servers")
        return render.kafka_properties(self.kafka)

    def kafka_source_options(self) -> dict[str, str]:
        """Connection options of Spark's Kafka source. Not for logs."""
        self.need("kafka", "bootstrap_servers")
        return render.kafka_source_options(self.kafka)


def load_settings(**overrides: Any) -> Settings:
    """Merge arguments, environment, home file, running stack, profile and defaults; the first one wins.

    Groups are given as dictionaries (`kafka={"topic": "t"}`). Raises ConfigError.
    """
    home = sources.home_of(overrides)
    given = [Layer("arguments", overrides), _known(sources.environment()), sources.home_file(home)]
    profile = _first(given, "profile") or "local"
    stack = [sources.running_stack(home)] if profile == "local" else []
    layers = [Layer("home", {"home": home}), *given, *stack, sources.profile_file(profile)]
    try:
        settings = Settings(layers=layers)  # type: ignore[call-arg]
    except ValidationError as error:
        raise _wrong(error, layers[1:]) from None  # the cause would carry values, and so secrets
    settings._looked_at = (*(layer.name for layer in layers[1:]), "defaults")
    for path in _NEEDED[profile]:
        settings.need(*path)
    return settings


def _first(layers: Sequence[Layer], name: str) -> str | None:
    return next((str(layer.values[name]) for layer in layers if layer.values.get(name)), None)


def _known(environment: Layer) -> Layer:
    """Keep what names a setting; a near miss is an error, other PAYWAVE_ variables are not ours."""
    fields = set(Settings.model_fields)
    for name, value in environment.values.items():
        near = difflib.get_close_matches(name, fields, n=1, cutoff=0.8)
        if name not in fields and (near or isinstance(value, Mapping)):
            suggestion = f"; did you mean {env_name((near[0],))}?" if near else ""
            raise ConfigError(
                f"the environment variable {env_name((name,))}… names no setting{suggestion}",
                hint=f"the groups are: {', '.join(sorted(fields))}",
            )
    return Layer(environment.name, {k: v for k, v in environment.values.items() if k in fields})


def _places(names: Sequence[str]) -> str:
    return "\n".join(f"  {number}. {name}" for number, name in enumerate(names, start=1))


def _missing(path: tuple[str, ...], profile: str, looked_at: Sequence[str]) -> MissingSetting:
    start = "run `paywave up`, or " if profile == "local" else ""
    return MissingSetting(
        f"the setting {'.'.join(path)} is missing (profile {profile}).\n"
        f"Looked at, in order:\n{_places(looked_at)}",
        hint=f"{start}set {env_name(path)}",
    )


def _wrong(error: ValidationError, layers: Sequence[Layer]) -> ConfigError:
    lines, names = [], []
    for problem in error.errors(include_input=False, include_context=False, include_url=False):
        path = tuple(str(part) for part in problem["loc"] if not isinstance(part, int))
        source = next((layer.name for layer in layers if layer.has(path)), "defaults")
        lines.append(f"the setting {'.'.join(path)} is wrong: {problem['msg']} (it came from: {source})")
        names.append(env_name(path))
    places = _places([*(layer.name for layer in layers), "defaults"])
    return ConfigError(
        "\n".join(lines) + f"\nLooked at, in order:\n{places}",
        hint=f"correct it there, or set {', '.join(names)}, which wins over files",
    )
