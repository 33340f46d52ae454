"""Enlarging attack images, and what it is good for."""

import numpy as np
import pytest

from dosimeter.attacks.encoder_inference.counter import upscale
from dosimeter.core.errors import InputError
from dosimeter.core.target import CallableTarget
from dosimeter.defenses.inputs import JpegInputs

NOISE = np.random.default_rng(0).integers(256, size=(4, 64, 64, 3), dtype=np.uint8)


def test_upscale_shapes_and_flat_images():
    assert upscale(NOISE, 2).shape == (4, 128, 128, 3)
    flat = np.full((1, 5, 7, 3), 93, np.uint8)
    np.testing.assert_array_equal(upscale(flat, 3), np.full((1, 15, 21, 3), 93, np.uint8))
    np.testing.assert_array_equal(upscale(NOISE, 1), NOISE)
    assert upscale(NOISE[:0]).shape[0] == 0


@pytest.mark.parametrize(("order", "helps"), [("jpeg-first", True), ("resize-first", False)])
def test_it_saves_detail_only_from_a_service_that_encodes_before_it_resizes(order, helps):
    service = CallableTarget(lambda images: images.astype(np.uint8), modality="image", returns="image")
    defended = JpegInputs(quality=50, resize=64, order=order).wrap(service)

    def damage(images: np.ndarray) -> float:
        return float(np.abs(np.asarray(defended.answer(images)).astype(float) - NOISE).mean())

    assert (damage(upscale(NOISE)) < 0.9 * damage(NOISE)) is helps


def test_bad_factor_and_bad_images_are_refused():
    with pytest.raises(InputError, match="factor of at least 1, but got 0"):
        upscale(NOISE, 0)
    with pytest.raises(InputError, match="images to upscale"):
        upscale(np.zeros((2, 3)))
