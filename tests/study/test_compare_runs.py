import numpy as np
import pytest
from scipy.stats import binomtest

from dosimeter.core.errors import InputError
from dosimeter.core.result import Metric
from dosimeter.study.compare_runs import compare_runs
from dosimeter.study.outcome import Cell
from support.outcomes import measured, outcome

HITS = np.array([1.0] * 20 + [0.0] * 60)


def changed(lost: int, gained: int) -> np.ndarray:
    """``HITS`` with some records that went to 0 and others that went to 1."""
    values = HITS.copy()
    values[:lost] = 0
    values[20 : 20 + gained] = 1
    return values


def compare(before, after, **options):
    return compare_runs(outcome(before), outcome(after, run="20260102-000000-bbbb"), **options)


def row_of(found, metric: str):
    return next(row for row in found.rows if row.metric == metric)


def test_the_same_records_are_tested_in_pairs():
    found = compare(measured(records={"leak": HITS}), measured(records={"leak": changed(2, 15)}))
    row = row_of(found, "leak")
    assert row.p == pytest.approx(binomtest(15, 17).pvalue)
    assert (row.basis, row.n, row.finding) == ("paired", 80, "worse")
    assert row.difference == pytest.approx(13 / 80)
    assert row.low < 13 / 80 < row.high
    assert row.smallest > 0
    assert found.verdict == "fail"
    assert [found.exit_code(fail_if_worse=gate) for gate in (True, False)] == [1, 0]


def test_direction_comes_from_the_metric():
    better = compare(measured(records={"leak": changed(2, 15)}), measured(records={"leak": HITS}))
    assert row_of(better, "leak").finding == "better"
    assert (better.verdict, better.exit_code(fail_if_worse=True)) == ("pass", 0)
    up = [
        Metric(name="accuracy", value=v, low=v - 0.02, high=v + 0.02, higher_is_better=True)
        for v in (0.9, 0.7)
    ]
    assert row_of(compare(measured(up[0]), measured(up[1])), "accuracy").finding == "worse"


def test_no_evidence_says_what_could_have_been_seen():
    few = compare(measured(records={"leak": HITS[:30]}), measured(records={"leak": HITS[:30]}))
    many = compare(
        measured(records={"leak": np.tile(HITS, 10)}), measured(records={"leak": np.tile(HITS, 10)})
    )
    assert row_of(few, "leak").finding == row_of(many, "leak").finding == "no evidence"
    assert row_of(few, "leak").smallest > 5 * row_of(many, "leak").smallest > 0
    assert few.verdict == "pass"


def test_records_are_paired_by_their_keys_not_by_their_place():
    names = [f"n{i}" for i in range(80)]
    turned = measured(records={"leak": changed(2, 15)[::-1]}, names=names[::-1])
    straight = measured(records={"leak": changed(2, 15)}, names=names)
    before = measured(records={"leak": HITS}, names=names)
    assert compare(before, turned).rows == compare(before, straight).rows


def test_only_records_of_both_runs_count():
    before = measured(records={"leak": HITS}, names=[f"n{i}" for i in range(80)])
    after = measured(records={"leak": changed(0, 30)}, names=[f"n{i + 10}" for i in range(80)])
    row = row_of(compare(before, after), "leak")
    assert row.n == 70
    assert row.reason == "70 of 80 records are in both runs"
    assert row.before == pytest.approx(HITS[10:].mean())


def test_holm_covers_all_tests_of_both_cells():
    cells = [Cell(attack="skew", seed=seed) for seed in (0, 1)]
    before = outcome(*[measured(records={"a": HITS, "b": HITS}, cell=cell) for cell in cells])
    after = outcome(
        measured(records={"a": changed(1, 9), "b": HITS}, cell=cells[0]),
        measured(records={"a": HITS, "b": HITS}, cell=cells[1]),
    )
    found = compare_runs(before, after)
    assert found.tests == 4
    single = binomtest(9, 10).pvalue
    row = next(row for row in found.rows if row.metric == "a" and row.cell.seed == 0)
    assert row.p == pytest.approx(4 * single)
    assert single < 0.05 < 4 * single
    assert row.finding == "no evidence"
    alone = compare_runs(before, after, metrics=["skew.a"])
    assert {row.metric for row in alone.rows} == {"a"}
    assert alone.tests == 2
    assert alone.rows[0].finding == "worse"


def test_differences_up_to_the_tolerance_count_as_none():
    before, after = measured(records={"leak": HITS}), measured(records={"leak": changed(0, 30)})
    findings = {
        tolerance: row_of(compare(before, after, tolerance=tolerance), "leak")
        for tolerance in (0, 0.2, 0.35, 0.5)
    }
    assert [row.finding for row in findings.values()] == ["worse", "worse", "no evidence", "no evidence"]
    assert findings[0].p < findings[0.2].p < findings[0.35].p < findings[0.5].p == 1
    assert findings[0.2].low > 0.2
    assert findings[0.35].low < 0.35


def test_other_values_have_the_sign_flip_test():
    drawn = np.random.default_rng(0)
    scores = drawn.normal(size=12)
    row = row_of(
        compare(
            measured(records={"s": scores}), measured(records={"s": scores + 0.5 + drawn.normal(0, 0.1, 12)})
        ),
        "s",
    )
    assert row.test == "sign flips, exact"
    assert row.p == pytest.approx(2 / 2**12)
    assert row.finding == "worse"


