"""Architectures by name, from the user's own file, and how they come to the width of the vectors."""

import sys

import numpy as np
import pytest
import torch

from dosimeter.attacks.encoder_stealing.surrogates import (
    IMAGE_SURROGATES,
    TEXT_SURROGATES,
    matched,
    parameters,
    surrogate,
)
from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.models.word_transformer import encode_words

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

FACTORY = """
import torch
from torch import nn

class Mine(nn.Module):
    embedding_dim = 5
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 5)
    def forward(self, x):
        return self.layer(x.mean((2, 3)))

class Nameless(nn.Module):
    pass

def no_module(): return 3
def fails(): raise RuntimeError("no weights here")
"""


def outputs(network, inputs=IMAGES):
    with torch.no_grad():
        return network.eval()(inputs).flatten(1)


@pytest.mark.parametrize("width", [64, 70])
@pytest.mark.parametrize("name", ["small-conv", "small-resnet", "resnet-20"])
def test_small_image_surrogates_give_the_width(name, width):
    network = surrogate(name, width=width, seed=0)
    assert outputs(network).shape == (2, width)


@pytest.mark.parametrize(("name", "blocks"), [("resnet-18", 11e6), ("resnet-34", 21e6), ("resnet-50", 23e6)])
def test_large_image_surrogates_give_the_width_and_have_the_published_size(name, blocks):
    network = surrogate(name, width=96, seed=0)
    assert outputs(network, IMAGES[:1]).shape == (1, 96)
    assert 0.95 * blocks < parameters(network) < 1.1 * blocks


def test_the_stem_of_the_published_surrogate_is_for_small_images():
    network = surrogate("resnet-34", width=1024, seed=0, match=r"pool").eval()
    with torch.no_grad():
        maps = network.body(IMAGES[:1])
    assert maps.shape == (1, 512, 4, 4), (
        "32 pixels lose a factor of 8, as without max-pool and stride in the stem"
    )
    # The published way for CLIP: averages over the upper and the lower half, 2 x 512 = 1024 numbers, no further weights.
    vector = outputs(network, IMAGES[:1])
    expected = torch.stack([maps[:, :, :2].mean((2, 3)), maps[:, :, 2:].mean((2, 3))], dim=2).flatten(1)
    assert vector.shape == (1, 1024)
    torch.testing.assert_close(vector, expected)
    assert parameters(network) == parameters(surrogate("resnet-34", width=512, seed=0))


def test_texts_have_a_surrogate():
    network = surrogate("word-transformer", width=20, seed=0, length=7)
    assert outputs(network, encode_words(["a cat", "a dog that runs"], 7)).shape == (2, 20)
    assert set(TEXT_SURROGATES) == {"word-transformer"} and "word-transformer" not in IMAGE_SURROGATES


@pytest.mark.parametrize("name", ["small-conv", "small-resnet", "resnet-20", "word-transformer"])
def test_a_seed_fixes_every_weight(name):
    def state(seed):
        return torch.cat([p.flatten() for p in surrogate(name, width=9, seed=seed).parameters()])

    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = state(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(first, state(0)) and not torch.equal(first, state(1))


def test_a_head_is_added_only_where_widths_differ_and_is_part_of_the_copy():
    body = surrogate("resnet-20", width=64, seed=0)
    assert matched(body, 64, 64, seed=0) is body
    longer = surrogate("resnet-20", width=65, seed=0)
    assert parameters(longer) == parameters(body) + 64 * 65 + 65


# Of the user's own


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(FACTORY)
    return tmp_path


@pytest.mark.parametrize("width", [5, 8])
def test_a_factory_of_the_user_s(mine, width):
    network = surrogate("mine.py:Mine", width=width, seed=0, folder=mine)
    assert outputs(network).shape == (2, width)
    again = surrogate(f"{mine}/mine.py:Mine", width=width, seed=0)
    np.testing.assert_array_equal(outputs(network), outputs(again))
    assert not torch.equal(
        outputs(network), outputs(surrogate("mine.py:Mine", width=width, seed=1, folder=mine))
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py:Nameless", "does not say how long its vectors are. Give the module an attribute embedding_dim"),
        ("mine.py:no_module", "should return a torch module, but returned int"),
        ("mine.py:fails", "failed with RuntimeError: no weights here"),
        ("mine.py:absent", "the module has no 'absent'"),
        ("other.py:Mine", "there is no file .*other.py"),
    ],
)  # fmt: skip
def test_factories_that_do_not_work(mine, name, message):
    with pytest.raises(InputError, match=message):
        surrogate(name, width=5, seed=0, folder=mine)


# What is refused


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"no surrogate 'resnet-99'; there are small-conv, .*resnet-34.*word-tran.*file.py:f"):  # fmt: skip
        surrogate("resnet-99", width=5, seed=0)


def test_a_width_that_channels_do_not_divide():
    with pytest.raises(InputError, match=r"resnet-18 has 512 channels, which do not divide the width 768.*linear"):  # fmt: skip
        surrogate("resnet-18", width=768, seed=0, match=r"pool")


@pytest.mark.parametrize("name", ["small-conv", "resnet-20", "word-transformer", "mine.py:Mine"])
def test_pooling_is_not_silently_something_else(name):
    with pytest.raises(InputError, match=f"only resnet-18, resnet-34, resnet-50 reach.*not '{name}'"):
        surrogate(name, width=128, seed=0, match=r"pool")


def test_large_networks_name_the_extra_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks", None)
    with pytest.raises(MissingExtra, match=r"surrogate resnet-34.*images"):
        surrogate("resnet-34", width=512, seed=0)
