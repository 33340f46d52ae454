"""What a study ended with: one result per cell of the grid, the policy's findings, the bill.

This is what ``report.json`` holds and what every report format is made from; the numbers are the same everywhere.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dosimeter.core.result import Metric, Result, Verdict

Relation = Literal["<=", ">=", "==", "<", ">"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(_Frozen):
    """One place of the grid."""

    attack: str
    defense: str = "none"
    seed: int = 0

    @property
    def label(self) -> str:
        """The cell in words, as in ``encoder-inference against jpeg-inputs, seed 0``."""
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
    relation: Relation
    bound: float
    cell: Cell
    measured: Metric | None
    verdict: Verdict
    reason: str | None = None


class Bill(_Frozen):
    """Queries of the target over the whole study.

    Attributes:
        queries: distinct ones, summed over the cells; the same whether they were sent or answered from the cache.
        sent: calls that left in this run, lost ones included; ``None`` if not counted.
        lost: calls that left and whose answers never arrived (failures, kills).
        limit: the cap of the spec.
        money: price of ``queries``.
        seconds: wall-clock time, over all sittings of a run that was interrupted.
    """

    queries: int
    sent: int | None = None
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
    spec_file: str = Field("", description="its file, from the root of the repository; empty if it has none")
    command: str = Field(description="how to run it again")
    started: str = Field(description="ISO 8601, UTC")
    cells: list[CellOutcome]
    findings: list[PolicyFinding] = Field(default_factory=list)
    bill: Bill
    next_step: str = ""

    def to_json(self) -> str:
        """The document of ``report.json``, indented."""
        return self.model_dump_json(indent=1)


def comparable(outcome: StudyOutcome) -> dict[str, Any]:
    """``outcome`` without what may differ between two runs of one spec: equal for a run that was killed and resumed
    and one that was not. Left out: run, start, time, memory, calls sent and lost.
    """
    document = outcome.model_dump(mode="json", exclude={"run", "started"})
    for field in ("sent", "lost", "seconds"):
        del document["bill"][field]
    for cell in document["cells"]:
        for field in ("seconds", "peak_memory_bytes"):
            del cell["result"]["cost"][field]
    return document
