"""Studies of any shape, concluded as the engine would."""

from hypothesis import strategies as st

from dosimeter.core.result import Metric, Provenance, Result
from dosimeter.study.conclude import _verdict
from dosimeter.study.outcome import Bill, Cell, CellOutcome, PolicyFinding, StudyOutcome

VERDICTS = ("pass", "fail", "undetermined", "error")


def result(verdict: str, *, measured: bool = True, text: str = "said") -> Result:
    return Result(
        method="membership", title="Membership", verdict=verdict, summary=text,
        reason=None if verdict in ("pass", "fail") else f"why {text}",
        metrics=[Metric(name="auc", value=0.7, low=0.6, high=0.8, n=50, interval="DeLong, 95%")] if measured else [],
        provenance=Provenance(seed=0),
    )  # fmt: skip


def study(cells: list[CellOutcome], findings: list[PolicyFinding], **changes) -> StudyOutcome:
    said = {
        "run": "20260314-102205-7f3a", "name": "study", "verdict": _verdict(cells, findings), "summary": "in short",
        "target": "service", "target_access": "takes text", "spec": "attacks: [membership]\n", "command": "dosimeter audit a.yaml",
        "started": "2026-03-14T10:22:05+00:00", "cells": cells, "findings": findings, "bill": Bill(queries=1, seconds=2.5),
    }  # fmt: skip
    return StudyOutcome(**{**said, **changes})


def finding(cell: Cell, verdict: str, name: str = "auc", text: str = "open") -> PolicyFinding:
    return PolicyFinding(
        metric=f"{cell.attack}.{name}", relation="<=", bound=0.75, cell=cell, verdict=verdict,
        measured=result("pass").metrics[0], reason=None if verdict in ("pass", "fail") else f"because {text}",
    )  # fmt: skip


@st.composite
def studies(draw: st.DrawFn) -> StudyOutcome:
    """Up to two attacks and defences and three seeds, measured or not, under up to two lines of policy or none."""
    attacks = draw(st.lists(st.sampled_from(["membership", "inversion"]), max_size=2, unique=True))
    defenses = draw(st.lists(st.sampled_from(["none", "rounding(decimals=1)"]), min_size=1, unique=True))
    seeds = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
    words = st.text(max_size=30)
    cells = [
        CellOutcome(
            cell=Cell(attack=attack, defense=defense, seed=seed),
            result=result(draw(st.sampled_from(VERDICTS)), measured=draw(st.booleans()), text=draw(words)),
        )
        for attack in attacks
        for defense in defenses
        for seed in seeds
    ]
    judged = draw(st.sets(st.sampled_from(attacks))) if attacks else set()
    findings = [
        finding(done.cell, draw(st.sampled_from(VERDICTS)), name, draw(words))
        for name in draw(st.lists(st.sampled_from(["auc", "tpr@1%fpr"]), max_size=2, unique=True))
        for done in cells
        if done.cell.attack in judged
    ]
    return study(
        cells,
        findings,
        name=draw(words),
        spec=draw(words),
        started=draw(st.sampled_from(["", "2026-03-14T10:22:05"])),
    )
