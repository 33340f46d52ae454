"""What a study ended with: one result per cell of the grid, the policy's findings, the bill.

This is what ``report.json`` holds and what every report format is made from; the numbers are the same everywhere.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dosimeter.core.result import Metric, Result, Verdict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(_Frozen):
    """One place of the grid."""

    attack: str
    defense: str = "none"
    seed: int = 0

    @property
    def label(self) -> str:
        defended = "" if self.defense == "none" else f" against {self.defense}"
        return f"{self.attack}{defended}, seed {self.seed}"


class CellOutcome(_Frozen):
    """A cell and what came of it."""

    cell: Cell
    result: Result


class PolicyFinding(_Frozen):
    """One line of the policy, judged: ``metric`` ``relation`` ``bound`` in one cell.

    ``fail`` and ``pass`` need the whole interval on one side of the bound; otherwise ``undetermined`` with the reason.
    """

    metric: str
    relation: Literal["<=", ">=", "==", "<", ">"]
    bound: float
    cell: Cell
    measured: Metric | None
    verdict: Verdict
    reason: str | None = None


class Bill(_Frozen):
    """Queries of the target over the whole study: distinct ones, those lost in flight, the cap, and their price."""

    queries: int
    lost: int = 0
    limit: int | None = None
    money: float = 0.0
    seconds: float | None = None


class StudyOutcome(_Frozen):
    """Everything a report says."""

    schema_version: Literal[1] = 1
    run: str = Field(description="identifier of the run in the store")
    name: str
    verdict: Verdict
    summary: str = Field(description="one or two sentences a manager understands")
    target: str
    target_access: str = Field(description="what the target takes, returns and grants, in words")
    spec: str = Field(description="the audit spec as YAML, secrets by name only")
    command: str = Field(description="how to run it again")
    started: str = Field(description="ISO 8601, UTC")
    cells: list[CellOutcome]
    findings: list[PolicyFinding] = Field(default_factory=list)
    bill: Bill
    next_step: str = ""

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)
