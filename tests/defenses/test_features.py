"""Top-k, rounding and noise: what they keep, exactly how strong they are, and that a defended service is consistent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from dosimeter.core.errors import CapabilityError, InputError
from dosimeter.core.method import wrap_all
from dosimeter.core.oracle import Oracle
from dosimeter.core.records import Prompt
from dosimeter.core.target import CallableTarget
from dosimeter.defenses.feature_poisoning import FeaturePoisoning
from dosimeter.defenses.features import FeatureNoise, FeatureRounding, TopKFeatures
from dosimeter.targets.http import HttpTarget
from dosimeter.targets.spec import HttpSpec
from support.loopback import LoopbackService

WIDTH = 24
ROWS = np.random.default_rng(0).normal(size=(9, 5))
WEIGHTS = np.random.default_rng(1).normal(size=(5, WIDTH))
finite = st.floats(-1e3, 1e3, width=32)


def encode(rows, dtype=np.float32, weights=WEIGHTS):
    return np.stack([row @ weights for row in rows]).astype(dtype)


def service(function=encode, **given):
    given = {"modality": "table", "returns": "embedding", "fingerprint": "f", "name": "svc", **given}
    return CallableTarget(function, **given)


STUDENT = service(
    lambda rows: encode(rows, weights=WEIGHTS + 0.3), name="student", fingerprint="s", batch_size=4
)
DEFENSES = [
    TopKFeatures(share=0.25),
    TopKFeatures(k=5, by="magnitude"),
    FeatureRounding(),
    FeatureRounding(decimals=0, unit=False),
    FeatureNoise(),
    FeaturePoisoning(student=STUDENT),
]


def repeating(value):
    """A target that says ``value`` (d,) to every record."""
    return service(lambda rows: np.repeat(np.asarray(value)[None], len(rows), axis=0))


def label(defense):
    return getattr(getattr(defense, "card", None), "slug", None)


@pytest.mark.parametrize(
    "defense",
    [
        TopKFeatures(share=1),
        TopKFeatures(k=WIDTH, by="magnitude"),
        FeatureRounding(decimals=None),
        FeatureNoise(rho=0),
        FeatureNoise(rho=0, draw="per-query"),
        FeaturePoisoning(student=STUDENT, rho=0),
    ],
    ids=label,
)
def test_zero_strength_changes_no_bit(defense):
    assert encode(ROWS).tobytes() == np.asarray(Oracle(defense.wrap(service()))(ROWS)).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("defense", DEFENSES, ids=label)
def test_answers_are_the_same_bits_alone_in_company_and_when_asked_again(defense, dtype):
    defended = defense.wrap(service(lambda rows: encode(rows, dtype), batch_size=4), seed=3)
    together = np.asarray(defended.answer(ROWS))
    assert together.dtype == dtype
    assert not np.array_equal(together, encode(ROWS, dtype))
    for row in range(len(ROWS)):
        assert np.asarray(defended.answer(ROWS[row : row + 1])).tobytes() == together[row].tobytes()
    assert np.asarray(Oracle(defended)(ROWS)).tobytes() == together.tobytes()
    assert np.asarray(Oracle(defended)(ROWS, repeat=1)).tobytes() == together.tobytes()


@pytest.mark.parametrize("defense", DEFENSES, ids=label)
def test_memory_order_and_an_empty_batch_change_nothing(defense):
    turned = defense.wrap(service(lambda rows: np.asfortranarray(encode(rows))))
    assert np.array_equal(turned.answer(ROWS), defense.wrap(service()).answer(ROWS))
    empty = service(lambda rows: np.empty((0, WIDTH), np.float32))
    assert np.shape(defense.wrap(empty).answer(ROWS[:0])) == (0, WIDTH)


@pytest.mark.parametrize(
    "chain", [*([defense] for defense in DEFENSES), [DEFENSES[4], DEFENSES[5], DEFENSES[2]]], ids=len
)
def test_http_and_this_process_give_the_same_bits(chain):
    defended = wrap_all(service(), chain, seed=7)

    def reply(document):
        return {"vectors": np.asarray(defended.answer(np.array(document["inputs"], dtype=float))).tolist()}

    with LoopbackService(reply) as loopback:
        spec = HttpSpec(
            url=loopback.url,
            authorized=True,
            request={"inputs": "{{inputs}}"},
            response="vectors",
            modality="table",
            returns="embedding",
            batch_size=2,
        )
        target = HttpTarget(spec)
        remote = np.asarray(Oracle(target)(ROWS))
        target.close()
    local = np.asarray(Oracle(wrap_all(service(), chain, seed=7))(ROWS))
    assert (remote.dtype, remote.tobytes()) == (local.dtype, local.tobytes())


def test_every_modality_that_returns_vectors_is_defended():
    prompts = CallableTarget(lambda batch: encode(ROWS[: len(batch)]), modality="prompt", returns="embedding")
    defended = FeatureNoise().wrap(prompts).answer([Prompt("one"), Prompt("two")])
    assert not np.isclose(defended, encode(ROWS[:2])).all()
    labels = CallableTarget(len, modality="text", returns="label", name="labels")
    with pytest.raises(CapabilityError, match=r"feature-top-k cannot run on target 'labels': .* embedding"):
        TopKFeatures(k=1).wrap(labels)


class TestTopK:
    @settings(deadline=None, max_examples=60)
    @given(
        vector=arrays.arrays(np.float32, st.integers(1, 12), elements=finite),
        share=st.floats(0.01, 1),
        by=st.sampled_from(["signed", "magnitude"]),
    )
    def test_it_keeps_what_sorting_says(self, vector, share, by):
        kept = max(1, round(share * len(vector)))
        rank = abs if by == "magnitude" else float
        best = sorted(range(len(vector)), key=lambda i: (-rank(float(vector[i])), i))[:kept]
        expected = [value if i in best else 0 for i, value in enumerate(vector)]
        (found,) = TopKFeatures(share=share, by=by).wrap(repeating(vector)).answer(ROWS[:1])
        np.testing.assert_array_equal(found, expected)

    def test_magnitude_is_for_features_with_negative_values(self):
        vector = [0.1, -5.0, 2.0, -0.3]
        signed, magnitude = (
            TopKFeatures(k=2, by=by).wrap(repeating(vector)).answer(ROWS[:1])[0]
            for by in ("signed", "magnitude")
        )
        np.testing.assert_array_equal(signed, [0.1, 0, 2, 0])
        np.testing.assert_array_equal(magnitude, [0, -5, 2, 0])

    def test_more_entries_than_there_are_is_an_error(self):
        with pytest.raises(InputError, match="is to keep 200 entries, but the vectors have only 24"):
            TopKFeatures(k=200).wrap(service()).answer(ROWS)


class TestRounding:
    @pytest.mark.parametrize("decimals", [0, 1, 3])
    def test_unit_vectors_are_what_is_rounded(self, decimals):
        exact = encode(ROWS, np.float64)
        expected = [[round(float(x), decimals) for x in vector / np.linalg.norm(vector)] for vector in exact]
        found = FeatureRounding(decimals=decimals).wrap(service(lambda r: encode(r, np.float64))).answer(ROWS)
        np.testing.assert_array_equal(found, expected)
        assert not np.signbit(found[found == 0]).any()

    def test_or_the_vectors_as_they_are(self):
        found = FeatureRounding(decimals=1, unit=False).wrap(service()).answer(ROWS)
        np.testing.assert_array_equal(found, np.round(encode(ROWS).astype(np.float64), 1).astype(np.float32))

    def test_zero_stays_zero(self):
        assert not FeatureRounding().wrap(repeating(np.zeros(4))).answer(ROWS).any()


class TestNoise:
    @pytest.mark.parametrize("rho", [0.01, 0.5, 3.0])
    def test_its_relative_length_is_exact(self, rho):
        exact = encode(ROWS, np.float64)
        noisy = FeatureNoise(rho=rho).wrap(service(lambda r: encode(r, np.float64))).answer(ROWS)
        relative = np.linalg.norm(noisy - exact, axis=1) / np.linalg.norm(exact, axis=1)
        np.testing.assert_allclose(relative, rho, rtol=1e-12)

    def test_every_coordinate_gets_as_much_and_no_input_shares_it(self):
        rows = np.random.default_rng(2).normal(size=(2000, 5))
        noise = FeatureNoise(rho=1).wrap(repeating(np.full(6, 1 / np.sqrt(6)))).answer(rows) - 1 / np.sqrt(6)
        assert np.abs(noise.mean(axis=0)).max() < 4 / np.sqrt(6 * 2000)
        np.testing.assert_allclose(np.square(noise).mean(axis=0), 1 / 6, rtol=0.15)

    def test_averaging_many_answers_helps_only_against_noise_per_query(self):
        exact = encode(ROWS, np.float64)
        left = {}
        for draw in ("per-input", "per-query"):
            target = FeatureNoise(rho=0.5, draw=draw).wrap(service(lambda r: encode(r, np.float64)))
            mean = np.mean([target.answer(ROWS) for _ in range(64)], axis=0)
            left[draw] = np.mean(np.linalg.norm(mean - exact, axis=1) / np.linalg.norm(exact, axis=1))
        assert left["per-input"] == pytest.approx(0.5)
        assert left["per-query"] == pytest.approx(0.5 / 8, rel=0.15)

    def test_the_first_answer_per_query_is_the_same_in_every_process(self):
        first = [FeatureNoise(draw="per-query").wrap(service(), seed=1).answer(ROWS) for _ in range(2)]
        assert np.array_equal(*first)

    def test_zero_stays_zero(self):
        assert not FeatureNoise().wrap(repeating(np.zeros(4))).answer(ROWS).any()


@pytest.mark.parametrize(
    ("defense", "values", "says"),
    [
        (TopKFeatures, {}, "either k .* or share"),
        (TopKFeatures, {"k": 3, "share": 0.5}, "either k .* or share"),
        (TopKFeatures, {"share": 0}, "greater than 0"),
        (TopKFeatures, {"k": 3, "by": "size"}, "'signed' or 'magnitude'"),
        (FeatureRounding, {"decimals": -1}, "greater than or equal to 0"),
        (FeatureNoise, {"rho": -0.1}, "greater than or equal to 0"),
        (FeatureNoise, {"draw": "twice"}, "'per-input' or 'per-query'"),
    ],
)
def test_impossible_settings_are_refused(defense, values, says):
    with pytest.raises(ValidationError, match=says):
        defense(**values)
