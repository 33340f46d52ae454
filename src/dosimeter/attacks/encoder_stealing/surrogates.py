"""Architectures that a thief may train, brought to the width of the vectors that were bought.

The attacker does not know the target's architecture; one at least as large is the safe choice. The published surrogate
is a ResNet-34 with the stem for small images (one 3x3 convolution, no max-pool), here MONAI's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.models.networks import SmallConvNet, SmallResNet, initial_weights
from dosimeter.models.word_transformer import WordTransformer
from dosimeter.models.zoo_resnet import CifarResNet

ImageSurrogate = Literal["small-conv", "small-resnet", "resnet-20", "resnet-18", "resnet-34", "resnet-50"]
TextSurrogate = Literal["word-transformer"]
IMAGE_SURROGATES: tuple[ImageSurrogate, ...] = (
    "small-conv",
    "small-resnet",
    "resnet-20",
    "resnet-18",
    "resnet-34",
    "resnet-50",
)
TEXT_SURROGATES: tuple[TextSurrogate, ...] = ("word-transformer",)
_POOLED = ("resnet-18", "resnet-34", "resnet-50")

Match = Literal["linear", "pool"]


def surrogate(
    name: str, *, width: int, seed: int, match: Match = "linear", length: int = 64, folder: Path | None = None
) -> nn.Module:
    """An untrained surrogate that gives vectors of length ``width``.

    Args:
        name: one of the names above, or the factory of a module of the user's, ``file.py:function``.
        match: how a ResNet reaches ``width``: a linear head, which stays part of the stolen encoder, or ``pool``,
            pooling to ``width / channels`` cells in place of one (the published way for CLIP's 1024).
        length: words of a text surrogate.
        folder: where a relative factory starts.

    Raises:
        InputError: no surrogate of that name, ``pool`` for one that has none or a width that does not divide, a factory
            that gives no module.
        MissingExtra: a large ResNet without the extra ``images``.
    """
    if match == "pool" and name not in _POOLED:
        raise InputError(
            f"only {', '.join(_POOLED)} reach a width by pooling, not '{name}'. Use match: linear."
        )
    if name == "small-conv":
        return SmallConvNet((32, 64, 128), embedding_dim=width, seed=seed)
    if name == "small-resnet":
        return SmallResNet((32, 64, 128), embedding_dim=width, seed=seed)
    if name == "word-transformer":
        return WordTransformer(embedding_dim=width, length=length, seed=seed)
    if name == "resnet-20":
        with initial_weights(seed, name):
            body: nn.Module = CifarResNet(3)
        return matched(body, 64, width, seed=seed)
    if name in _POOLED:
        return _monai(name, width, match, seed)
    if ":" in name:
        return _of_the_user(name, width, seed, folder)
    known = ", ".join((*IMAGE_SURROGATES, *TEXT_SURROGATES))
    raise InputError(
        f"there is no surrogate '{name}'; there are {known}, or name a factory of yours as 'file.py:function'."
    )


def matched(body: nn.Module, given: int, width: int, *, seed: int) -> nn.Module:
    """``body``, which gives vectors of length ``given``, with a linear head to ``width`` where that is another length.

    The head is part of the stolen encoder; trained and then thrown away, it would take most of what was learned with it.
    """
    if given == width:
        return body
    with initial_weights(seed, "matching-head"):
        head = nn.Linear(given, width)
    return nn.Sequential(body, nn.Flatten(), head)


class _Pooled(nn.Module):
    """The last feature maps (n, channels, h, w) averaged to (n, channels * cells)."""

    def __init__(self, body: nn.Module, cells: int) -> None:
        super().__init__()
        self.body, self.cells = body, cells

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.body(x), (self.cells, 1)).flatten(1)


def _monai(name: str, width: int, match: Match, seed: int) -> nn.Module:
    try:
        from monai.networks import nets
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the surrogate {name}", "images") from error
    channels = 2048 if name == "resnet-50" else 512
    with initial_weights(seed, name):
        made = getattr(nets, name.replace("-", ""))(
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_size=3,
            conv1_t_stride=1,
            no_max_pool=True,
            feed_forward=False,
        )
    if match == "linear":
        return matched(made, channels, width, seed=seed)
    if width % channels:
        raise InputError(
            f"{name} has {channels} channels, which do not divide the width {width}. Use match: linear."
        )
    return _Pooled(_Maps(made), width // channels)


class _Maps(nn.Module):
    """A MONAI ResNet up to its last feature maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(network.conv1, network.bn1, network.act)
        self.layers = nn.Sequential(network.layer1, network.layer2, network.layer3, network.layer4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.stem(x))


def _of_the_user(name: str, width: int, seed: int, folder: Path | None) -> nn.Module:
    from dosimeter.loading.factories import call_factory

    with initial_weights(seed, "user-surrogate"):
        made = call_factory(name, folder or Path.cwd(), {})
    if not isinstance(made, nn.Module):
        raise InputError(
            f"surrogate '{name}' should return a torch module, but returned {type(made).__name__}."
        )
    given = getattr(made, "embedding_dim", None)
    if given is None:
        raise InputError(
            f"surrogate '{name}' does not say how long its vectors are. Give the module an attribute embedding_dim."
        )
    return matched(made, int(given), width, seed=seed)


def parameters(module: nn.Module) -> int:
    """Trainable numbers in ``module``."""
    return sum(tensor.numel() for tensor in module.parameters())
