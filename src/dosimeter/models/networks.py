"""Small networks for small images and vectors, fast on one processor core.

Image encoders map normalised float images (n, 3, height, width) to embeddings (n, embedding_dim) float32 and work for
any image at least ``2 ** len(channels)`` pixels wide and high; ``in_size`` is the size that they are meant for. A seed
fixes every initial weight, whatever torch's global generator has been used for; that generator is left as it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dosimeter.core.errors import InputError
from dosimeter.core.seeding import derive_seed


@contextmanager
def initial_weights(seed: int, *path: str | int) -> Iterator[None]:
    """Inside the block, modules draw their initial weights from ``seed`` and ``path`` alone (processor only)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, *path))
        yield


class MLP(nn.Module):
    """Fully connected layers with ReLU between them: (n, in_dim) or anything that flattens to it -> (n, out_dim)."""

    def __init__(self, in_dim: int, hidden: Sequence[int], out_dim: int, *, seed: int) -> None:
        super().__init__()
        self.embedding_dim = out_dim
        widths = [in_dim, *hidden, out_dim]
        with initial_weights(seed, "mlp"):
            layers: list[nn.Module] = [nn.Flatten()]
            for inputs, outputs in itertools.pairwise(widths):
                layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Classifier(nn.Module):
    """An encoder with a linear head on its rectified embedding: images -> logits (n, classes)."""

    def __init__(self, encoder: nn.Module, embedding_dim: int, classes: int, *, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        with initial_weights(seed, "classifier"):
            self.head = nn.Linear(embedding_dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.encoder(x)))


class _PooledNet(nn.Module):
    """Stages, global average pool, linear to the embedding; subclasses say what the stages are."""

    def __init__(
        self, channels: Sequence[int] = (16, 32, 64), embedding_dim: int = 64, in_size: int = 32, *, seed: int
    ) -> None:
        super().__init__()
        _check_depth(channels, in_size)
        self.embedding_dim, self.in_size = embedding_dim, in_size
        with initial_weights(seed, type(self).__name__):
            self.stages = nn.Sequential(*self._stages(channels))
            self.projection = nn.Linear(channels[-1], embedding_dim)

    def _stages(self, channels: Sequence[int]) -> Iterator[nn.Module]:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.stages(x).mean((2, 3)))


class SmallConvNet(_PooledNet):
    """One convolution 3x3 with stride 2, batch norm and ReLU per entry of ``channels``; pooled; linear."""

    def _stages(self, channels: Sequence[int]) -> Iterator[nn.Module]:
        for inputs, outputs in zip([3, *channels], channels):
            yield _conv(inputs, outputs, stride=2)


class SmallResNet(_PooledNet):
    """As :class:`SmallConvNet`, with a residual block (two 3x3 convolutions) after each strided convolution."""

    def _stages(self, channels: Sequence[int]) -> Iterator[nn.Module]:
        for inputs, outputs in zip([3, *channels], channels):
            yield _conv(inputs, outputs, stride=2)
            yield _Residual(outputs)


class SmallDepthwiseNet(_PooledNet):
    """A strided 3x3 convolution, then depthwise 3x3 (stride 2) and pointwise 1x1 per further entry of ``channels``."""

    def _stages(self, channels: Sequence[int]) -> Iterator[nn.Module]:
        yield _conv(3, channels[0], stride=2)
        for inputs, outputs in itertools.pairwise(channels):
            yield _conv(inputs, inputs, stride=2, groups=inputs)
            yield _conv(inputs, outputs, kernel=1)


class ConvEncoder(nn.Module):
    """The encoding half of :class:`AutoEncoder`: strided convolutions, flattened (not pooled), linear to the embedding.

    Takes images of ``in_size`` only.
    """

    def __init__(self, channels: Sequence[int], embedding_dim: int, in_size: int, *, seed: int) -> None:
        super().__init__()
        _check_depth(channels, in_size)
        self.embedding_dim, self.in_size = embedding_dim, in_size
        with initial_weights(seed, "conv-encoder"):
            self.stages = nn.Sequential(*(_conv(i, o, stride=2) for i, o in zip([3, *channels], channels)))
            self.projection = nn.Linear(channels[-1] * (in_size >> len(channels)) ** 2, embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.stages(x).flatten(1))


class AutoEncoder(nn.Module):
    """A convolutional autoencoder: images -> reconstructions of the same shape, unbounded.

    ``encoder`` alone maps images to embeddings. ``in_size`` must be divisible by ``2 ** len(channels)``.
    """

    def __init__(
        self, channels: Sequence[int] = (16, 32, 64), embedding_dim: int = 64, in_size: int = 32, *, seed: int
    ) -> None:
        super().__init__()
        if in_size % 2 ** len(channels):
            raise InputError(
                f"expected the image size of an autoencoder with {len(channels)} stages to be divisible by "
                f"{2 ** len(channels)}, but got {in_size}."
            )
        self.embedding_dim, self.in_size = embedding_dim, in_size
        self.encoder = ConvEncoder(channels, embedding_dim, in_size, seed=seed)
        small = in_size >> len(channels)
        with initial_weights(seed, "conv-decoder"):
            layers: list[nn.Module] = [
                nn.Linear(embedding_dim, channels[-1] * small**2),
                nn.Unflatten(1, (channels[-1], small, small)),
            ]
            for inputs, outputs in zip(channels[::-1], [*channels[-2::-1], channels[0]]):
                layers += [_conv(inputs, outputs), nn.Upsample(scale_factor=2)]
            layers.append(nn.Conv2d(channels[0], 3, 3, padding=1))
            self.decoder = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


def _conv(inputs: int, outputs: int, *, stride: int = 1, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _check_depth(channels: Sequence[int], in_size: int) -> None:
    if not channels or in_size >> len(channels) == 0:
        raise InputError(
            f"expected between 1 and {in_size.bit_length() - 1} stages for images of {in_size} pixels, "
            f"but got {len(channels)} ({tuple(channels)})."
        )
