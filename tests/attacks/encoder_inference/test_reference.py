"""Reference services against loops, and what a lead among strangers is worth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dosimeter.attacks.encoder_inference.reference import Reference, UntrainedFeatures, planted_tables
from dosimeter.core.seeding import rng

EVERYONE = np.ones(4, dtype=bool)


def reference(tables, foreign=None):
    tables = np.asarray(tables, dtype=float)
    return Reference.of(
        tables, np.ones((len(tables), tables.shape[2]), dtype=bool) if foreign is None else foreign
    )


def singles(n):
    return [[i] for i in range(n)]


def test_expected_is_the_mean_over_foreign_services():
    tables = rng(0).random((5, 3, 4))
    foreign = np.array([EVERYONE, [0, 1, 1, 1], [1, 0, 0, 1], EVERYONE, [1, 1, 1, 0]]).astype(bool)
    found = reference(tables, foreign).expected
    for j in range(3):
        for c in range(4):
            own = [tables[s, j, c] for s in range(5) if foreign[s, c]]
            assert found[j, c] == pytest.approx(np.mean(own))


def slow_p_value(ref, margin, rows, columns):
    hits = services = 0
    for table, foreign in zip(ref.tables, ref.foreign):
        scores = []
        for group in columns:
            if all(foreign[c] for c in group):
                cells = [table[j, c] - ref.expected[j, c] for j in rows for c in group]
                scores.append(sum(cells) / len(cells))
        if len(scores) >= 2:
            best, second = sorted(scores)[::-1][:2]
            hits += best - second >= margin - 1e-12
            services += 1
    return (1 + hits) / (1 + services)


@given(
    seed=st.integers(0, 1000),
    margin=st.floats(0, 0.5),
    columns=st.sampled_from([singles(4), [[0, 1], [2], [3]], [[0, 1], [2, 3]]]),
    rows=st.sampled_from([[0, 1, 2], [2], [1, 0]]),
)
@settings(max_examples=60, deadline=None)
def test_p_value_equals_a_loop_and_is_never_zero(seed, margin, columns, rows):
    generator = rng(seed)
    foreign = np.concatenate([np.ones((3, 4), bool), generator.random((20, 4)) < 0.6])
    ref = reference(generator.integers(4, size=(23, 3, 4)) / 3, foreign)
    p = ref.p_value(margin, rows, columns)
    assert p == pytest.approx(slow_p_value(ref, margin, rows, columns))
    assert ref.finest_p > 0
    assert 0 < p <= 1


def test_the_least_p_value_counts_the_observed_service():
    ref = reference(np.zeros((39, 2, 4)))
    assert ref.p_value(0.1, [0, 1], singles(4)) == 1 / 40 == ref.finest_p
    assert ref.p_value(0.0, [0, 1], singles(4)) == 1


def test_a_service_s_own_encoder_takes_no_part():
    # The encoder a service is built on leads by far; what counts is the lead among strangers, which is nil.
    tables = np.full((8, 2, 4), 0.1)
    tables[:4, :, 0] = 1.0
    foreign = np.array([[0, 1, 1, 1]] * 4 + [EVERYONE] * 4).astype(bool)
    ref = reference(tables, foreign)
    assert ref.p_value(0.2, [0, 1], singles(4)) == 1 / 9


def test_services_on_relatives_of_all_but_one_candidate_do_not_hide_everything():
    # Four of five candidates are one family: services on them leave a single stranger, whose lead means nothing.
    family = np.array([[0, 0, 0, 0, 1]] * 40 + [[1] * 5] * 100).astype(bool)
    ref = reference(np.zeros((140, 3, 5)), family)
    assert ref.p_value(0.3, [0, 1, 2], singles(5)) == 1 / 101


def test_no_two_strangers_anywhere_give_no_evidence():
    ref = Reference(np.zeros((3, 2, 2)), np.array([[1, 0]] * 3).astype(bool), np.zeros((2, 2)))
    assert ref.p_value(0.5, [0], singles(2)) == 1 == ref.finest_p


def test_planted_tables_equal_a_loop_over_heads_objectives_and_copies():
    generator = rng(1)
    objectives = generator.integers(256, size=(3, 8, 8, 3), dtype=np.uint8)
    samples = [generator.integers(256, size=(6, 8, 8, 3), dtype=np.uint8) for _ in range(2)]
    samples[0][::2] = objectives  # every first copy is the objective itself

    def embed(images):
        return images.reshape(len(images), -1)[:, ::17].astype(float) * np.array([1, 100] * 6)[None]

    found = planted_tables(embed, samples, objectives, heads=3, seed=4)
    assert found.shape == (3, 3, 2)
    pooled = np.concatenate([embed(b) for b in (objectives, *samples)])
    for head in range(3):
        weights = rng(4, "reference-head", head).normal(size=(12, 10))

        def label(image, weights=weights):
            return int((((embed(image[None])[0] - pooled.mean(0)) / pooled.std(0)) @ weights).argmax())

        for j in range(3):
            for c in range(2):
                agree = [label(samples[c][2 * j + k]) == label(objectives[j]) for k in range(2)]
                assert found[head, j, c] == np.mean(agree)
    assert (found[:, :, 0] >= 0.5).all()


@pytest.mark.parametrize("side", [4, 12, 16, 20, 64])
def test_coarse_features_do_not_depend_on_the_size_of_an_image(side):
    features = UntrainedFeatures(seed=0)
    flat = np.full((1, side, side, 3), 200, dtype=np.uint8)
    small = np.full((1, 8, 8, 3), 200, dtype=np.uint8)
    np.testing.assert_allclose(features(flat), features(small), rtol=1e-9)


def test_untrained_features_tell_images_and_texts_apart():
    features = UntrainedFeatures(seed=0)
    images = rng(0).integers(256, size=(5, 10, 14, 3), dtype=np.uint8)
    for batch in (images, ["red fox", "xof der", "", "a", "b\ud800"]):
        found = features(batch)
        assert found.shape == (5, 64)
        assert np.isfinite(found).all()
        assert len(np.unique(found.round(9), axis=0)) == 5
    assert not np.allclose(features(images), UntrainedFeatures(seed=1)(images))
    np.testing.assert_array_equal(features(images), UntrainedFeatures(seed=0)(images))
