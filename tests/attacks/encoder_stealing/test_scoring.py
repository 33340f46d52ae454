"""Figures of merit against closed forms and independent formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from dosimeter.attacks.encoder_stealing.scoring import (
    Task,
    TaskScores,
    linear_cka,
    probe_task,
    score_task,
    similarity,
)
from dosimeter.core.errors import InputError
from dosimeter.core.records import content_hash
from dosimeter.data.dataset import Dataset
from dosimeter.models.heads import HeadRecipe

GENERATOR = np.random.default_rng(0)


def scores(right, m=200, seeds=1):
    """Encoders by name, of which the first ``right`` of ``m`` records are predicted right (label 1, else 0)."""
    labels = np.ones(m, np.int64)
    predictions = np.zeros((len(right), seeds, m), np.int64)
    for row, count in enumerate(right.values()):
        predictions[row, :, :count] = 1
    return TaskScores("t", tuple(right), predictions, labels, tuple(map(str, range(m))))


def data(n, d=5, classes=3, seed=0, name="blobs", centres=None):
    generator = np.random.default_rng(seed)
    centres = np.eye(classes, d) * 4 if centres is None else centres
    labels = np.arange(n) % classes
    rows = centres[labels] + generator.normal(size=(n, d))
    names = tuple("abc"[:classes])
    return Dataset(name, "table", rows, labels, names)


# Shares


def test_accuracy_ratio_recovered_share_in_closed_form():
    found = scores({"target": 160, "stolen": 120, "floor": 40})
    assert found.accuracy("stolen").value == pytest.approx(0.6)
    assert found.ratio("stolen", "target").value == pytest.approx(120 / 160)
    assert found.recovered("stolen", "target", "floor").value == pytest.approx((120 - 40) / (160 - 40))
    assert found.recovered("target", "target", "floor").value == 1
    assert found.recovered("floor", "target", "floor").value == 0
    assert found.agreement("stolen", "target").value == pytest.approx(160 / 200)


def test_below_the_floor_is_negative_and_above_the_target_more_than_one():
    found = scores({"target": 150, "worse": 20, "better": 170, "floor": 50})
    assert found.recovered("worse", "target", "floor").value == pytest.approx(-0.3)
    assert found.recovered("better", "target", "floor").value == pytest.approx(1.2)
    assert found.ratio("better", "target").value > 1


def test_the_better_floor_counts():
    found = scores({"target": 160, "stolen": 120, "untrained": 40, "random": 80})
    assert found.floor("untrained", "random") == found.floor("random", "untrained") == "random"
    share = found.recovered("stolen", "target", "untrained", "random")
    assert share.value == pytest.approx((120 - 80) / (160 - 80))
    assert found.recovered("stolen", "target", "untrained").value == pytest.approx((120 - 40) / (160 - 40))


@pytest.mark.parametrize("target", [40, 41, 30])
def test_there_is_nothing_to_recover_where_the_target_does_not_lead(target):
    found = scores({"target": target, "stolen": 40, "floor": 40})
    assert found.recovered("stolen", "target", "floor") is None


def test_head_seeds_are_averaged_record_by_record():
    labels = np.array([0, 1, 1])
    predictions = np.array([[[0, 1, 0], [0, 0, 0]], [[0, 1, 1], [1, 0, 1]]])
    found = TaskScores("t", ("a", "b"), predictions, labels, ("x", "y", "z"))
    np.testing.assert_allclose(found.correct("a"), [1, 0.5, 0])
    assert found.accuracy("b").value == pytest.approx(4 / 6)
    assert found.agreement("a", "b").value == pytest.approx((2 + 1) / 6)


@settings(max_examples=25, deadline=None)
@given(m=st.integers(100, 400), share=st.floats(0.15, 0.85))
def test_the_interval_of_an_accuracy_is_that_of_a_binomial(m, share):
    found = scores({"a": round(m * share)}, m).accuracy("a")
    p = round(m * share) / m
    # What the percentile bootstrap of a proportion converges to; 2,000 resamples may miss it by two records.
    slack = 0.2 * np.sqrt(p * (1 - p) / m) + 2.01 / m
    assert found.low == pytest.approx(binom.ppf(0.025, m, p) / m, abs=slack)
    assert found.high == pytest.approx(binom.ppf(0.975, m, p) / m, abs=slack)
    assert found.n == m


def test_the_interval_of_a_ratio_is_near_the_delta_method():
    generator = np.random.default_rng(1)
    m = 4000
    both = generator.random((2, m)) < np.array([[0.6], [0.8]])
    found = TaskScores(
        "t", ("s", "t"), both[:, None].astype(np.int64), np.ones(m, np.int64), tuple(map(str, range(m)))
    )
    share = found.ratio("s", "t")
    s, t = both.mean(1)
    residual = (both[0] - s / t * both[1]) / t
    error = residual.std() / np.sqrt(m)
    assert share.low == pytest.approx(s / t - 1.96 * error, abs=0.2 * error)
    assert share.high == pytest.approx(s / t + 1.96 * error, abs=0.2 * error)


def test_records_are_resampled_together_for_all_encoders():
    """An encoder compared with itself has a ratio of exactly one in every resample."""
    found = scores({"target": 120, "floor": 10})
    for share in (found.ratio("target", "target"), found.recovered("target", "target", "floor")):
        assert (share.low, share.value, share.high) == (1, 1, 1)


# Similarity


def cka_by_kernels(x, y):
    """Kornblith et al. 2019 by way of n x n Gram matrices and HSIC, as it is first defined there."""
    n = len(x)
    centring = np.eye(n) - np.ones((n, n)) / n

    def hsic(a, b):
        return np.trace(a @ a.T @ centring @ b @ b.T @ centring)

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def test_linear_cka_is_the_one_of_kernels():
    x = GENERATOR.normal(size=(30, 6))
    for y in (GENERATOR.normal(size=(30, 9)), x @ GENERATOR.normal(size=(6, 4)) + 3, x):
        assert linear_cka(x, y) == pytest.approx(cka_by_kernels(x, y), rel=1e-9)


def test_linear_cka_sees_neither_turns_nor_shifts_nor_sizes_but_other_maps():
    x = GENERATOR.normal(size=(50, 6))
    rotation = np.linalg.qr(GENERATOR.normal(size=(6, 6)))[0]
    assert linear_cka(x, -7 * x @ rotation + 2) == pytest.approx(1)
    assert linear_cka(x, x @ np.diag([10, 1, 1, 0.1, 0, 0])) < 0.8
    assert linear_cka(x, np.ones((50, 3))) == 0
    assert linear_cka(np.zeros((50, 2)), np.zeros((50, 3))) == 0


def test_cosines_of_copies_and_of_vectors_that_all_point_one_way():
    target = GENERATOR.normal(size=(80, 7)).astype(np.float32)
    same = similarity(5 * target, target)
    assert same.cosine.value == pytest.approx(1) and same.centred_cosine.value == pytest.approx(1)
    narrow, other = 30 + target, 30 + GENERATOR.normal(size=(80, 7))
    alike = similarity(narrow, other)
    assert alike.cosine.value > 0.99 and abs(alike.centred_cosine.value) < 0.2
    assert alike.per_input.mean() == pytest.approx(alike.centred_cosine.value, rel=1e-5)
    assert alike.centred_cosine.low < alike.centred_cosine.value < alike.centred_cosine.high
    spread = alike.per_input.std() / np.sqrt(80)
    assert alike.centred_cosine.high - alike.centred_cosine.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_other_widths_have_no_cosine_but_cka():
    target = GENERATOR.normal(size=(20, 7))
    alike = similarity(target[:, :4], target)
    assert alike.cosine is None and alike.centred_cosine is None and len(alike.per_input) == 0
    assert 0 < alike.cka < 1


# Tasks


def test_heads_and_probes_tell_a_useful_encoder_from_a_useless_one():
    task = Task("blobs", data(150, seed=1), data(90, seed=2))
    train, test = np.asarray(task.train.inputs), np.asarray(task.test.inputs)
    noise = GENERATOR.normal(size=(240, 5))
    vectors = {"target": (train, test), "same": (3 * train, 9 * test), "floor": (noise[:150], noise[150:])}
    recipe = HeadRecipe(hidden=(16,), learning_rate=1e-2, epochs=30, batch_size=32)
    found = score_task(task, vectors, recipe, seed=0, heads=2)
    assert found.predictions.shape == (3, 2, 90) and found.names == ("target", "same", "floor")
    assert found.accuracy("target").value > 0.85 > 0.5 > found.accuracy("floor").value
    # Only directions count, and every encoder's heads start alike.
    np.testing.assert_array_equal(found.predictions[0], found.predictions[1])
    assert not np.array_equal(found.predictions[2, 0], found.predictions[2, 1]), "both heads have one seed"
    assert found.keys == tuple(content_hash(record) for record in task.test.inputs)
    linear = probe_task(task, vectors)
    assert linear.predictions.shape == (3, 1, 90)
    assert linear.accuracy("target").value > 0.85 > 0.5 > linear.accuracy("floor").value


def test_the_test_part_never_reaches_a_head():
    task = Task("blobs", data(60, seed=1), data(40, seed=2))
    train, test = np.asarray(task.train.inputs), np.asarray(task.test.inputs)
    recipe = HeadRecipe(hidden=(8,), learning_rate=1e-2, epochs=5, batch_size=32)
    other = np.concatenate([test[:20], GENERATOR.normal(size=(20, 5))])
    for judge in (lambda v: score_task(task, v, recipe, seed=0, heads=1), lambda v: probe_task(task, v)):
        one, two = judge({"a": (train, test)}), judge({"a": (train, other)})
        np.testing.assert_array_equal(one.predictions[..., :20], two.predictions[..., :20])


def test_a_task_needs_labels_and_equal_classes():
    whole = data(20)
    without = Dataset("bare", "table", whole.inputs)
    for train, test in ((without, whole), (whole, without)):
        with pytest.raises(InputError, match=r"task 't' needs labels, but data 'bare' has none"):
            Task("t", train, test)
    with pytest.raises(InputError, match=r"other classes for training than for testing"):
        Task("t", whole, data(20, classes=2))
    assert Task("t", whole, whole).classes == 3
