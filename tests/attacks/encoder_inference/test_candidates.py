"""Which candidates are refused and why, and how a candidate is asked."""

import numpy as np
import pytest

from dosimeter.attacks.encoder_inference.candidates import (
    Candidate,
    candidates_from_spec,
    check_candidates,
    encoder_from_spec,
)
from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.target import CallableTarget, RecordedTarget
from dosimeter.targets.torch import Preprocessing, TorchTarget
from support.tiny_encoders import PREPROCESSING, SIZE, image_candidate, image_candidates, image_encoder

IMAGES = np.random.default_rng(0).integers(256, size=(7, SIZE, SIZE, 3), dtype=np.uint8)


def callable_candidate(function, name="api", **settings):
    settings = {"modality": "image", "returns": "embedding", "batch_size": 3, **settings}
    return Candidate(name, CallableTarget(function, **settings))


def check(candidates, allow=False):
    check_candidates(candidates, allow_unequal_preprocessing=allow)


def test_access_follows_from_the_target():
    pool = RecordedTarget(IMAGES, np.ones((7, 2)), modality="image", returns="embedding")
    assert image_candidate(0).access == "weights"
    assert callable_candidate(len).access == "query"
    assert Candidate("pool", pool).access == "precomputed"
    assert Candidate("a", pool).kin == "a"
    assert Candidate("a", pool, family="b").kin == "b"


def test_five_different_candidates_are_accepted():
    check(image_candidates(5))


def test_fewer_than_five_are_refused():
    with pytest.raises(InputError, match=r"given 4 candidates and needs at least 5.*decoys"):
        check(image_candidates(4))


def test_names_must_differ():
    twins = [Candidate("same", c.target) for c in image_candidates(2)]
    with pytest.raises(InputError, match="names must differ, but these occur more than once: same"):
        check([*image_candidates(5)[2:], *twins])


def test_one_encoder_under_two_names_is_noticed():
    again = Candidate("copy", image_candidate(3).target)
    with pytest.raises(InputError, match="candidates encoder-3 and copy are the same encoder"):
        check([*image_candidates(5), again])


def test_a_candidate_must_return_embeddings():
    labels = TorchTarget(image_encoder(9), name="c", returns="label", preprocessing=PREPROCESSING)
    with pytest.raises(
        InputError, match="candidate 'classifier' returns label; a candidate must return embedding"
    ):
        check([*image_candidates(5), Candidate("classifier", labels)])


def test_one_kind_of_input_and_only_images_or_text():
    texts = callable_candidate(len, modality="text")
    with pytest.raises(InputError, match=r"different kinds of input \(image, text\)"):
        check([*image_candidates(5), texts])
    tables = [callable_candidate(len, name=str(i), modality="table") for i in range(5)]
    with pytest.raises(
        InputError, match="take table as input; encoder inference works on encoders of images or text"
    ):
        check(tables)


def test_unequal_resizing_is_refused_unless_allowed_but_normalisation_is_free():
    def candidate(name, seed, **settings):
        target = TorchTarget(
            image_encoder(seed), name=name, returns="embedding", preprocessing=Preprocessing(**settings)
        )
        return Candidate(name, target)

    normalised = candidate("normalised", 7, size=SIZE, mean=(0.1,) * 3)
    check([*image_candidates(5), normalised])
    other = candidate("bicubic", 8, size=SIZE, resize="bicubic")
    with pytest.raises(
        InputError,
        match=r"unequal pre-processing \(16 pixels, bilinear: encoder-0.*; 16 pixels, bicubic: bicubic\)",
    ) as error:
        check([*image_candidates(5), other])
    assert "\n" not in str(error.value)
    check([*image_candidates(5), other], allow=True)


@pytest.mark.parametrize("cached", [False, True])
def test_a_queried_candidate_gives_one_embedding_per_record_in_order(cached, tmp_path):
    asked = []

    def embed(images):
        asked.append(len(images))
        return images.reshape(len(images), -1)[:, :4].astype(float)

    ask = callable_candidate(embed).embedder(tmp_path if cached else None)
    np.testing.assert_array_equal(ask(IMAGES), IMAGES.reshape(7, -1)[:, :4])
    assert asked == [3, 3, 1]


