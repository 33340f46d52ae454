import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dosimeter.core.result import (
    VERDICT_EXIT,
    VERDICT_ORDER,
    Artifact,
    Cost,
    Figure,
    Metric,
    Provenance,
    Result,
    Table,
    plain,
    worst_verdict,
)

TEXT = st.text(st.characters(), max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(TEXT, st.none(), st.booleans(), st.integers(), FINITE)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def metrics(draw):
    low, high = sorted([draw(FINITE), draw(FINITE)])
    value = draw(st.none() | FINITE)
    return Metric(
        name=draw(TEXT),
        value=value,
        low=draw(st.sampled_from([None, low])),
        high=draw(st.sampled_from([None, high])),
        n=draw(st.none() | st.integers(0)),
        interval=draw(st.none() | TEXT),
        unit=draw(TEXT),
        higher_is_better=draw(st.sampled_from([None, True, False])),
        control=draw(st.booleans()),
        reason=draw(TEXT.filter(bool)),
    )


@st.composite
def tables(draw):
    columns = draw(st.lists(TEXT, max_size=3))
    cells = st.lists(SCALARS, min_size=len(columns), max_size=len(columns))
    rows = draw(st.lists(cells, max_size=3))
    return Table(name=draw(TEXT), title=draw(TEXT), columns=columns, rows=rows, caption=draw(TEXT))


@st.composite
def results(draw):
    return Result(
        method=draw(TEXT),
        title=draw(TEXT),
        verdict=draw(st.sampled_from(list(VERDICT_EXIT))),
        summary=draw(TEXT),
        reason=draw(TEXT.filter(bool)),
        metrics=draw(st.lists(metrics(), max_size=2)),
        tables=draw(st.lists(tables(), max_size=2)),
        figures=[
            Figure(name="f", title="t", caption="c", spec=draw(st.dictionaries(TEXT, JSON, max_size=3)))
        ],
        artifacts=[Artifact(name="a", path="p", digest="d", bytes=draw(st.integers(0)))],
        limits=draw(st.lists(TEXT, max_size=2)),
        cost=Cost(queries=draw(st.integers(0)), money=draw(FINITE), seconds=draw(st.none() | FINITE)),
        provenance=Provenance(
            seed=draw(st.integers()), hyperparameters=draw(st.dictionaries(TEXT, JSON, max_size=2))
        ),
    )


def result(**more):
    return Result(
        **{
            "method": "m",
            "title": "A method",
            "verdict": "pass",
            "summary": "All is well.",
            "provenance": Provenance(seed=0),
            **more,
        }
    )


@given(results())
@settings(deadline=None)
def test_a_result_comes_back_from_json_as_it_was(found):
    again = Result.from_json(found.to_json())
    assert again == found
    assert again.to_json() == found.to_json()


@given(metrics())
def test_a_metric_comes_back_from_json_as_it_was(metric):
    assert Metric.model_validate_json(metric.model_dump_json()) == metric


def test_results_of_a_later_schema_are_not_guessed_at():
    later = result().to_json().replace('"schema_version":1', '"schema_version":2')
    with pytest.raises(ValidationError, match="schema_version"):
        Result.from_json(later)
    with pytest.raises(ValidationError, match="Extra inputs"):
        Result.from_json(result().to_json().replace('"limits"', '"limit"'))


class TestMetric:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
    @pytest.mark.parametrize("field", ["value", "low", "high"])
    def test_what_is_not_finite_is_refused(self, field, bad):
        with pytest.raises(
            ValidationError, match=f"metric 'm' has {field} = -?(nan|inf); give None and a reason"
        ):
            Metric(**{"name": "m", "value": 0.5, field: bad})

    def test_no_value_needs_a_reason(self):
        with pytest.raises(ValidationError, match="metric 'm' has neither a value nor a reason"):
            Metric(name="m", value=None)
        assert str(Metric(name="m", value=None, reason="4 of 10 needed")) == "unresolved: 4 of 10 needed"

    def test_an_interval_has_a_lower_and_an_upper_end(self):
        with pytest.raises(ValidationError, match=r"interval upside down: \[0\.6, 0\.4\]"):
            Metric(name="m", value=0.5, low=0.6, high=0.4)

    def test_numpy_numbers_become_python_numbers(self):
        metric = Metric(name="m", value=np.float32(0.5), low=np.float64(0.25), n=np.int64(3))
        assert [type(value) for value in (metric.value, metric.low, metric.n)] == [float, float, int]

    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({"value": 0.123456}, "0.1235"),
            ({"value": 0.5, "low": 0.4, "high": 0.6, "unit": "nats"}, "0.5 [0.4, 0.6] nats"),
            ({"value": 2, "unit": "ms"}, "2 ms"),
        ],
    )
    def test_it_reads_well(self, fields, text):
        assert str(Metric(name="m", **fields)) == text

    def test_it_cannot_be_changed(self):
        with pytest.raises(ValidationError, match="frozen"):
            Metric(name="m", value=1).value = 2


