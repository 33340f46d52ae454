"""A small encoder trained without labels on real handwritten digits, its thief's images, and the tasks that judge copies.

All inputs are real: scikit-learn's 1,797 digits, in four disjoint parts (the provider's, the thief's, and training and
test part of the tasks), and its two photographs. Warped digits stand for further handwriting of the thief's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.attacks.encoder_stealing.views import ImageViews
from dosimeter.core.seeding import derive_seed
from dosimeter.data import load
from dosimeter.data.dataset import Dataset
from dosimeter.models.networks import SmallConvNet, initial_weights
from dosimeter.models.simclr import fit_simclr
from dosimeter.targets.torch import Preprocessing, TorchTarget

SIZE, WIDTH = 16, 64
QUERIES = 2500
# Few labels, on many digits tested: with some 270, an untrained network does nearly as well as a trained one.
_PARTS = (0.35, 0.25, 0.045, 0.355)


@dataclass(frozen=True, eq=False)
class World:
    """The provider's encoder as a service, and what thief and judge have.

    Attributes:
        inside: (2500, 16, 16, 3) uint8, the thief's digits; the first are as written, the rest warped.
        outside: (2500, 16, 16, 3) patches of photographs.
        held: (400, 16, 16, 3) warped test digits.
        provider: the digits that the encoder was trained on, labelled.
    """

    service: TorchTarget
    inside: np.ndarray
    outside: np.ndarray
    held: np.ndarray
    tasks: tuple[Task, ...]
    provider: Dataset
    views: ImageViews


def world(seed: int) -> World:
    """Train the encoder and deal out the digits."""
    provider, thief, train, test = load("digits", size=SIZE).split(list(_PARTS), seed=seed)
    own = np.asarray(thief.inputs)
    warps = warped(own, QUERIES - len(own), derive_seed(seed, "thief"))
    tasks = (Task("digits", train, test), Task("modulo five", modulo_five(train), modulo_five(test)))
    return World(
        service=_service(provider, seed),
        inside=np.concatenate([own, warps]),
        outside=np.asarray(
            load("photographs", n=QUERIES, size=SIZE, seed=derive_seed(seed, "outside")).inputs
        ),
        held=warped(np.asarray(test.inputs), 400, derive_seed(seed, "held-out")),
        tasks=tasks,
        provider=provider,
        # Mirrored digits are not digits: views are not flipped.
        views=ImageViews(SIZE, flip=False),
    )


def _service(provider: Dataset, seed: int) -> TorchTarget:
    encoder = SmallConvNet((32, 64, 128), embedding_dim=WIDTH, seed=derive_seed(seed, "provider"))
    rows = torch.from_numpy(np.asarray(provider.inputs).transpose(0, 3, 1, 2).copy())
    fit_simclr(
        encoder,
        rows,
        provider_views(),
        width=WIDTH,
        steps=300,
        lr=2e-3,
        seed=derive_seed(seed, "simclr"),
        task="training the provider's encoder",
    )
    return as_service(encoder)


def as_service(module: nn.Module, name: str = "digits encoder") -> TorchTarget:
    """``module`` as an embedding service of 16-pixel images; the thief never sees its normalisation."""
    middle = (0.5, 0.5, 0.5)
    return TorchTarget(
        module,
        name=name,
        returns="embedding",
        preprocessing=Preprocessing(size=SIZE, mean=middle, std=middle),
        batch_size=256,
        grants="query",
    )


def provider_views():  # type: ignore[no-untyped-def]
    """Views that the provider trains on: small turns, shifts, sizes, colours and noise, normalised."""
    import kornia.augmentation as augment

    steps = nn.Sequential(
        augment.RandomAffine(15, translate=(0.15, 0.15), scale=(0.8, 1.2), p=1.0),
        augment.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        augment.RandomGaussianNoise(std=0.05, p=0.5),
    )

    @torch.no_grad()
    def augmented(rows: Tensor) -> Tensor:
        return (steps(rows.float() / 255) - 0.5) / 0.5

    return augmented


def warped(images: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` images (h, w, 3) uint8 made from ``images`` in turn by small turns, shifts and changes of size."""
    import kornia.augmentation as augment

    chosen = images[np.arange(count) % len(images)].transpose(0, 3, 1, 2).copy()
    with initial_weights(seed, "warped"), torch.no_grad():
        warp = augment.RandomAffine(15, translate=(0.1, 0.1), scale=(0.85, 1.15), p=1.0)
        made = warp(torch.from_numpy(chosen).float() / 255)
    return (made * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy().copy()


def modulo_five(digits: Dataset) -> Dataset:
    """The same digits, labelled by their remainder: five classes of two digits each that look nothing alike."""
    return replace(
        digits,
        name="modulo five",
        labels=np.asarray(digits.labels) % 5,
        classes=tuple(f"{rest} or {rest + 5}" for rest in range(5)),
    )
