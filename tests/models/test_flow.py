"""Flow matching on two images that the condition tells apart, and the service around it."""

import numpy as np
import pytest
import torch

from dosimeter.core.errors import InputError
from dosimeter.models.flow import TextToImage, VelocityField, fit_flow, sample_flow

LEFT_AND_RIGHT = torch.full((2, 1, 8, 8), -1.0)
LEFT_AND_RIGHT[0, :, :, :4] = 1.0
LEFT_AND_RIGHT[1, :, :, 4:] = 1.0
CONDITIONS = torch.eye(2)


def encode(texts: list[str]) -> np.ndarray:
    return np.array([[1.0, 0.0] if text == "left" else [0.0, 1.0] for text in texts])


@pytest.fixture(scope="module")
def field() -> VelocityField:
    field = VelocityField(8, 2, channels=8, seed=0)
    losses = fit_flow(field, LEFT_AND_RIGHT, CONDITIONS, steps=150, batch_size=32, seed=0)
    assert len(losses) == 150
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    return field


def test_noise_becomes_the_image_of_its_condition(field):
    noise = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    images = sample_flow(field, noise, CONDITIONS.repeat(10, 1))
    goals = LEFT_AND_RIGHT.repeat(10, 1, 1, 1)
    assert (images - goals).abs().mean() < 0.25
    assert images.abs().max() <= 1


def test_the_service_answers_alike_in_any_company(field):
    service = TextToImage(field, encode, images_per_prompt=3)
    together = service(["left", "right", "anything"])
    assert together.shape == (3, 3, 8, 8, 3)
    assert together.dtype == np.uint8
    np.testing.assert_array_equal(together[1:2], service(["right"]))
    assert not np.array_equal(together[1], together[2])  # one condition, but noise of its own
    assert not np.array_equal(together[0, 0], together[0, 1])
    assert not np.array_equal(
        together, TextToImage(field, encode, images_per_prompt=3, seed=1)(["left", "right", "anything"])
    )


def test_same_seed_same_weights():
    def weights(seed: int) -> torch.Tensor:
        field = VelocityField(8, 2, channels=4, seed=seed)
        fit_flow(field, LEFT_AND_RIGHT, CONDITIONS, steps=3, batch_size=4, seed=seed)
        return torch.cat([parameter.flatten() for parameter in field.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(("images", "conditions"), [(2, 1), (0, 0)])
def test_unequal_or_no_data_is_refused(images, conditions):
    field = VelocityField(8, 2, channels=4, seed=0)
    with pytest.raises(InputError, match=f"got {images} images and {conditions} conditions"):
        fit_flow(field, LEFT_AND_RIGHT[:images], CONDITIONS[:conditions], steps=1, seed=0)
