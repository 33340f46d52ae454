import pytest
import torch

from dosimeter.core.errors import InputError
from dosimeter.models.networks import (
    MLP,
    AutoEncoder,
    Classifier,
    SmallConvNet,
    SmallDepthwiseNet,
    SmallResNet,
)

IMAGE_ENCODERS = [SmallConvNet, SmallResNet, SmallDepthwiseNet, lambda **k: AutoEncoder(**k).encoder]


@pytest.mark.parametrize("make", IMAGE_ENCODERS)
@pytest.mark.parametrize("n", [1, 3])
def test_image_encoders_map_to_their_embedding_dim(make, n):
    module = make(channels=(4, 8, 8), embedding_dim=5, in_size=16, seed=0).eval()
    assert module.embedding_dim == 5
    x = torch.rand(n, 3, 16, 16, requires_grad=True)
    embedding = module(x)
    assert embedding.shape == (n, 5) and embedding.dtype == torch.float32
    embedding.square().sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("make", [SmallConvNet, SmallResNet, SmallDepthwiseNet])
def test_pooled_encoders_take_other_sizes(make):
    assert make(channels=(4, 8), seed=0).eval()(torch.rand(2, 3, 20, 9)).shape == (2, 64)


def test_autoencoder_gives_back_the_shape_of_its_input():
    module = AutoEncoder(channels=(4, 8), embedding_dim=7, in_size=12, seed=0)
    assert module(torch.rand(2, 3, 12, 12)).shape == (2, 3, 12, 12)


def test_mlp_flattens_images_and_ends_without_relu():
    module = MLP(3 * 4 * 4, (16, 8), 6, seed=0)
    out = module(torch.randn(64, 3, 4, 4))
    assert out.shape == (64, 6) and module.embedding_dim == 6
    assert (out < 0).any()
    assert [m.out_features for m in module.modules() if isinstance(m, torch.nn.Linear)] == [16, 8, 6]


def test_classifier_puts_a_head_on_the_rectified_embedding():
    encoder = SmallConvNet(channels=(4,), embedding_dim=5, seed=0)
    module = Classifier(encoder, 5, 3, seed=1).eval()
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(module(x), module.head(encoder(x).clamp_min(0)))


@pytest.mark.parametrize(
    "make",
    [
        SmallConvNet,
        SmallResNet,
        SmallDepthwiseNet,
        AutoEncoder,
        lambda seed: MLP(4, (3,), 2, seed=seed),
        lambda seed: Classifier(torch.nn.Identity(), 4, 3, seed=seed),
    ],
)
def test_the_seed_alone_fixes_the_weights(make):
    torch.rand(3)
    state = torch.random.get_rng_state()
    first = make(seed=5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    second, other = make(seed=5).state_dict(), make(seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("make", IMAGE_ENCODERS[:3])
@pytest.mark.parametrize("channels", [(), (4, 4, 4, 4)])
def test_too_many_or_no_stages_are_refused(make, channels):
    with pytest.raises(InputError, match=r"between 1 and 3 stages for images of 8 pixels, but got [04]"):
        make(channels=channels, in_size=8, seed=0)


def test_autoencoder_needs_a_divisible_size():
    with pytest.raises(InputError, match="divisible by 8, but got 20"):
        AutoEncoder(in_size=20, seed=0)
