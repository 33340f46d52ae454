from dosimeter.report.comparison import compare_defenses
from dosimeter.study.outcome import Cell, CellOutcome


def with_cells(outcome, cells):
    return outcome.model_copy(update={"cells": cells, "findings": []})


def test_one_defence_is_not_compared(outcome, hostile, empty):
    assert compare_defenses(hostile) == []
    assert compare_defenses(empty) == []
    assert compare_defenses(with_cells(outcome, outcome.cells[:1])) == []


def test_the_metrics_of_the_policy_come_first_and_controls_never(outcome):
    (comparison,) = compare_defenses(outcome)
    assert comparison.names == ["identified", "top-score", "top-z", "grubbs-p"]
    assert [row.done.cell.defense for row in comparison.rows] == ["none", "jpeg"]
    assert [row.number for row in comparison.rows] == [1, 2]


def test_the_figure_shows_the_first_metric_with_an_interval_and_the_bound(outcome):
    (comparison,) = compare_defenses(outcome)
    data = comparison.figure.spec["data"]["values"]
    measured = [done.result.metric("top-score") for done in outcome.cells]
    assert [(row["value"], row["low"], row["high"]) for row in data] == [
        (metric.value, metric.low, metric.high) for metric in measured
    ]
    assert "policy ≤ 0.25" in str(comparison.figure.spec)


def test_seeds_are_told_apart(outcome):
    again = [
        CellOutcome(cell=Cell(attack=done.cell.attack, defense=done.cell.defense, seed=1), result=done.result)
        for done in outcome.cells
    ]
    (comparison,) = compare_defenses(with_cells(outcome, [*outcome.cells, *again]))
    labels = [row["label"] for row in comparison.figure.spec["data"]["values"]]
    assert labels == ["none, seed 0", "jpeg, seed 0", "none, seed 1", "jpeg, seed 1"]


def test_a_cell_without_the_metric_is_a_gap(outcome):
    bare = outcome.cells[1].result.model_copy(update={"metrics": []})
    cells = [outcome.cells[0], CellOutcome(cell=outcome.cells[1].cell, result=bare)]
    (comparison,) = compare_defenses(with_cells(outcome, cells))
    assert comparison.rows[1].metrics == [None] * 4
    assert comparison.figure.spec["data"]["values"][1]["value"] is None


def test_attacks_without_metrics_have_no_figure(outcome):
    cells = [
        CellOutcome(cell=done.cell, result=done.result.model_copy(update={"metrics": []}))
        for done in outcome.cells
    ]
    (comparison,) = compare_defenses(with_cells(outcome, cells))
    assert (comparison.names, comparison.figure) == ([], None)
