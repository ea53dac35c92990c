"""The registry of partners: who may send us events, with which keys, how fast, and what is asked of them.

Belongs here: the model of the registry's file. Does not: the secrets (`keys.py`), samples (`check.py`).
"""

from __future__ import annotations

import tomllib
from collections import Counter
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from quality.personal import PersonalFields
from streaming.errors import RegistryError

REGISTRY = Path(__file__).parent / "registry.toml"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
CardPolicy = Literal["refuse", "tokenise"]


class Strict(BaseModel):
    """Refuses names it does not know: a typing error in a reviewed file never passes silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SecretSource(Strict):
    """Where a key's secret comes from: one of an environment variable, a file, or the local stack."""

    env: str | None = None
    file: Path | None = None
    dev: Literal[True] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if [self.env, self.file, self.dev].count(None) != 2:
            raise ValueError("exactly one of env, file and dev says where the secret comes from")
        return self

    def __str__(self) -> str:
        if self.env:
            return f"environment variable {self.env}"
        return f"file {self.file}" if self.file else "made by the embedded stack"


class SigningKey(Strict):
    """A key that a partner signs with: its public id, and when it works."""

    id: Name
    secret: SecretSource
    not_before: AwareDatetime = datetime.min.replace(tzinfo=UTC)
    not_after: AwareDatetime = datetime.max.replace(tzinfo=UTC)

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.not_before >= self.not_after:
            raise ValueError(f"key {self.id} ends before it begins")
        return self

    def works_at(self, moment: datetime) -> bool:
        return self.not_before <= moment < self.not_after


class FileRules(Strict):
    """How a partner's files come to the dropzone, one folder of that partner's name.

    `complete`: `marker` waits for a manifest, a checksum or a `.done` beside the file; `stable` also takes a
    file that has not changed for `stable_minutes`. One that is not complete for `overdue_minutes` is an
    alert. `ssh_keys` are public keys, as in OpenSSH's authorized_keys, that may upload over SFTP.
    """

    complete: Literal["marker", "stable"] = "marker"
    stable_minutes: Annotated[float, Field(ge=0)] = 5
    overdue_minutes: Annotated[float, Field(ge=0)] = 60
    ssh_keys: tuple[Annotated[str, Field(pattern=r"^(ssh|ecdsa|sk)-\S+ \S+")], ...] = ()


class Partner(Strict):
    """One partner. `source` goes into every record's `ce_source`; rate and burst are events (per second).

    `personal_fields` are sealed like those that are personal with everybody (`quality/personal.py`).
    """

    source: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")]
    description: str
    contacts: Annotated[tuple[str, ...], Field(min_length=1)]
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    burst: Annotated[int, Field(gt=0)]
    card_numbers: CardPolicy
    personal_fields: tuple[str, ...] = ()
    active: bool = True
    profile: str | None = None
    files: FileRules | None = None
    samples: tuple[Path, ...] = ()
    keys: Annotated[tuple[SigningKey, ...], Field(min_length=1)]

    @field_validator("personal_fields")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        PersonalFields(names)
        return names

    @cached_property
    def personal(self) -> PersonalFields:
        """The fields that are personal with this partner."""
        return PersonalFields(self.personal_fields)


class Registry(Strict):
    """All partners by name. Sources and key ids are each one partner's own."""

    partners: dict[Name, Partner]

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Self:
        _refuse_repeated("source", [p.source for p in self.partners.values()])
        _refuse_repeated("key id", [key.id for p in self.partners.values() for key in p.keys])
        return self

    @cached_property
    def by_key(self) -> dict[str, tuple[str, Partner, SigningKey]]:
        """Key id -> partner's name, partner, key."""
        return {key.id: (name, p, key) for name, p in self.partners.items() for key in p.keys}


def load_registry(path: Path = REGISTRY) -> Registry:
    """Read the registry. Raises RegistryError that names the file and everything that is wrong in it."""
    try:
        return Registry.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise RegistryError(
            f"cannot read the registry of partners {path}: {error.strerror}",
            "check the setting partners.registry",
        ) from None
    except ValidationError as error:
        raise RegistryError(
            f"the registry of partners {path} is wrong:\n{_listed(error)}", "correct what is listed"
        ) from None
    except ValueError as error:
        raise RegistryError(f"the registry of partners {path} is no TOML: {error}", "correct it") from None


def _listed(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_context=False, include_url=False)
    return "\n".join(f"  {'.'.join(map(str, p['loc'])) or 'partners'}: {p['msg']}" for p in problems)


def _refuse_repeated(what: str, values: list[str]) -> None:
    if repeated := [value for value, count in Counter(values).items() if count > 1]:
        raise ValueError(f"{what} {', '.join(repeated)} is given more than once")