class TestPlainValues:
    def test_numpy_and_what_is_not_finite(self):
        value = {
            "a": np.arange(3),
            1: (np.float32(0.5), np.bool_(True), math.inf),
            "b": np.array([np.nan, 1]),
        }
        assert plain(value) == {"a": [0, 1, 2], "1": [0.5, True, None], "b": [None, 1.0]}

    @pytest.mark.parametrize(
        ("given", "kept"),
        [("ab\ud800c", "ab\ufffdc"), ("\ud83d\ude00", "😀"), ("é\x00", "é\x00"), ("😀", "😀")],
    )
    def test_halves_of_characters(self, given, kept):
        assert plain(given) == kept

    @given(JSON)
    def test_it_changes_nothing_twice(self, value):
        assert plain(plain(value)) == plain(value)

    @pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, np.array([object()]), [print], 1j])
    def test_what_json_has_no_word_for_is_refused(self, value):
        with pytest.raises(ValueError, match="expected text, numbers, lists or dictionaries, but got"):
            plain(value)


class TestParts:
    def test_table_cells_are_plain(self):
        table = Table(
            name="t",
            title="T",
            columns=["a", "b"],
            rows=[[np.int64(3), math.nan], [np.float32(0.5), "\udfff"]],
        )
        assert table.rows == [[3, None], [0.5, "\ufffd"]]

    def test_a_table_is_rectangular(self):
        with pytest.raises(ValidationError, match="table 't': row 1 has 1 cells for 2 columns"):
            Table(name="t", title="T", columns=["a", "b"], rows=[[1, 2], [3]])

    def test_a_cell_that_cannot_be_written_is_refused_when_the_table_is_made(self):
        with pytest.raises(ValidationError, match="but got object"):
            Table(name="t", title="T", columns=["a"], rows=[[object()]])

    def test_a_figure_is_plain(self):
        figure = Figure(
            name="f", title="T", caption="C", spec={"data": {"values": [{"x": np.float64("nan")}]}}
        )
        assert figure.spec == {"data": {"values": [{"x": None}]}}


class TestResult:
    @pytest.mark.parametrize("verdict", ["undetermined", "error"])
    def test_a_doubt_has_a_reason(self, verdict):
        with pytest.raises(ValidationError, match=f"result of 'm' is {verdict} without a reason"):
            result(verdict=verdict)
        assert result(verdict=verdict, reason="too little data").verdict == verdict

    @pytest.mark.parametrize("verdict", ["passed", "", None, "PASS"])
    def test_there_are_four_verdicts(self, verdict):
        with pytest.raises(ValidationError, match="verdict"):
            result(verdict=verdict)

    def test_metrics_are_found_by_name(self):
        found = result(metrics=[Metric(name="a", value=1), Metric(name="b", value=2)])
        assert found.metric("b").value == 2
        with pytest.raises(KeyError, match="no metric 'c'; there are: a, b"):
            found.metric("c")

    def test_in_a_terminal_it_is_a_table(self):
        found = result(
            verdict="undetermined",
            reason="too few inputs",
            metrics=[Metric(name="top-score", value=0.5, low=0.4, high=0.6), Metric(name="z", value=1.5)],
        )
        assert str(found).splitlines() == [
            "A method: UNDETERMINED",
            "All is well.",
            "reason: too few inputs",
            "  top-score  0.5 [0.4, 0.6]",
            "  z          1.5",
        ]

    def test_in_a_notebook_everything_is_escaped(self):
        page = result(
            title="<b>t</b>",
            summary="<script>",
            verdict="error",
            reason="<img>",
            metrics=[Metric(name="<i>", value=None, reason="<u>")],
        )._repr_html_()
        assert not {"<b>", "<script>", "<img>", "<i>", "<u>"} & {
            f"<{part.partition('>')[0]}>" for part in page.split("<")
        }
        assert "&lt;img&gt;" in page

    def test_texts_that_no_file_can_hold_do_not_lose_the_result(self):
        found = result(summary="said \ud800", limits=["\udfff"])
        assert Result.from_json(found.to_json()).summary == "said \ufffd"


class TestVerdicts:
    @pytest.mark.parametrize(
        ("verdicts", "worst"),
        [
            ([], "undetermined"),
            (["pass", "pass"], "pass"),
            (["pass", "fail", "pass"], "fail"),
            (["pass", "undetermined"], "undetermined"),
            (["fail", "undetermined"], "fail"),
            (["error", "fail", "undetermined", "pass"], "error"),
        ],
    )
    def test_the_worst_speaks_for_all(self, verdicts, worst):
        assert worst_verdict(verdicts) == worst

    def test_exit_codes_are_those_of_the_command_line(self):
        assert VERDICT_EXIT == {"pass": 0, "fail": 1, "undetermined": 2, "error": 3}
        assert sorted(VERDICT_ORDER) == sorted(VERDICT_EXIT)
