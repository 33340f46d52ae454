"""Decoys: of the right kind, different from each other, the same for the same seed."""

import numpy as np
import pytest

from dosimeter.attacks.encoder_inference.candidates import Candidate, check_candidates
from dosimeter.attacks.encoder_inference.decoys import make_decoys
from dosimeter.core.errors import InputError
from dosimeter.core.target import CallableTarget, RecordedTarget
from dosimeter.targets.torch import Preprocessing, TorchTarget
from support.tiny_encoders import SIZE, image_candidate, image_candidates, text_candidate

IMAGES = np.random.default_rng(0).integers(256, size=(4, SIZE, SIZE, 3), dtype=np.uint8)


def test_image_decoys_fill_up_a_short_list():
    candidates = image_candidates(2)
    decoys = make_decoys(3, candidates, seed=0)
    assert [decoy.name for decoy in decoys] == ["decoy-1", "decoy-2", "decoy-3"]
    assert all(
        decoy.decoy and decoy.target.preprocessing == candidates[0].target.preprocessing for decoy in decoys
    )
    check_candidates([*candidates, *decoys], allow_unequal_preprocessing=False)
    embeddings = [decoy.target.answer(IMAGES) for decoy in decoys]
    assert not np.allclose(embeddings[0], embeddings[1])


@pytest.mark.parametrize("make", [image_candidate, text_candidate])
def test_decoys_follow_from_the_seed(make):
    def fingerprints(seed):
        return [decoy.target.fingerprint for decoy in make_decoys(2, [make(0)], seed=seed)]

    assert fingerprints(0) == fingerprints(0)
    assert not set(fingerprints(0)) & set(fingerprints(1))


def test_text_decoys_embed_text():
    (decoy,) = make_decoys(1, [text_candidate(0)], seed=0)
    found = decoy.embedder()(["red fox", "blue whale", ""])
    assert found.shape == (3, 64)
    assert len(np.unique(found, axis=0)) == 3


def test_grey_candidates_get_decoys_that_work_in_colour():
    grey = Preprocessing(size=SIZE, channels=1, mean=(0.5,), std=(0.5,))
    target = TorchTarget(
        image_candidate(0).target.module, name="grey", returns="embedding", preprocessing=grey
    )
    (decoy,) = make_decoys(1, [Candidate("grey", target)], seed=0)
    assert decoy.embedder()(IMAGES).shape == (4, 64)


def test_a_candidate_without_pre_processing_gets_decoys_at_32_pixels():
    api = Candidate("api", CallableTarget(len, modality="image", returns="embedding"))
    (decoy,) = make_decoys(1, [api], seed=0)
    assert decoy.target.preprocessing.size == 32


def test_pools_cannot_be_filled_up():
    pool = Candidate("pool", RecordedTarget(IMAGES, np.ones((4, 2)), modality="image", returns="embedding"))
    with pytest.raises(InputError, match="decoys need candidates that can be asked"):
        make_decoys(1, [pool], seed=0)
    assert make_decoys(0, [pool], seed=0) == []
    assert len(make_decoys(1, [pool, image_candidate(0)], seed=0)) == 1
