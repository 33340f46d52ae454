"""The cells of a study, in the order in which they are planned, admitted and reported."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dosimeter.core.records import content_hash
from dosimeter.study.outcome import Cell
from dosimeter.study.spec import StudySpec


@dataclass(frozen=True)
class GridCell:
    """One cell with the places of its attack and its defence in the spec."""

    cell: Cell
    attack: int
    defense: int

    @property
    def folder(self) -> str:
        """A file name of this cell's own."""
        return folder_of(self.cell)


def folder_of(cell: Cell) -> str:
    """The file name of ``cell`` among all cells of a study; where its files are, below ``artifacts``."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", f"{cell.attack} {cell.defense} {cell.seed}")
    return f"{readable[:60].strip('-')}-{content_hash(cell.label)[:6]}"


def grid(spec: StudySpec) -> list[GridCell]:
    """Every attack against every defence under every seed; seeds vary fastest, attacks slowest."""
    return [
        GridCell(Cell(attack=method.slug, defense=defended.label, seed=seed), attack, defense)
        for attack, method in enumerate(spec.attacks)
        for defense, defended in enumerate(spec.defenses)
        for seed in spec.all_seeds
    ]
