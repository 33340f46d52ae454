"""Relations that a reproduction checks, controls included."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dosimeter.core.result import Figure, Table

Relation = Literal["<=", ">=", "=="]
_HOLDS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Claim:
    """A statement, the measured value, and the bound it must meet.

    Attributes:
        control: a run that must *not* succeed, or a planted effect that must be found; without one nothing is shown.
        open: why this relation is known not to hold; it then shows as not holding without failing the build.
    """

    name: str
    statement: str
    value: float
    relation: Relation
    bound: float
    low: float | None = None
    high: float | None = None
    control: bool = False
    open: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the measured value meets the bound; NaN and infinity meet none."""
        return math.isfinite(self.value) and bool(_HOLDS[self.relation](self.value, self.bound))

    @property
    def fails_build(self) -> bool:
        """Whether it does not hold, and is not marked open."""
        return not self.holds and self.open is None

    def as_dict(self) -> dict[str, Any]:
        """The claim and whether it holds, as JSON values; a number that is not finite becomes ``None``."""
        numbers = {name: _finite(getattr(self, name)) for name in ("value", "low", "high", "bound")}
        return {**asdict(self), **numbers, "holds": self.holds}


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None


@dataclass(frozen=True)
class Reproduction:
    """The outcome of one ``dosimeter reproduce`` run; tables and figures show what the claims were read off."""

    slug: str
    size: Literal["quick", "full"]
    seed: int
    seconds: float
    claims: list[Claim] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 unless an unmarked claim fails; a reproduction without a control proves nothing and fails too."""
        return int(
            any(claim.fails_build for claim in self.claims) or not any(claim.control for claim in self.claims)
        )

    def as_dict(self) -> dict[str, Any]:
        """The run, its claims and tables as JSON values; figures are files of their own."""
        return {
            "slug": self.slug,
            "size": self.size,
            "seed": self.seed,
            "seconds": self.seconds,
            "claims": [claim.as_dict() for claim in self.claims],
            "tables": [table.model_dump(mode="json") for table in self.tables],
        }
