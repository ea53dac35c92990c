"""How dirty the generated stream is: shares of all lines, and the chances that give those shares.

Belongs here: shares, presets, their limits. Does not: what each kind of dirt looks like (`dirt.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from streaming.errors import StreamingError


@dataclass(frozen=True)
class Mix:
    """Shares (0 to 1) of all lines, redelivered and malformed ones included.

    `late`, `out_of_order` and `unknown_fields` are properties of a line; the others are lines of their own.
    Raises StreamingError for shares that leave no room for the clean events they need.
    """

    duplicates: float = 0.0
    business_duplicates: float = 0.0
    late: float = 0.0
    out_of_order: float = 0.0
    reversals: float = 0.0
    corrections: float = 0.0
    unknown_fields: float = 0.0
    malformed: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            share = getattr(self, field.name)
            if not 0 <= share <= 1:
                raise StreamingError(
                    f"share {field.name} is {share}", hint="give shares from 0 to 1, such as 0.02"
                )
        if 2 * self._soiled + self.duplicates + self.malformed > 1:
            raise StreamingError(
                "the shares leave no room for the clean events that they need",
                hint="keep 2 x (business duplicates + reversals + corrections) + duplicates + malformed <= 1",
            )

    @property
    def _soiled(self) -> float:
        return self.business_duplicates + self.reversals + self.corrections

    @property
    def _clean(self) -> float:
        return 1 - self.duplicates - self.malformed - self._soiled

    @property
    def again(self) -> float:
        """Chance, after each valid line, that it is redelivered once more."""
        valid = 1 - self.malformed
        return self.duplicates / valid if valid > 0 else 0.0

    @property
    def broken(self) -> float:
        """Chance, before each clean event, of one more malformed line."""
        return self.malformed / (self.malformed + self._clean) if self.malformed else 0.0

    def per_event(self, share: float) -> float:
        """Chance per clean event of a kind of dirt that adds one line and has this share of all lines."""
        return share / self._clean if share else 0.0


PRESETS = {
    "clean": Mix(),
    "demo": Mix(
        duplicates=0.02,
        business_duplicates=0.01,
        late=0.05,
        out_of_order=0.05,
        reversals=0.01,
        corrections=0.01,
        unknown_fields=0.01,
        malformed=0.001,
    ),
}
