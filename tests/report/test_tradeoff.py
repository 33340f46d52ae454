import numpy as np
import pytest
from tests.report.outcomes import study

from dosimeter.core.record_scores import RecordScores
from dosimeter.core.result import Metric, Provenance, Result
from dosimeter.report.comparison import compare_defenses
from dosimeter.report.html import render_html
from dosimeter.report.tradeoff import tradeoffs
from dosimeter.stats.paired import compare_pairs
from dosimeter.study.outcome import Cell, CellOutcome

RECORDS = [f"record {number}" for number in range(40)]
RIGHT = np.arange(40) < 36


def cell(defense, target, stolen, *, seed=0, of=RECORDS):
    """A cell whose accuracies are the means of ``target`` and ``stolen``, one 0 or 1 per record."""
    columns = {"accuracy.target.digits": target, "accuracy.stolen.digits": stolen}
    result = Result(
        method="encoder-stealing",
        title="Encoder stealing",
        verdict="pass",
        summary="said",
        metrics=[Metric(name=name, value=float(np.mean(column))) for name, column in columns.items()],
        records=[RecordScores.of(of, columns)] if of else [],
        provenance=Provenance(seed=seed),
    )
    return CellOutcome(cell=Cell(attack="encoder-stealing", defense=defense, seed=seed), result=result)


def numbered(*cells):
    return list(enumerate(cells, 1))


def lost(count):
    """The right answers, of which ``count`` became wrong."""
    return RIGHT & (np.arange(40) >= count)


def test_losses_are_differences_from_no_defence_in_points_with_the_paired_interval():
    [found] = tradeoffs(numbered(cell("none", RIGHT, RIGHT), cell("noise", lost(2), lost(20))))
    [row] = found.rows
    assert (found.task, row.number) == ("digits", 2)
    assert (row.honest.value, row.thief.value) == (5, 50)
    alone = compare_pairs(lost(20), RIGHT, np.random.default_rng(0))
    assert (row.thief.low, row.thief.high) == pytest.approx((100 * alone.low, 100 * alone.high), abs=0.01)
    assert row.gap.value == 45
    assert 0 < row.gap.low < 45 < row.gap.high


@pytest.mark.parametrize(
    ("honest", "thief", "useful"), [(2, 20, "yes"), (20, 2, "no"), (3, 3, "no"), (4, 6, "cannot be told")]
)
def test_a_defence_is_useful_where_the_thief_loses_more_beyond_chance(honest, thief, useful):
    [found] = tradeoffs(numbered(cell("none", RIGHT, RIGHT), cell("noise", lost(honest), lost(thief))))
    assert found.rows[0].useful == useful


def test_seeds_are_compared_with_themselves_and_lone_ones_left_out():
    cells = [
        cell("none", RIGHT, RIGHT, seed=0), cell("noise", lost(4), lost(4), seed=0),
        cell("none", lost(4), lost(4), seed=1), cell("noise", lost(4), lost(8), seed=1),
        cell("noise", lost(9), lost(9), seed=2),
    ]  # fmt: skip
    [found] = tradeoffs(numbered(*cells))
    assert [row.number for row in found.rows] == [2, 4]
    assert [row.honest.value for row in found.rows] == [10, 0]
    assert [row.thief.value for row in found.rows] == [10, 10]
    assert {point["label"] for point in found.figure.spec["data"]["values"]} == {"noise"}


def test_without_values_per_record_there_are_losses_but_no_intervals():
    [found] = tradeoffs(numbered(cell("none", RIGHT, RIGHT, of=()), cell("noise", lost(2), lost(20), of=())))
    [row] = found.rows
    assert row.gap.value == 45
    assert (row.gap.low, row.useful) == (None, "cannot be told")
    assert "no values per record" in row.honest.reason


def test_only_records_that_all_four_columns_share_are_compared():
    few = cell("noise", lost(2)[:30], lost(20)[:30], of=RECORDS[:30])
    [found] = tradeoffs(numbered(cell("none", RIGHT, RIGHT), few))
    assert (found.rows[0].thief.n, found.rows[0].thief.value) == (30, 66.67)


def test_other_attacks_and_attacks_without_an_undefended_cell_have_none(outcome):
    assert tradeoffs(numbered(*outcome.cells)) == []
    assert tradeoffs(numbered(cell("noise", RIGHT, RIGHT), cell("jpeg", RIGHT, RIGHT))) == []
    assert tradeoffs(numbered(cell("none", RIGHT, RIGHT))) == []
    assert tradeoffs([]) == []


def test_a_defended_cell_that_measured_nothing_is_left_out():
    bare = cell("noise", RIGHT, RIGHT)
    bare = CellOutcome(cell=bare.cell, result=bare.result.model_copy(update={"metrics": [], "records": []}))
    found = tradeoffs(numbered(cell("none", RIGHT, RIGHT), bare, cell("jpeg", lost(1), lost(9))))
    assert [row.done.cell.defense for row in found[0].rows] == ["jpeg"]


def test_the_report_shows_figure_and_table():
    made = study([cell("none", RIGHT, RIGHT), cell("noise", lost(2), lost(20))], [])
    [comparison] = compare_defenses(made)
    assert [found.task for found in comparison.tradeoffs] == ["digits"]
    page = render_html(made)
    assert "useful above the line only" in page
    assert "A thief loses" in page
    assert "<td>yes</td>" in page
