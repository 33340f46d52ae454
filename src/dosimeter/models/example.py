"""The embedded example: six encoders trained on the spot and services on top of them.

Real inputs only: scikit-learn's handwritten digits and its two photographs. Two encoders share an architecture and
differ in their start and training order, two others read digits with other architectures, and two learned from
photographs without labels, so that candidates range from near relatives to strangers.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from dosimeter.core.errors import InputError
from dosimeter.core.files import write_atomic
from dosimeter.core.records import content_hash
from dosimeter.core.seeding import derive_seed
from dosimeter.data import load
from dosimeter.models.networks import AutoEncoder, Classifier, SmallConvNet, SmallDepthwiseNet, SmallResNet
from dosimeter.models.training import (
    embed,
    fit_autoencoder,
    fit_classifier,
    fit_head,
    images_to_tensor,
    single_thread,
)

SIZE = 32
ENCODERS = ("conv-a", "conv-b", "resnet", "depthwise", "autoencoder", "rotation")
FAMILIES = {"conv-a": "conv", "conv-b": "conv"}
TASKS: dict[str, int] = {"digit": 10, "orientation": 8}
"""Number of classes of each service: the digit; or how it is turned (four ways) and whether it is odd."""

Task = Literal["digit", "orientation"]

# Raise when the recipes below change: trained weights are kept under it.
_RECIPE = 1


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images, training labels, test images, test labels; images (n, 3, 32, 32) in 0..1."""
    train, test = load("digits", size=SIZE).split([0.7, 0.3], seed=0)
    found = []
    for part in (train, test):
        found += [images_to_tensor(np.asarray(part.inputs)), torch.from_numpy(np.asarray(part.labels))]
    return found[0], found[1], found[2], found[3]


def _photographs(n: int, seed: int) -> Tensor:
    patches = load("photographs", n=n, size=SIZE, seed=derive_seed(seed, "example-photographs"))
    return images_to_tensor(np.asarray(patches.inputs))


def _turned(images: Tensor, quarters: Tensor) -> Tensor:
    return torch.stack([torch.rot90(image, int(k), (1, 2)) for image, k in zip(images, quarters)])


def _centred(images: Tensor) -> Tensor:
    return (images - 0.5) / 0.5


def preprocessing() -> dict[str, object]:
    """Settings of ``targets.torch.Preprocessing`` that all encoders share."""
    return {"size": SIZE, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def encoder(name: str, seed: int = 0) -> nn.Module:
    """The encoder called ``name``, trained with ``seed``: (n, 3, 32, 32) normalised images -> (n, 64).

    Kept under the state folder (``DOSIMETER_HOME``, else ``.dosimeter``) where there is one.

    Raises:
        InputError: no encoder of that name.
    """
    if name not in ENCODERS:
        raise InputError(f"the example has no encoder '{name}'; there are: {', '.join(ENCODERS)}.")
    home = Path(os.environ.get("DOSIMETER_HOME") or ".dosimeter")
    if not home.is_dir():
        return _train(name, seed)
    from safetensors.torch import load_file, save

    path = (
        home
        / "cache"
        / "example"
        / f"{content_hash('example', _RECIPE, name, seed, torch.__version__)}.safetensors"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            trained = _train(name, seed)
            data = save({key: value.contiguous() for key, value in trained.state_dict().items()})
            write_atomic(path, lambda file: file.write(data))
            return trained
    module = _untrained(name, seed)
    module.load_state_dict(load_file(path))
    return module.eval()


def _untrained(name: str, seed: int) -> nn.Module:
    start = derive_seed(seed, "example-start", name)
    if name == "resnet":
        return SmallResNet(in_size=SIZE, seed=start)
    if name == "depthwise":
        return SmallDepthwiseNet(in_size=SIZE, seed=start)
    if name == "autoencoder":
        return AutoEncoder(in_size=SIZE, seed=start).encoder
    return SmallConvNet(in_size=SIZE, seed=start)


def _train(name: str, seed: int) -> nn.Module:
    order = derive_seed(seed, "example-order", name)
    with single_thread():
        if name == "autoencoder":
            whole = AutoEncoder(in_size=SIZE, seed=derive_seed(seed, "example-start", name))
            fit_autoencoder(
                whole, _centred(_photographs(2000, seed)), epochs=4, seed=order, task=f"training {name}"
            )
            return whole.encoder.eval()
        module = _untrained(name, seed)
        if name == "rotation":
            quarters = torch.arange(2000) % 4
            images, labels, classes = _turned(_photographs(2000, seed), quarters), quarters, 4
        else:
            images, labels, classes = *_digits()[:2], 10
        model = Classifier(module, 64, classes, seed=order)
        fit_classifier(model, _centred(images), labels, epochs=8, seed=order, task=f"training {name}")
    return module.eval()


def task_data(task: Task, *, test: bool) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 32, 32) in 0..1 and labels (n,) of a service's task, its training or its test part."""
    train_images, train_labels, test_images, test_labels = _digits()
    images, labels = (test_images, test_labels) if test else (train_images, train_labels)
    if task == "digit":
        return images, labels
    quarters = torch.arange(len(images)) % 4
    return _turned(images, quarters), 2 * quarters + labels % 2


def on_encoder(frozen: nn.Module, task: Task, seed: int = 0, *, steps: int = 400) -> nn.Module:
    """A service for ``task``: a trained three-layer head on the ``frozen`` encoder, giving logits.

    ``steps`` is cut from the published 10,000 to what the small digits need.
    """
    images, labels = task_data(task, test=False)
    with single_thread():
        features = embed(frozen, _centred(images))
        # The head sees standardised features, so that an untrained encoder's tiny spread does not stop it from learning.
        centre, scale = features.mean(0), features.std(0) + 1e-6
        head = fit_head(
            (features - centre) / scale,
            labels,
            classes=TASKS[task],
            hidden=128,
            steps=steps,
            batch_size=256,
            seed=derive_seed(seed, "example-head", task),
        )
    return nn.Sequential(frozen, _Standardise(centre, scale), head).eval()


def service(hidden: str = "resnet", task: Task = "digit", seed: int = 0) -> nn.Module:
    """A service for ``task`` on the encoder called ``hidden``, giving logits."""
    return on_encoder(encoder(hidden, seed), task, seed)


class _Standardise(nn.Module):
    def __init__(self, centre: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.centre) / self.scale
