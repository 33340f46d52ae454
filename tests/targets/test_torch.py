"""Torch modules as targets: pre-processing against Pillow and by hand, bits that company cannot change, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import nn

from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.oracle import Oracle
from dosimeter.targets.torch import Preprocessing, TorchTarget, state_hash

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (21, 12, 12, 3), dtype=np.uint8)


def network(seed: int = 0, out: int = 5) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(8 * 144, out),
        )


class PatchTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder(self.patches(images).flatten(2).transpose(1, 2)).mean(dim=1)


def target(module: nn.Module | None = None, **settings) -> TorchTarget:
    return TorchTarget(module or network(), **({"name": "net", "returns": "embedding"} | settings))


def as_floats(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize("make", [network, PatchTransformer], ids=["convolutional", "transformer"])
@pytest.mark.parametrize("batch_size", [1, 8, 32])
def test_an_answer_does_not_depend_on_its_company(make, batch_size):
    asked = target(make(), batch_size=batch_size)
    together = asked.answer(IMAGES)
    order = RNG.permutation(len(IMAGES))
    np.testing.assert_array_equal(asked.answer(IMAGES[order]), together[order])
    for index in range(len(IMAGES)):
        np.testing.assert_array_equal(asked.answer(IMAGES[index : index + 1])[0], together[index])


def test_answers_equal_the_module_run_by_hand():
    module = network()
    preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))
    embedding = target(module, preprocessing=preprocessing).answer(IMAGES)
    x = (as_floats(IMAGES) - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.4, 0.3])[
        :, None, None
    ]
    expected = module.eval()(x).numpy()
    assert embedding.shape == (21, 5) and embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, expected, rtol=1e-5, atol=1e-6)
    scores = target(module, preprocessing=preprocessing, returns="scores").answer(IMAGES)
    np.testing.assert_allclose(scores, np.exp(expected) / np.exp(expected).sum(1, keepdims=True), rtol=1e-4)
    labels = target(module, preprocessing=preprocessing, returns="label").answer(IMAGES)
    np.testing.assert_array_equal(labels, expected.argmax(axis=1))
    assert labels.dtype == np.int64


def test_feature_maps_are_flattened():
    answers = target(nn.Conv2d(3, 2, 3)).answer(IMAGES)
    assert answers.shape == (21, 2 * 10 * 10)


def test_tables_go_straight_in():
    rows = RNG.normal(size=(7, 4))
    linear = nn.Linear(4, 3)
    answers = target(linear, modality="table").answer(rows)
    np.testing.assert_allclose(answers, linear(torch.tensor(rows, dtype=torch.float32)).numpy(), rtol=1e-5)


def test_forward_is_differentiable_and_agrees_with_answer():
    asked = target(preprocessing=Preprocessing(size=12, mean=(0.5,), std=(0.25,)))
    x = as_floats(IMAGES).requires_grad_()
    embedding = asked.forward(x)
    embedding.square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in asked.module.parameters())
    np.testing.assert_allclose(embedding.detach().numpy(), asked.answer(IMAGES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("filter_name", "pillow"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)]
)
@pytest.mark.parametrize("side", [7, 20])
def test_resizing_agrees_with_pillow_to_a_grey_level(filter_name, pillow, side):
    image = IMAGES[0] // 2 + 64  # Pillow clips overshoot between its two passes; here there is none
    resized = Preprocessing(size=side, resize=filter_name)(as_floats(image[None]))[0]
    expected = np.asarray(Image.fromarray(image).resize((side, side), pillow), dtype=float)
    assert np.abs(resized.permute(1, 2, 0).numpy() * 255 - expected).max() < 1.2


def test_crop_keeps_the_aspect_ratio():
    wide = RNG.integers(0, 256, (1, 20, 41, 3), dtype=np.uint8)
    cropped = Preprocessing(size=10, crop=8)(as_floats(wide))[0].permute(1, 2, 0).numpy() * 255
    whole = np.asarray(Image.fromarray(wide[0]).resize((20, 10), Image.BILINEAR), dtype=float)
    assert np.abs(cropped - whole[1:9, 6:14]).max() < 1.2


def test_colour_steps():
    x = as_floats(IMAGES)
    torch.testing.assert_close(Preprocessing(order="bgr")(x), x[:, [2, 1, 0]])
    grey = Preprocessing(channels=1, scale=255.0)(x)
    luma = np.stack([np.asarray(Image.fromarray(image).convert("L"), dtype=float) for image in IMAGES])
    assert grey.shape == (21, 1, 12, 12)
    assert np.abs(grey[:, 0].numpy() - luma).max() < 1


def test_default_preprocessing_changes_nothing():
    x = as_floats(IMAGES)
    assert torch.equal(Preprocessing()(x), x)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"mean": (0.1, 0.2)}, "mean needs 1 or 3 values, but has 2"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be positive"),
        ({"crop": 8}, "crop 8 needs a size"),
        ({"size": 4, "crop": 8}, "crop 8 needs a size at least as large, but size is 4"),
        ({"sise": 4}, "sise"),
    ],
)
def test_wrong_preprocessing_is_refused(settings, match):
    with pytest.raises(ValidationError, match=match):
        Preprocessing(**settings)


def test_identity_follows_weights_structure_preprocessing_and_returns():
    same = [target().fingerprint for _ in range(2)]
    others = [
        target(network(seed=1)).fingerprint,
        target(nn.Sequential(*network(), nn.Tanh())).fingerprint,
        target(returns="label").fingerprint,
        target(preprocessing=Preprocessing(scale=255.0)).fingerprint,
    ]
    assert same[0] == same[1]
    assert len({*others, same[0]}) == 5
    assert target(fingerprint="mine").fingerprint == "mine"


def test_state_hash_takes_every_dtype():
    module = nn.Linear(2, 2)
    module.register_buffer("steps", torch.tensor(3))
    assert state_hash(module) != state_hash(module.to(torch.bfloat16))


def test_half_precision_answers_are_float32():
    answers = target(nn.Sequential(nn.Flatten(), nn.Linear(432, 2)).to(torch.bfloat16)).answer(IMAGES)
    assert answers.dtype == np.float32


def test_outputs_that_are_nan_are_no_labels():
    module = network()
    with torch.no_grad():
        module[-1].bias[0] = torch.nan
    with pytest.raises(TargetError, match=r"one whole-number label per input, .* are NaN or infinite"):
        Oracle(target(module, returns="label"))(IMAGES)


def test_a_padding_that_gives_nan_does_not_matter():
    class Normalised(nn.Module):
        def forward(self, x):
            return x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True)

    answers = Oracle(target(Normalised(), returns="label"))(IMAGES[:1])
    assert answers.dtype == np.int64


def test_weights_changed_afterwards_are_noticed():
    module = network()
    asked = target(module)
    asked.answer(IMAGES)
    with torch.no_grad():
        module[0].weight.mul_(2)
    with pytest.raises(InputError, match="weights of target 'net' changed after it was made"):
        asked.answer(IMAGES)


def test_training_mode_is_undone():
    module = network()
    asked = target(module)
    before = asked.answer(IMAGES)
    module.train()
    np.testing.assert_array_equal(asked.answer(IMAGES), before)


class Dictionary(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": x}


@pytest.mark.parametrize(
    ("module", "error", "match"),
    [
        (Dictionary(), InputError, "should return one tensor row per input, but returned dict for 32 inputs"),
        (nn.Flatten(0), InputError, r"returned a tensor of shape \(13824,\) for 32 inputs"),
        (nn.Linear(7, 2), TargetError, r"failed on inputs of shape \(21, 12, 12, 3\)"),
    ],
)
def test_unusable_modules_are_explained(module, error, match):
    with pytest.raises(error, match=match):
        target(module).answer(IMAGES)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"modality": "text"}, "cannot take text; it takes image or table"),
        ({"returns": "text"}, "cannot return text"),
        ({"modality": "table", "preprocessing": Preprocessing()}, "tables, which have no pre-processing"),
        ({"batch_size": 0}, "batch_size of at least 1, but got 0"),
    ],
)
def test_impossible_settings_are_refused(settings, match):
    with pytest.raises(InputError, match=match):
        target(**settings)


def test_raw_pixel_values_given_as_floats_are_refused():
    with pytest.raises(InputError, match=r"in 0\.\.1, but got values in .*Divide by 255"):
        Oracle(target())(IMAGES.astype(np.float32))


@pytest.mark.parametrize("filter_name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(16, 16), (64, 48), (128, 128), (160, 90)])
def test_resizing_equals_torch_s_filter_and_so_does_its_gradient(size, filter_name):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    found, expected = images.clone().requires_grad_(True), images.clone().requires_grad_(True)
    weights = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    ours = Preprocessing(size=32, resize=filter_name)(found)
    theirs = torch.nn.functional.interpolate(
        expected, size=(32, 32), mode=filter_name, antialias=True, align_corners=False
    )
    theirs = theirs.clamp(0, 1) if filter_name == "bicubic" else theirs
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=1e-5)


def test_resizing_first_used_in_inference_mode_can_be_differentiated_later():
    preprocess = Preprocessing(size=21)
    with torch.inference_mode():
        preprocess(torch.rand(1, 3, 37, 37))
    images = torch.rand(1, 3, 37, 37, requires_grad=True)
    preprocess(images).sum().backward()
    assert images.grad is not None


def test_a_target_answers_alike_after_crossing_to_another_process():
    import pickle

    target = TorchTarget(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), name="linear", returns="embedding")
    images = np.arange(2 * 48, dtype=np.uint8).reshape(2, 4, 4, 3)
    assert np.array_equal(pickle.loads(pickle.dumps(target)).answer(images), target.answer(images))
