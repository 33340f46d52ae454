"""The measuring side of the reproduction; the claims themselves are `make reproduce`."""

from types import SimpleNamespace

import numpy as np
import pytest

from dosimeter.core.reproduction import find
from dosimeter.reproductions.encoder_inference import relations


def test_the_reproduction_is_found_under_its_slug():
    assert find("encoder-inference").SLUG == "encoder-inference"


def test_the_worst_candidate_counts():
    sets = [
        SimpleNamespace(losses=np.full((2, 2), loss), start_losses=np.ones((2, 2))) for loss in (0.05, 0.4)
    ]
    claim = relations.loss_claim("loss", "loss over its start", sets, 0.1)
    assert (claim.value, claim.low, claim.high, claim.holds) == (0.4, 0.05, 0.4, False)


@pytest.mark.parametrize(("values", "holds"), [([0.9, 0.8], True), ([0.9, 0.1], False)])
def test_a_mean_is_held_against_its_bound(values, holds):
    claim = relations.mean_claim("own", "score", values, ">=", 0.7)
    assert claim.value == pytest.approx(np.mean(values))
    assert claim.low <= claim.value <= claim.high
    assert claim.holds is holds
