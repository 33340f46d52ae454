"""A small encoder of digits as a service, and attacks on it that end within seconds."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from dosimeter.attacks.encoder_stealing.attack import EncoderStealing
from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.attacks.encoder_stealing.training import Recipe
from dosimeter.core.method import Context
from dosimeter.core.target import CallableTarget
from dosimeter.data import load
from dosimeter.data.dataset import Dataset
from dosimeter.models.heads import HeadRecipe
from dosimeter.models.networks import Classifier, SmallConvNet
from dosimeter.models.training import fit_classifier, images_to_tensor
from dosimeter.targets.torch import Preprocessing, TorchTarget

SIZE, WIDTH = 8, 16
RECIPE = Recipe(steps=60, optimizer="adam", learning_rate=5e-3, schedule="cosine")
HEADS = HeadRecipe(hidden=(64,), learning_rate=3e-3, batch_size=64, epochs=100)


@lru_cache(maxsize=1)
def parts() -> tuple[Dataset, ...]:
    """Digits of the provider, of the thief, and to train and test downstream heads."""
    return tuple(load("digits", size=SIZE).split([0.25, 0.3, 0.15, 0.3], seed=0))


@lru_cache(maxsize=1)
def encoder() -> torch.nn.Module:
    """The provider's encoder, trained with labels that only the provider has."""
    provider = parts()[0]
    module = SmallConvNet((16, 32), WIDTH, SIZE, seed=1)
    x, y = images_to_tensor(np.asarray(provider.inputs)), torch.from_numpy(np.asarray(provider.labels))
    fit_classifier(Classifier(module, WIDTH, 10, seed=2), x, y, epochs=20, batch_size=32, lr=5e-3, seed=0)
    return module.eval()


def service(**settings: Any) -> TorchTarget:
    """The encoder behind a normalisation of its own, which a thief does not know."""
    given: dict[str, Any] = {"name": "digits", "batch_size": 128, "grants": "query", **settings}
    target = TorchTarget(
        encoder(),
        returns="embedding",
        preprocessing=Preprocessing(size=SIZE, mean=(0.0,) * 3, std=(1.0,) * 3),
        name=given.pop("name"),
        batch_size=given.pop("batch_size"),
        grants=given.pop("grants"),
    )
    for key, value in given.items():
        setattr(target, key, value)
    return target


def pretender(answer: Any, **settings: Any) -> CallableTarget:
    """A service of images that answers with ``answer(batch)``."""
    given = {"modality": "image", "returns": "embedding", "name": "pretender", "batch_size": 64, **settings}
    return CallableTarget(answer, **given)


def task() -> Task:
    _, _, train, test = parts()
    return Task("digits", train, test)


def public() -> np.ndarray:
    """(540, 8, 8, 3): the thief's digits."""
    return np.asarray(parts()[1].inputs)


def attack(**settings: Any) -> EncoderStealing:
    given: dict[str, Any] = {
        "queries": 400, "held_out": 60, "probes": 10, "size": SIZE, "flip": False, "surrogate": "small-conv",
        "recipe": RECIPE, "heads": HEADS, "head_seeds": 1, "baselines": (), "tasks": (task(),),
    }  # fmt: skip
    return EncoderStealing(**{**given, **settings})


def context(**settings: Any) -> Context:
    return Context(**{"public": public(), **settings})


#: Too few updates to learn anything: for what does not depend on it.
FAST: dict[str, Any] = {
    "recipe": Recipe(steps=2, optimizer="adam", learning_rate=1e-3),
    "heads": HeadRecipe(hidden=(8,), epochs=1),
    "queries": 60,
    "held_out": 20,
}


def few(n: int = 40) -> Task:
    """The task with ``n`` records to train and to test on."""
    whole = task()
    return Task("digits", whole.train.take(range(n)), whole.test.take(range(n)))


def fast(**settings: Any) -> EncoderStealing:
    return attack(**{**FAST, "tasks": (few(),), **settings})
