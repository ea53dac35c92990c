"""Partner profiles: the model of a profile file, and finding the one that fits a header.

Belongs here: what a profile says. Does not: applying it to rows (`rows.py`).
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from streaming.errors import ProfileError

PROFILES = Path(__file__).parent / "profiles"
MAPPED = (
    "event_type", "event_ts", "account_id", "card_id", "merchant_id",
    "amount", "currency", "network", "status",
)  # fmt: skip
_OPTIONAL = ("transaction_ref",)
_PLACE = re.compile(r"\{([^{}]+)\}")
_NEWLINE_SAFE = re.compile(r"utf-?8|ascii|latin-?1|iso-?8859-?\d+|cp\d+|windows-?\d+", re.IGNORECASE)


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name!r}") from None
    return name


def _byte_per_newline(name: str) -> str:
    # Rows are split at the byte 0x0A before they are decoded, so that a broken row can be sent as it came.
    if not _NEWLINE_SAFE.fullmatch(name):
        raise ValueError(f"{name!r} is not UTF-8 or a single-byte encoding")
    return name


class FlagEvent(BaseModel):
    """A column whose `values` say that a row stands for one more event of another type.

    Values that are neither in `values` nor in `otherwise` make a row unmappable: a flag is never guessed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    values: tuple[str, ...] = ("1",)
    otherwise: tuple[str, ...] = ("0", "")
    event_type: str


class Profile(BaseModel):
    """How one partner's rows become events.

    `fields` maps fields of the event to text in which `{COLUMN}` stands for a column: `"{CUSTOMER_ID}"` is
    the column itself, `"USD"` a constant. Event ids are uuid5 over the profile's name, the event's type and
    the columns of `row_key`, and the ingest time derives from the event's: a file sent twice changes nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    description: str
    source: str
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: Annotated[str, AfterValidator(_byte_per_newline)] = "utf-8"
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    time_format: str = "iso"
    decimal_comma: bool = False
    archive: bool = False
    ingest_delay_seconds: Annotated[int, Field(ge=0)] = 1
    row_key: Annotated[tuple[str, ...], Field(min_length=1)]
    fields: dict[str, str]
    attributes: dict[str, str] = {}
    adds: FlagEvent | None = None

    @model_validator(mode="after")
    def _covers_the_event(self) -> Self:
        missing = sorted(set(MAPPED) - set(self.fields))
        unknown = sorted(set(self.fields) - set(MAPPED) - set(_OPTIONAL))
        if missing or unknown:
            raise ValueError(f"fields: missing {missing}, unknown {unknown}")
        return self

    @cached_property
    def columns(self) -> frozenset[str]:
        """Columns that a file must have."""
        texts = (*self.fields.values(), *self.attributes.values())
        named = {column for text in texts for column in _PLACE.findall(text)}
        return frozenset(named | set(self.row_key) | ({self.adds.column} if self.adds else set()))

    def header(self, line: bytes) -> list[str] | None:
        """Read a header line the profile's way; None if it cannot be."""
        try:
            text = line.removeprefix(b"\xef\xbb\xbf").decode(self.encoding)
            (names,) = csv.reader([text.rstrip("\r\n")], delimiter=self.delimiter, strict=True)
        except (UnicodeDecodeError, csv.Error, ValueError):
            return None
        return [name.strip() for name in names]

    def fits(self, line: bytes) -> bool:
        """Tell whether a header line has every column that the profile needs."""
        return self.columns <= set(self.header(line) or ())


def load_profile(path: Path) -> Profile:
    """Read one profile. Raises ProfileError that names the file and what is wrong with it."""
    try:
        return Profile.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise ProfileError(f"cannot read profile {path}: {error.strerror}", "check the path") from None
    except (ValidationError, ValueError) as error:
        raise ProfileError(f"profile {path} is wrong: {error}", "compare it with a shipped profile") from None


def load_profiles(folder: Path = PROFILES) -> dict[str, Profile]:
    """Every profile of a folder, by name."""
    return {p.name: p for p in map(load_profile, sorted(folder.glob("*.toml")))}


def find_profile(name: str) -> Profile:
    """A shipped profile by its name, or the one in a file whose name ends in `.toml`."""
    if name.endswith(".toml"):
        return load_profile(Path(name))
    profiles = load_profiles()
    if name not in profiles:
        raise ProfileError(f"no profile {name!r}", f"known ones: {', '.join(profiles)}; or give a .toml file")
    return profiles[name]


def recognise(header: bytes, profiles: Iterable[Profile]) -> Profile | None:
    """The profile whose columns the header has; of several the one that needs most of them."""
    fitting = [profile for profile in profiles if profile.fits(header)]
    return max(fitting, key=lambda p: len(p.columns), default=None)
