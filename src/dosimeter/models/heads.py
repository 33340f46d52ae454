"""Downstream heads for many encoders at once: the same perceptron, start, order and dropout for each, as one product.

The published protocol for judging encoders: freeze them, train an MLP 512-256 on their unit-length vectors (StolenEncoder,
arXiv 2201.05889). Trained side by side, encoders differ in nothing but their vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from dosimeter.core.errors import InputError
from dosimeter.core.progress import track
from dosimeter.models.networks import MLP, initial_weights


class HeadRecipe(BaseModel):
    """How downstream heads are trained; the defaults are the published ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: tuple[PositiveInt, ...] = Field(
        (512, 256), min_length=1, description="widths of the hidden layers (ReLU)"
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="after the first hidden layer")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam")
    batch_size: int = Field(256, ge=1)
    epochs: int = Field(500, ge=1)


def head_predictions(
    train: Sequence[np.ndarray],
    labels: np.ndarray,
    test: Sequence[np.ndarray],
    *,
    classes: int,
    recipe: HeadRecipe,
    seed: int,
    task: str = "training downstream heads",
) -> np.ndarray:
    """What a head on each of k encoders says to the test records.

    Args:
        train: k arrays (n, d) float32, the vectors of the training records under each encoder; d may differ.
        labels: (n,) whole numbers in 0..classes-1.
        test: k arrays (m, d).

    Returns:
        (k, m) int64 predicted classes.

    Raises:
        InputError: no encoders, numbers or lengths of vectors that do not fit, labels out of range or of one class only.
    """
    labels = np.asarray(labels)
    if not train or len(train) != len(test) or any(len(part) != len(labels) for part in train):
        raise InputError(
            f"downstream heads need vectors of every encoder for each of the {len(labels)} labels, but got "
            f"{len(train)} training sets of {sorted({len(part) for part in train})} and {len(test)} test sets."
        )
    if len({len(part) for part in test}) > 1 or any(
        one.shape[1:] != other.shape[1:] for one, other in zip(train, test)
    ):
        raise InputError(
            "downstream heads need as many test records under every encoder, with vectors as long as those of the training "
            f"records, but got {[part.shape for part in train]} for training and {[part.shape for part in test]} for testing."
        )
    found = np.unique(labels)
    if len(found) < 2 or found[0] < 0 or found[-1] >= classes:
        raise InputError(
            f"downstream heads need labels of at least two classes in 0..{classes - 1}, but got {found[:5].tolist()}."
        )
    predictions = np.empty((len(train), len(test[0])), dtype=np.int64)
    widths = [part.shape[1] for part in train]
    for width in dict.fromkeys(widths):
        these = [number for number, given in enumerate(widths) if given == width]
        inputs = torch.from_numpy(np.stack([train[number] for number in these]).astype(np.float32))
        asked = torch.from_numpy(np.stack([test[number] for number in these]).astype(np.float32))
        layers = _fit(inputs, torch.from_numpy(labels.astype(np.int64)), classes, recipe, seed, task)
        with torch.no_grad():
            predictions[these] = _forward(layers, asked).argmax(2).numpy()
    return predictions


def _fit(
    inputs: Tensor, labels: Tensor, classes: int, recipe: HeadRecipe, seed: int, task: str
) -> list[tuple[Tensor, Tensor]]:
    """Weights (k, in, out) and biases (k, 1, out) of each layer, trained on ``inputs`` (k, n, d)."""
    k, n, width = inputs.shape
    start = MLP(width, recipe.hidden, classes, seed=seed)
    layers = []
    for name, tensor in start.named_parameters():
        if name.endswith("weight"):
            weight = tensor.detach().T.expand(k, -1, -1).clone().requires_grad_()
        else:
            layers.append((weight, tensor.detach().expand(k, 1, -1).clone().requires_grad_()))
    optimizer = torch.optim.Adam([part for layer in layers for part in layer], lr=recipe.learning_rate)
    size = min(recipe.batch_size, n)
    steps = recipe.epochs * math.ceil(n / size)
    with track(task, steps) as bar, initial_weights(seed, "downstream-head"):
        for _ in range(recipe.epochs):
            for rows in torch.randperm(n).split(size):
                outputs = _forward(layers, inputs[:, rows], dropout=recipe.dropout)
                loss = F.cross_entropy(outputs.flatten(0, 1), labels[rows].repeat(k), reduction="sum") / len(
                    rows
                )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                bar.advance()
    return layers


def _forward(layers: list[tuple[Tensor, Tensor]], x: Tensor, dropout: float = 0.0) -> Tensor:
    """(k, n, classes) logits; with ``dropout`` all encoders lose the same units of the first hidden layer."""
    for number, (weight, bias) in enumerate(layers):
        x = torch.baddbmm(bias, x, weight)
        if number < len(layers) - 1:
            x = x.relu()
        if number == 0 and dropout:
            kept = (torch.rand(x.shape[1:]) >= dropout) / (1 - dropout)
            x = x * kept
    return x
