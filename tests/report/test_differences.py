import numpy as np

from dosimeter.core.result import Metric
from dosimeter.report.differences import COLUMNS, conclusion, difference_rows, difference_text, reasons
from dosimeter.study.compare_runs import compare_runs
from support.outcomes import measured, outcome

BEFORE = measured(
    Metric(name="m", value=0.1, low=0.0, high=0.2, higher_is_better=True),
    records={"leak": np.repeat([1.0, 0.0], 40), "gone": np.zeros(80)},
)
AFTER = measured(
    Metric(name="m", value=0.5, low=0.4, high=0.6, higher_is_better=True),
    records={"leak": np.ones(80)},
    verdict="fail",
)


def test_every_figure_is_a_row_and_every_reason_is_said_once():
    found = compare_runs(outcome(BEFORE), outcome(AFTER))
    rows = {row[1]: row for row in difference_rows(found)}
    assert all(len(row) == len(COLUMNS) for row in rows.values())
    assert rows["verdict"][2:4] == ["pass", "fail"]
    assert rows["leak"][2:6] == ["0.5", "1", difference_text(found.rows[2]), "< 0.001"]
    assert rows["leak"][4].startswith("+0.5 [0.")
    assert rows["m"][-1] == "better (unpaired)"
    assert rows["gone"][2:] == ["0", None, None, None, None, "not comparable"]
    assert reasons(found) == {"the later run does not report it": ["gone of skew, seed 0"]}


def test_the_conclusion_counts_and_names_what_got_worse():
    found = compare_runs(outcome(BEFORE), outcome(AFTER), tolerance=0.1)
    assert conclusion(found) == (
        "Of 4 figures 2 worse, 1 better and 1 not comparable. Worse by more than 0.1: verdict of skew, seed 0, leak of "
        "skew, seed 0."
    )
    same = compare_runs(outcome(BEFORE), outcome(BEFORE))
    assert conclusion(same) == "Of 4 figures 1 decided as before and 3 without evidence of a change."
