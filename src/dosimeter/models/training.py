"""Compact training loops for small models on data that fits in memory.

All of them shuffle with a generator of their own, leave the module in evaluation mode, and give the same weights for
the same seed, initial weights, thread count and machine. Progress is reported once an epoch (heads: every 50 steps).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dosimeter.core.errors import InputError
from dosimeter.core.progress import track
from dosimeter.core.seeding import derive_seed
from dosimeter.models.networks import MLP

Loss = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def single_thread() -> Iterator[None]:
    """Inside the block torch uses one thread, which for small tensors is several times faster on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def images_to_tensor(images: np.ndarray) -> Tensor:
    """(n, height, width, 3) uint8 images as an (n, 3, height, width) float32 tensor in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div_(255)


def fit(
    module: nn.Module,
    inputs: Tensor,
    goals: Tensor,
    *,
    loss: Loss,
    epochs: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    decay: bool = True,
    seed: int,
    task: str = "training",
) -> list[float]:
    """Train ``module`` in place with Adam so that ``loss(module(inputs), goals)`` falls.

    Args:
        inputs: (n, ...) float; row i belongs to row i of ``goals``.
        loss: (answers, goals) of one batch -> scalar mean.
        lr: learning rate at the start.
        decay: let the learning rate fall to zero along half a cosine, step by step; otherwise it stays.
        task: what progress calls this.

    Returns:
        The mean training loss of each epoch, as seen while training.

    Raises:
        InputError: no records, unequal lengths, a batch size or number of epochs below 1, or the loss stops being
            finite (the module is then useless; a smaller ``lr`` helps).
    """
    _check_rows(inputs, goals)
    if epochs < 1 or batch_size < 1:
        raise InputError(
            f"expected epochs and batch_size of at least 1, but got {epochs} epochs and batch_size {batch_size}."
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "fit"))
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    steps = epochs * math.ceil(len(inputs) / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)) if decay else 1.0
    )
    module.train()
    losses = []
    with track(task, epochs) as bar:
        for _ in range(epochs):
            total = torch.zeros(())
            for rows in _batches(len(inputs), batch_size, generator):
                value = loss(module(inputs[rows]), goals[rows])
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                optimizer.step()
                schedule.step()
                total += value.detach() * len(rows)
            losses.append(float(total) / len(inputs))
            if not np.isfinite(losses[-1]):
                raise InputError(
                    f"{task} diverged in epoch {len(losses)} with lr {lr:g}. Choose a smaller lr."
                )
            bar.advance()
    module.eval()
    return losses


def fit_classifier(
    module: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int,
    task: str = "training a classifier",
) -> list[float]:
    """:func:`fit` with cross-entropy: ``module`` gives logits (n, classes), ``labels`` are (n,) whole numbers from 0.

    Raises:
        InputError: as :func:`fit`, or fewer than two different labels.
    """
    _check_labels(inputs, labels)
    return fit(
        module,
        inputs,
        labels.long(),
        loss=F.cross_entropy,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        task=task,
    )


def fit_autoencoder(
    module: nn.Module,
    inputs: Tensor,
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int,
    task: str = "training an autoencoder",
) -> list[float]:
    """:func:`fit` with the mean squared error between ``module(inputs)`` and ``inputs``."""
    return fit(
        module,
        inputs,
        inputs,
        loss=F.mse_loss,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        task=task,
    )


def embed(module: nn.Module, inputs: Tensor, *, batch_size: int = 256) -> Tensor:
    """``module(inputs)`` for all rows, in evaluation mode and without gradients; the module's mode is kept."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return torch.cat([module(part) for part in inputs.split(batch_size)])
    finally:
        module.train(was_training)


def fit_head(
    embeddings: Tensor,
    labels: Tensor,
    *,
    classes: int,
    hidden: int = 512,
    steps: int = 10_000,
    batch_size: int = 512,
    lr: float = 1e-3,
    seed: int,
) -> nn.Module:
    """A service head: a three-layer perceptron from embeddings (n, d) to logits (n, classes).

    Adam with the learning rate cut to a tenth after 0.4 * ``steps`` and again after 0.8 * ``steps``; batches run
    through the records in a new random order each time round. The defaults are those of the published experiments. Embeddings
    are taken as they are: where their spread is far below 1, standardise them or allow more steps.

    Raises:
        InputError: no records, unequal lengths, labels outside 0..classes-1, fewer than two different
            labels, or ``steps`` or ``batch_size`` below 1.
    """
    _check_labels(embeddings, labels, classes)
    if steps < 1 or batch_size < 1:
        raise InputError(
            f"expected steps and batch_size of at least 1, but got {steps} steps and batch_size {batch_size}."
        )
    labels = labels.long()
    head = MLP(embeddings.shape[1], (hidden, hidden), classes, seed=derive_seed(seed, "head"))
    generator = torch.Generator().manual_seed(derive_seed(seed, "fit-head"))
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, max(1, round(0.4 * steps)), 0.1)
    with track("training a head", steps) as bar:
        for step, rows in zip(range(1, steps + 1), _endless_batches(len(embeddings), batch_size, generator)):
            value = F.cross_entropy(head(embeddings[rows]), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            schedule.step()
            if step % 50 == 0 or step == steps:
                bar.advance(step - bar.done)
    return head.eval()


def accuracy(module: nn.Module, inputs: Tensor, labels: Tensor, *, batch_size: int = 256) -> float:
    """Share of rows whose largest logit is at the label, in 0..1."""
    return float((embed(module, inputs, batch_size=batch_size).argmax(1) == labels).float().mean())


def _batches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """A random order of 0..n-1 in pieces; a last piece of one row is left out, as batch norm cannot train on it."""
    for rows in torch.randperm(n, generator=generator).split(batch_size):
        if len(rows) > 1 or n == 1 or batch_size == 1:
            yield rows


def _endless_batches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from _batches(n, batch_size, generator)


def _check_rows(inputs: Tensor, goals: Tensor) -> None:
    if len(inputs) == 0 or len(inputs) != len(goals):
        raise InputError(
            f"expected as many labels or goals as inputs, and at least one, but got {len(inputs)} inputs "
            f"and {len(goals)} goals."
        )


def _check_labels(inputs: Tensor, labels: Tensor, classes: int | None = None) -> None:
    _check_rows(inputs, labels)
    found = torch.unique(labels)
    if len(found) < 2:
        raise InputError(
            f"expected labels of at least two classes to train on, but got only {found.tolist()}. Add records of another class."
        )
    if int(found[0]) < 0 or (classes is not None and int(found[-1]) >= classes):
        raise InputError(
            f"expected labels in 0..{'' if classes is None else classes - 1}, "
            f"but got {int(found[0])}..{int(found[-1])}."
        )
