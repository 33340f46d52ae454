import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dosimeter.core.record_scores import RecordScores
from dosimeter.core.result import Metric, Provenance, Result

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def result(value: float, scores: RecordScores) -> Result:
    return Result(
        method="m",
        title="t",
        verdict="pass",
        summary="s",
        metrics=[Metric(name="hits", value=value)],
        records=[scores],
        provenance=Provenance(seed=0),
    )


@given(
    st.lists(st.text(max_size=3), max_size=30).flatmap(
        lambda texts: st.tuples(st.just(texts), st.lists(FINITE, min_size=len(texts), max_size=len(texts)))
    )
)
def test_json_gives_them_back_unchanged(drawn):
    texts, values = drawn
    scores = RecordScores.of(texts, {"hits": values})
    assert RecordScores.model_validate_json(scores.model_dump_json()) == scores
    assert scores.total == len(scores.keys) == len(set(scores.keys)) == len(texts)


def test_values_stay_with_their_records_whatever_the_order():
    images = np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3)
    values = np.array([0.25, 1, 0, 0.5, 0])
    forward = RecordScores.of(images, {"a": values, "b": -values})
    backward = RecordScores.of(images[::-1], {"a": values[::-1], "b": -values[::-1]})
    assert forward == backward
    one = RecordScores.of(images[3:4], {"a": [0.5]})
    assert dict(zip(forward.keys, forward.values["a"]))[one.keys[0]] == 0.5


def test_equal_records_are_told_apart_by_their_order():
    twice, once = RecordScores.of(["x", "x", "y"], {"a": [1, 0, 0]}), RecordScores.of(["x"], {"a": [1]})
    assert len(set(twice.keys)) == 3
    assert dict(zip(twice.keys, twice.values["a"]))[once.keys[0]] == 1


def test_of_many_records_the_same_ones_are_kept_in_every_run():
    names = [str(number) for number in range(100)]
    first = RecordScores.of(names, {"a": np.arange(100)}, most=10)
    second = RecordScores.of(names[::-1], {"a": np.arange(100)[::-1]}, most=10)
    assert first == second
    assert (len(first.keys), first.total) == (10, 100)


def test_a_column_is_one_text_in_the_report():
    document = json.loads(RecordScores.of(["a", "b"], {"hits": np.array([True, False])}).model_dump_json())
    assert sorted(document["values"]["hits"].split()) == ["0", "1"]
    assert len(document["keys"].split()) == 2
    full = RecordScores.of(map(str, range(20_000)), {"hits": np.ones(20_000)}).model_dump_json()
    assert len(full) < 320_000


def test_lengths_and_finite_values_are_checked():
    with pytest.raises(ValueError, match=r"metric 'a' has values of shape \(3,\) for 2 records"):
        RecordScores.of(["x", "y"], {"a": [1, 0, 0]})
    with pytest.raises(ValidationError, match="metric 'a' has values per record that are not finite"):
        RecordScores.of(["x", "y"], {"a": [1, np.nan]})
    with pytest.raises(ValidationError, match="keys of records must differ"):
        RecordScores(keys=("x", "x"), values={}, total=2)
    with pytest.raises(ValidationError, match="metric 'a' has 1 values for 2 records"):
        RecordScores(keys=("x", "y"), values={"a": (1.0,)}, total=2)


def test_a_result_takes_values_only_of_its_metrics_and_only_with_their_mean():
    scores = RecordScores.of(["x", "y"], {"hits": [1, 0]})
    assert Result.from_json(result(0.5, scores).to_json()).records == [scores]
    with pytest.raises(
        ValidationError, match=r"metric 'hits' is 0\.9, but the mean of its values per record is 0\.5"
    ):
        result(0.9, scores)
    with pytest.raises(ValidationError, match="values per record for 'other', which is no metric of 'm'"):
        result(0.5, RecordScores.of(["x"], {"other": [1]}))
    kept = RecordScores.of(["x", "y"], {"hits": [1, 0]}, most=1)
    assert result(0.5, kept).records == [kept]
    with pytest.raises(ValidationError, match="values per record twice for one metric"):
        Result.model_validate({**result(0.5, scores).model_dump(), "records": [scores, scores]})
