"""What a self-test found, case by case."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SelftestCase:
    """One thing that was tried.

    Attributes:
        what: what was tried, in words.
        outcome: what happened, in a word or two.
        ok: whether that is what should happen.
        detail: the message seen, or why it is not ok.
    """

    name: str
    what: str
    outcome: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class SelftestReport:
    """All cases of one self-test."""

    name: str
    cases: list[SelftestCase]

    @property
    def ok(self) -> bool:
        """Whether every case is; a self-test without cases shows nothing and is not."""
        return bool(self.cases) and all(case.ok for case in self.cases)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON: ``name``, ``cases`` with their fields, and ``ok``."""
        return {**asdict(self), "ok": self.ok}