def test_too_few_records_leave_it_undecided():
    found = compare(measured(records={"s": [0.1] * 5}), measured(records={"s": [0.9] * 5}))
    row = row_of(found, "s")
    assert row.finding == "not comparable"
    assert row.reason == "5 records in common; fewer than 6 can show no difference"
    assert (found.verdict, found.exit_code(fail_if_worse=True)) == ("undetermined", 2)


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ((0.2, 0.1, 0.3), (0.5, 0.4, 0.6), "worse"),
        ((0.5, 0.4, 0.6), (0.2, 0.1, 0.3), "better"),
        ((0.2, 0.1, 0.3), (0.35, 0.25, 0.45), "no evidence"),
    ],
)
def test_without_records_the_intervals_decide(before, after, finding):
    one, other = (
        measured(Metric(name="m", value=v, low=low, high=high, higher_is_better=False))
        for v, low, high in (before, after)
    )
    row = row_of(compare(one, other), "m")
    assert (row.basis, row.finding, row.p) == ("unpaired", finding, None)
    assert row.low == pytest.approx(after[1] - before[2])
    assert row_of(compare(one, other, tolerance=0.4), "m").finding == "no evidence"


def test_without_records_and_interval_chance_cannot_be_told_from_change():
    one, other = (measured(Metric(name="m", value=v, higher_is_better=False)) for v in (0.0, 1.0))
    found = compare(one, other)
    assert row_of(found, "m").finding == "not comparable"
    assert "chance cannot be told from change" in row_of(found, "m").reason
    assert found.verdict == "pass"  # the attack's own decision was compared


def test_controls_and_figures_without_a_direction_are_left_out():
    metrics = (
        Metric(name="c", value=0.1, low=0, high=0.2, higher_is_better=False, control=True),
        Metric(name="n", value=3.0, low=1, high=4),
    )
    assert [row.metric for row in compare(measured(*metrics), measured(*metrics)).rows] == ["verdict"]


@pytest.mark.parametrize(
    ("before", "after", "finding", "verdict"),
    [
        ("pass", "pass", "unchanged", "pass"),
        ("fail", "fail", "unchanged", "pass"),
        ("pass", "fail", "worse", "fail"),
        ("fail", "pass", "better", "pass"),
        ("pass", "undetermined", "not comparable", "undetermined"),
        ("undetermined", "fail", "not comparable", "undetermined"),
    ],
)
def test_the_attack_s_own_decision_is_compared(before, after, finding, verdict):
    metric = Metric(name="n", value=3.0)
    found = compare(
        *(
            measured(metric, verdict=said, reason="too little" if said == "undetermined" else None)
            for said in (before, after)
        )
    )
    assert (found.rows[0].metric, found.rows[0].finding, found.verdict) == ("verdict", finding, verdict)
    assert found.rows[0].change == f"{before} to {after}"


def nothing(verdict, reason):
    return measured(verdict=verdict, reason=reason)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (
            measured(records={"leak": HITS}, data_digests={"public": "a"}),
            measured(records={"leak": HITS}, data_digests={"public": "b"}),
            "the runs used different data (public)",
        ),
        (
            measured(records={"leak": HITS}, hyperparameters={"steps": 1, "size": 2}),
            measured(records={"leak": HITS}, hyperparameters={"steps": 2, "size": 2}),
            "the attack had different settings (steps)",
        ),
        (
            measured(records={"leak": HITS}),
            nothing("error", "the service is gone."),
            "the later run measured nothing here: the service is gone.",
        ),
        (
            nothing("undetermined", "the budget ended."),
            measured(records={"leak": HITS}),
            "the earlier run measured nothing here: the budget ended.",
        ),
        (
            measured(records={"leak": HITS}, cell=Cell(attack="skew", seed=7)),
            measured(records={"leak": HITS}),
            "this cell is missing in the later run",
        ),
    ],
)
def test_what_cannot_be_compared_says_why(before, after, reason):
    found = compare(before, after)
    assert [(row.finding, row.reason) for row in found.rows] == [("not comparable", reason)]
    assert found.verdict == "undetermined"
    assert [found.exit_code(fail_if_worse=gate) for gate in (True, False)] == [2, 2]


def test_a_metric_that_is_gone_leaves_the_gate_undecided():
    kept = Metric(name="m", value=0.1, low=0.05, high=0.2, higher_is_better=False)
    found = compare(measured(kept, records={"leak": HITS}), measured(kept))
    assert row_of(found, "leak").reason == "the later run does not report it"
    assert row_of(found, "m").finding == "no evidence"
    assert [found.exit_code(fail_if_worse=gate) for gate in (True, False)] == [2, 0]
    unknown = Metric(name="m", value=None, reason="too few", higher_is_better=False)
    row = row_of(compare(measured(kept), measured(unknown)), "m")
    assert (row.reason, row.undecided) == ("the later run has no value: too few", True)


def test_something_worse_outranks_what_is_undecided():
    found = compare(
        measured(records={"leak": HITS, "gone": HITS}), measured(records={"leak": changed(0, 30)})
    )
    assert found.verdict == "fail"


def test_notes_name_what_a_reader_should_know():
    cells = [measured(records={"leak": HITS}, cell=Cell(attack="skew", seed=seed)) for seed in (0, 1)]
    same = compare_runs(outcome(cells[0]), outcome(*cells))
    assert "there is nothing that could differ" in same.notes[0]
    assert same.notes[1] == "Only in the later run, so not compared: skew, seed 1."
    other = measured(records={"leak": HITS}, versions={"dosimeter": "9"})
    assert "different versions of Dosimeter" in compare(cells[0], other).notes[0]


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="has no metric 'leek' to compare; did you mean 'leak'"):
        compare(measured(records={"leak": HITS}), measured(records={"leak": HITS}), metrics=["leek"])
