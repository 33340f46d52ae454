"""What a study would do: which cells run, which cannot and why, and what they will need at most.

Admission depends on nothing but the spec: cells in order, each admitted if its estimate fits what the budget leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dosimeter.core.access import check_access
from dosimeter.core.errors import InputError
from dosimeter.core.method import Context, Estimate
from dosimeter.study.grid import GridCell, grid
from dosimeter.study.materials import Materials
from dosimeter.study.outcome import Cell
from dosimeter.study.spec import StudySpec

Status = Literal["run", "over budget", "cannot run"]


@dataclass(frozen=True)
class PlannedCell:
    """A cell and what would become of it.

    Attributes:
        reason: why it would not run; ``None`` if it would.
        error: the error behind ``cannot run``.
        estimate: upper bound on its needs; ``None`` if it cannot run.
        fingerprint: identity of the defended target; empty if it could not be made.
    """

    place: GridCell
    status: Status
    reason: str | None = None
    error: InputError | None = None
    estimate: Estimate | None = None
    fingerprint: str = ""

    @property
    def cell(self) -> Cell:
        """The place by its names."""
        return self.place.cell


@dataclass(frozen=True)
class Plan:
    """All cells of a spec, planned. ``notes`` say what in the spec has no effect or is likely to be too small."""

    spec: StudySpec
    target: str
    target_access: str
    cells: list[PlannedCell]
    notes: list[str]

    @property
    def admitted(self) -> list[PlannedCell]:
        """Cells that would run, in the order of the spec."""
        return [cell for cell in self.cells if cell.status == "run"]

    @property
    def queries(self) -> int:
        """Upper bound on the queries of the cells that would run."""
        return sum(cell.estimate.queries for cell in self.admitted if cell.estimate)

    @property
    def seconds(self) -> float | None:
        """Estimated time of the cells that would run, one after the other; ``None`` if one cannot tell."""
        times = [cell.estimate.seconds for cell in self.admitted if cell.estimate]
        return None if None in times else float(sum(time for time in times if time is not None))

    @property
    def exit_code(self) -> int:
        """0 if every cell would run, 4 if one cannot, else 2 (the budget is too small)."""
        statuses = {cell.status for cell in self.cells}
        return 4 if "cannot run" in statuses else 2 if "over budget" in statuses else 0


def plan(spec: StudySpec, materials: Materials | None = None) -> Plan:
    """Plan ``spec``. Makes its target and its methods, but asks the target nothing.

    Raises:
        SpecError: settings that methods refuse.
        InputError: the target or the data cannot be made.
    """
    materials = materials or Materials(spec)
    materials.check()
    target, public = materials.target, materials.public
    cells: list[PlannedCell] = []
    left = spec.budget.queries
    for place in grid(spec):
        try:
            attack = materials.attack(place.attack)
            defended = materials.defended(place.defense, place.cell.seed)
            check_access(
                attack.card.slug,
                attack.card.needs,
                target=defended.name,
                modality=defended.modality,
                returns=defended.returns,
                grants=defended.grants,
            )
            estimate = attack.estimate(defended, Context(seed=place.cell.seed, public=public))
        except InputError as error:
            cells.append(PlannedCell(place, "cannot run", str(error), error))
            continue
        if left is not None and estimate.queries > left:
            reason = (
                f"budget too small: it may need {estimate.queries} queries and {left} of {spec.budget.queries} are "
                f"left. Raise budget.queries by {estimate.queries - left}, or choose a smaller attack."
            )
            cells.append(
                PlannedCell(place, "over budget", reason, estimate=estimate, fingerprint=defended.fingerprint)
            )
            continue
        left = None if left is None else left - estimate.queries
        cells.append(PlannedCell(place, "run", estimate=estimate, fingerprint=defended.fingerprint))
    access = f"takes {target.modality}, returns {target.returns}, grants {target.grants}"
    return _with_time_note(Plan(spec, target.name, access, cells, _unused(spec)))


def _unused(spec: StudySpec) -> list[str]:
    given = spec.data.model_dump(exclude_none=True, exclude={"public"})
    return [f"data.{key} is not used by any attack of this spec." for key in given]


def _with_time_note(planned: Plan) -> Plan:
    limit, seconds = planned.spec.budget.seconds, planned.seconds
    if limit is None or seconds is None or seconds <= limit:
        return planned
    note = (
        f"the cells may take {seconds:.0f} s one after the other, but budget.seconds is {limit:g}; those that time does "
        "not suffice for end as undetermined."
    )
    return Plan(planned.spec, planned.target, planned.target_access, planned.cells, [*planned.notes, note])