def test_probes_of_a_killed_search_are_not_paid_for_twice(tmp_path):
    asked = []

    def embed(images):
        asked.append(len(images))
        return np.ones((len(images), 2))

    for _ in range(2):
        callable_candidate(embed, fingerprint="api v1").embedder(tmp_path)(IMAGES)
    assert sum(asked) == 7


class Unordered(CallableTarget):
    """Answers arrive in another order than they were asked in, as over a network."""

    def stream(self, batch, *, before_send):
        for index in np.random.default_rng(0).permutation(len(batch)):
            before_send(1)
            yield np.array([index]), self.answer(batch[index : index + 1])


def test_answers_that_arrive_out_of_order_are_sorted():
    target = Unordered(
        lambda images: images.reshape(len(images), -1)[:, :2], modality="image", returns="embedding"
    )
    np.testing.assert_array_equal(
        Candidate("network", target).embedder()(IMAGES), IMAGES.reshape(7, -1)[:, :2]
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n: np.full((n, 2), np.nan), "values that are NaN or infinite"),
        (lambda n: np.ones((n + 1, 2)), r"array of shape .* for"),
        (lambda n: np.ones(n), "should return embedding of shape"),
        (lambda n: ["a"] * n, "should return embedding"),
        (lambda n: np.ones((n, n)), "embeddings? of (unequal shape|length)"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_nonsense_from_a_candidate_is_an_error(answer, message, cached, tmp_path):
    ask = callable_candidate(lambda images: answer(len(images))).embedder(tmp_path if cached else None)
    with pytest.raises(TargetError, match=message):
        ask(IMAGES)


def test_description_names_the_encoder_by_content():
    candidate = image_candidate(3, family="mlp", decoy=True)
    assert candidate.describe() == {
        "name": "encoder-3",
        "family": "mlp",
        "decoy": True,
        "fingerprint": candidate.target.fingerprint,
    }


def test_candidates_from_a_spec(tmp_path):
    np.savez(tmp_path / "pool.npz", images=IMAGES)
    np.save(tmp_path / "a.npy", np.random.default_rng(1).normal(size=(7, 3)))
    item = {
        "name": "a",
        "family": "f",
        "kind": "recorded",
        "modality": "image",
        "inputs": "pool.npz",
        "answers": "a.npy",
    }
    (found,) = candidates_from_spec([item], tmp_path, trust=False)
    assert (found.name, found.family, found.decoy, found.access) == ("a", "f", False, "precomputed")
    assert found.target.returns == "embedding"


def test_all_problems_of_a_spec_are_said_at_once(tmp_path):
    recorded = {"kind": "recorded", "modality": "image", "inputs": "none.npz", "answers": "none.npy"}
    items = [
        {"kind": "recorded"},
        {"name": 50, **recorded},
        {"name": "b", "decoy": "yes", "family": 3, **recorded},
        {"name": "c"},
        {"name": "d", "kind": "recorded", "answerz": 1},
        {"name": "e", **recorded},
    ]
    with pytest.raises(InputError) as error:
        candidates_from_spec(items, tmp_path, trust=False)
    said = str(error.value)
    assert "\n" not in said
    for part in (
        "candidates[0]: needs a 'name'",
        "candidates[1]: 'name' should be text, but is 50",
        "candidates[2]: 'decoy' should be true or false, but is 'yes'",
        "candidates[2]: 'family' should be text, but is 3",
        "candidates[3].kind (c): is missing; known are torch, huggingface",
        "candidates[4].modality (d): is missing",
        "candidates[4].answerz (d): unknown key; did you mean 'answers'?",
        "candidates[5] (e):",
        "none.np",
    ):
        assert part in said, part


@pytest.mark.parametrize("items", [None, {}, "resnet"])
def test_candidates_must_be_a_list(items, tmp_path):
    with pytest.raises(InputError, match="candidates: must be a list"):
        candidates_from_spec(items, tmp_path, trust=False)


def test_a_judge_from_a_spec_is_named_in_its_errors(tmp_path):
    with pytest.raises(InputError, match=r"^judge: .*nothing\.pt"):
        encoder_from_spec(
            ("judge",),
            {
                "kind": "torch",
                "factory": "dosimeter.models.networks:MLP",
                "weights": "nothing.pt",
                "arguments": {"in_dim": 3, "hidden": [2], "out_dim": 2, "seed": 0},
            },
            tmp_path,
            trust=False,
        )
