"""``dosimeter plan``: what would run, before anything runs."""

from __future__ import annotations

from typing import Any

from dosimeter.cli.options import AsJson, Spec, Trust, read_spec


def plan(spec: Spec = None, trust: Trust = False, as_json: AsJson = False) -> int:
    """Show what an audit would run and what it may cost."""
    from dosimeter.cli.display import print_entry, print_json, print_table, reporting
    from dosimeter.report.wording import number_text, seconds_text
    from dosimeter.study.plan import plan as plan_study

    study = read_spec(spec, trust)
    with reporting():
        planned = plan_study(study)
    cells: list[dict[str, Any]] = [
        {
            "attack": cell.cell.attack,
            "defense": cell.cell.defense,
            "seed": cell.cell.seed,
            "status": cell.status,
            "queries": cell.estimate.queries if cell.estimate else None,
            "candidate_queries": cell.estimate.candidate_queries if cell.estimate else None,
            "seconds": cell.estimate.seconds if cell.estimate else None,
            "reason": cell.reason,
        }
        for cell in planned.cells
    ]
    if as_json:
        print_json(
            {
                "name": study.name,
                "target": planned.target,
                "target_access": planned.target_access,
                "cells": cells,
                "queries": planned.queries,
                "seconds": planned.seconds,
                "budget": study.budget.model_dump(),
                "notes": planned.notes,
                "exit_code": planned.exit_code,
            }
        )
        return planned.exit_code
    print_table(
        f"{study.name}: {planned.target} ({planned.target_access})",
        ["attack", "defence", "seed", "would", "queries", "time"],
        [
            [
                cell["attack"],
                cell["defense"],
                cell["seed"],
                cell["status"],
                None if cell["queries"] is None else number_text(cell["queries"]),
                None if cell["seconds"] is None else seconds_text(cell["seconds"]),
            ]
            for cell in cells
        ],
    )
    budget = study.budget
    allowed = "no limit" if budget.queries is None else f"{number_text(budget.queries)} allowed"
    time_allowed = "no limit" if budget.seconds is None else f"{seconds_text(budget.seconds)} allowed"
    time = "not known" if planned.seconds is None else seconds_text(planned.seconds)
    reasons: dict[str, list[str]] = {}
    for planned_cell in planned.cells:
        if planned_cell.reason:
            reasons.setdefault(planned_cell.reason, []).append(planned_cell.cell.label)
    for reason, where in reasons.items():
        print_entry("Why", f"{'; '.join(where)}: {reason}")
    print_entry(
        "Total", f"at most {number_text(planned.queries)} queries ({allowed}); time {time} ({time_allowed})"
    )
    for note in planned.notes:
        print_entry("Note", note)
    if not planned.exit_code:
        print_entry("Next", study.origin.command)
    return planned.exit_code
