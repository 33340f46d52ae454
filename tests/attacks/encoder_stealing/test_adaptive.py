"""Defences are seen on defended vectors and not on clean ones, and the evidence holds of what they hid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dosimeter.attacks.encoder_stealing.adaptive import DetectedDefense, detect_defense, evidence
from dosimeter.core.errors import InputError
from dosimeter.core.method import wrap_all
from dosimeter.core.target import CallableTarget
from dosimeter.defenses.features import FeatureNoise, FeatureRounding, TopKFeatures

SHAPES = {
    "normal": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sparse relu": lambda x: np.maximum(x - 1, 0),
    "dense relu": lambda x: np.maximum(x + 2, 0),
    "dead relu": lambda x: np.maximum(x - np.where(np.arange(x.shape[1]) % 2, 0, 9), 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "large": lambda x: 300 * x,
    "small": lambda x: 1e-3 * x,
}


def features(seed, n, d, shape, dtype=np.float32):
    """Vectors of an encoder of 6 inputs, one random layer and a non-linearity."""
    generator = np.random.default_rng(seed)
    return SHAPES[shape](generator.normal(size=(n, 6)) @ generator.normal(size=(6, d))).astype(dtype)


def behind(vectors, *defenses, asked=1):
    """Answers of a service that says ``vectors`` (n, d) behind ``defenses``, after asking ``asked`` times."""
    target = CallableTarget(
        lambda rows: vectors[rows[:, 0].astype(int)], modality="table", returns="embedding", fingerprint="f"
    )
    defended = wrap_all(target, defenses)
    inputs = np.arange(len(vectors), dtype=float)[:, None]
    return [np.asarray(defended.answer(inputs)) for _ in range(asked)]


sizes = {"seed": st.integers(0, 10_000), "n": st.integers(15, 150), "d": st.integers(6, 96)}


@settings(deadline=None, max_examples=150)
@given(
    **sizes,
    shape=st.sampled_from(sorted(SHAPES)),
    dtype=st.sampled_from([np.float32, np.float64, np.float16]),
)
def test_nothing_is_seen_on_clean_vectors(seed, n, d, shape, dtype):
    vectors = features(seed, n, d, shape, dtype)
    unit = vectors.astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
    for clean in (vectors, unit):
        found = detect_defense(clean, clean)
        assert not found.seen, str(found)
        assert (str(found), found.repeats(0.1)) == ("none seen", 1)


@settings(deadline=None, max_examples=60)
@given(
    **sizes,
    share=st.sampled_from([0.1, 0.25, 0.5, 0.75]),
    shape=st.sampled_from(["normal", "sigmoid", "tanh"]),
    by=st.sampled_from(["signed", "magnitude"]),
)
def test_top_k_is_seen_with_its_k(seed, n, d, share, shape, by):
    defense = TopKFeatures(share=share, by=by)
    [answers] = behind(features(seed, n + 15, d + 10, shape), defense)
    found = detect_defense(answers)
    assert (found.kept, found.decimals, found.repeat_noise) == (defense.kept(d + 10), None, None)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75])
def test_which_entries_are_kept_is_seen(share):
    vectors = features(0, 80, 64, "normal")
    for by in ("signed", "magnitude"):
        found = detect_defense(behind(vectors, TopKFeatures(share=share, by=by))[0])
        assert (found.by, found.floor) == (by, None)


def test_features_that_are_sometimes_sparser_than_k_show_that_they_are_never_negative():
    found = detect_defense(behind(features(0, 200, 64, "relu"), TopKFeatures(share=0.4))[0])
    assert (found.kept, found.by, found.floor) == (26, "signed", 0.0)
    assert str(found) == "only the 26 largest values are kept"


@settings(deadline=None, max_examples=60)
@given(**sizes, decimals=st.integers(0, 3), shape=st.sampled_from(sorted(set(SHAPES) - {"large", "small"})))
def test_rounding_is_seen_with_its_decimals(seed, n, d, decimals, shape):
    [answers] = behind(5 * features(seed, n, d, shape), FeatureRounding(decimals=decimals, unit=False))
    found = detect_defense(answers)
    if len(np.unique(np.abs(answers[answers != 0]))) > 10:  # else as good as nothing was returned
        assert (found.decimals, found.kept) == (decimals, None)


@pytest.mark.parametrize("decimals", [1, 2, 3])
@pytest.mark.parametrize("shape", ["normal", "relu", "small"])
def test_rounded_unit_vectors_are_told_from_rounded_vectors(decimals, shape):
    vectors = features(1, 60, 48, shape)
    found = detect_defense(behind(vectors, FeatureRounding(decimals=decimals))[0])
    assert found == DetectedDefense(decimals=decimals, unit=True)
    assert str(found) == f"entries of the unit vector are rounded to {decimals} decimals"
    raw = detect_defense(
        behind(20 * features(1, 60, 48, "normal"), FeatureRounding(decimals=decimals, unit=False))[0]
    )
    assert raw == DetectedDefense(decimals=decimals, unit=False)


@pytest.mark.parametrize("rho", [0.01, 0.5, 1.5])
def test_noise_per_query_is_seen_with_its_strength(rho):
    first, second = behind(features(0, 200, 64, "relu"), FeatureNoise(rho=rho, draw="per-query"), asked=2)
    found = detect_defense(first, second)
    assert found.repeat_noise == pytest.approx(rho, rel=0.1)
    assert not detect_defense(first).seen
    assert found.repeats(rho / 3) in (8, 9, 10, 11)
    assert "noise of its own" in str(found)


def test_averaging_as_often_as_said_leaves_what_was_asked_for():
    vectors = features(0, 100, 32, "normal")
    defense = FeatureNoise(rho=0.5, draw="per-query")
    repeats = detect_defense(*behind(vectors, defense, asked=2)).repeats(0.1)
    mean = np.mean(behind(vectors, defense, asked=repeats), axis=0)
    left = np.linalg.norm(mean - vectors, axis=1) / np.linalg.norm(vectors, axis=1)
    assert left.mean() == pytest.approx(0.1, rel=0.15)


def test_noise_per_input_cannot_be_seen():
    assert not detect_defense(*behind(features(0, 50, 20, "normal"), FeatureNoise(), asked=2)).seen


@pytest.mark.parametrize(
    ("vectors", "repeated", "says"),
    [
        (np.zeros(3), None, r"shape \(n, d\), but got shape \(3,\)"),
        (
            np.zeros((3, 2)),
            np.zeros((2, 2)),
            r"second answers of shape \(3, 2\) like the first, but got \(2, 2\)",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(vectors, repeated, says):
    with pytest.raises(InputError, match=says):
        detect_defense(vectors, repeated)


@pytest.mark.parametrize("vectors", [np.zeros((0, 4)), np.zeros((9, 4)), np.ones((1, 1)) / 3])
def test_next_to_nothing_shows_nothing(vectors):
    assert not detect_defense(vectors, vectors).seen
    assert len(evidence(vectors, DetectedDefense())) == len(vectors)


@settings(deadline=None, max_examples=80)
@given(
    **sizes,
    shape=st.sampled_from(["normal", "relu", "tanh"]),
    defense=st.sampled_from(
        [
            TopKFeatures(share=0.25),
            TopKFeatures(share=0.25, by="magnitude"),
            FeatureRounding(decimals=1, unit=False),
            FeatureRounding(decimals=1),
            FeatureRounding(decimals=None),
        ]
    ),
)
def test_the_true_vectors_lie_within_the_evidence(seed, n, d, shape, defense):
    vectors = features(seed, n + 15, d + 10, shape)
    [answers] = behind(vectors, defense)
    detected = detect_defense(answers)
    found = evidence(answers, detected)
    true = vectors.astype(np.float64)
    if isinstance(defense, FeatureRounding) and defense.decimals and defense.unit:
        true = true / np.maximum(np.linalg.norm(true, axis=1, keepdims=True), 1e-12)
    slack = 1e-6 * (1 + np.abs(true))
    inside = (found.low - slack <= true) & (true <= found.high + slack)
    assert detected.seen == (defense != FeatureRounding(decimals=None))
    assert inside.all()
    exact = found.low == found.high
    np.testing.assert_array_equal(found.values[exact & found.known], vectors[exact & found.known])
    assert (found.low.dtype, found.high.dtype, found.lengths.dtype) == (np.float32,) * 3


def test_lengths_are_those_of_the_true_vectors_over_what_is_known():
    vectors = features(0, 300, 64, "normal")
    [rounded] = behind(vectors, FeatureRounding(decimals=0, unit=False))
    true = np.linalg.norm(vectors, axis=1)
    corrected = evidence(rounded, detect_defense(rounded)).lengths
    assert abs((corrected - true).mean()) < 0.3 * abs((np.linalg.norm(rounded, axis=1) - true).mean())
    [top] = behind(vectors, TopKFeatures(k=9))
    np.testing.assert_allclose(
        evidence(top, detect_defense(top)).lengths, np.linalg.norm(top, axis=1), rtol=1e-6
    )
