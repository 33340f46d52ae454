"""Steps per second of StolenEncoder's training: batched loss and step against the way of the published code.

That way is to loop over the samples of a batch in Python for the distance (``sum_i d(s_i / |s_i|, v_i)``), to pass plain and
augmented images through the network in two forwards, and to augment image by image. Both sides have the same batches,
network, distance and optimizer in one process and one thread. The published loss is a sum over the batch; here both
are means, so that they can be compared.

(a) the loss alone: distance and weighting from the network's outputs, forward and backward down to them;
(b) the whole step: views, network, loss, backward and update. It is bounded by the network, which both sides pass the same
images through; the step without any loss loop or augmentation is measured beside them.

Checked first: losses and gradients of (a) are equal for the same outputs, and so is the loss of a step whose views are fixed.
Counted too: calls of the target that StolenEncoder needs, one per image, and that Cont-Steal needs if it asks live for
every view that it shows the target, one or more per image and epoch. The exit code is 1 where results differ or the loss alone is less than ``--least`` times as fast.

    python benchmarks/stealing_throughput.py [--repeats 7] [--least 10] [--batch 64] [--size 32] [--surrogate small-resnet]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dosimeter.attacks.encoder_stealing.contrastive import buy_views
from dosimeter.attacks.encoder_stealing.losses import Directions, stealing_loss
from dosimeter.attacks.encoder_stealing.purchase import buy
from dosimeter.attacks.encoder_stealing.surrogates import surrogate
from dosimeter.attacks.encoder_stealing.training import Recipe, optimizer_of, steal
from dosimeter.attacks.encoder_stealing.views import ImageViews
from dosimeter.core.oracle import Oracle
from dosimeter.core.target import CallableTarget

WEIGHT = 20.0
UNDER_ROOT = 1e-12


@dataclass(frozen=True)
class Bench:
    """``rows`` (b, 3, size, size) uint8 images, ``sold`` (b, width) unit vectors, and what augments them."""

    rows: Tensor
    sold: Tensor
    views: ImageViews
    architecture: str

    @classmethod
    def of(cls, batch: int, size: int, width: int, architecture: str) -> Bench:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8, generator=generator)
        sold = F.normalize(torch.randn(batch, width, generator=generator), dim=1)
        return cls(rows, sold, ImageViews(size), architecture)

    def network(self) -> nn.Module:
        return surrogate(self.architecture, width=self.sold.shape[1], seed=0).train()


def looped_loss(plain: Tensor, augmented: Tensor, sold: Tensor) -> Tensor:
    """Mean distance, one sample after the other."""
    losses = []
    for outputs in (plain, augmented):
        total = torch.zeros(())
        for sample, goal in zip(outputs, sold):
            direction = sample / sample.norm().clamp_min(UNDER_ROOT)
            total = total + ((direction - goal).square().sum() + UNDER_ROOT).sqrt()
        losses.append(total / len(sold))
    return losses[0] + WEIGHT * losses[1]


def batched_loss(outputs: Tensor, sold: Tensor, picked: Tensor) -> Tensor:
    return stealing_loss(Directions(sold).distances(outputs, picked), 1, WEIGHT)


def looped_views(bench: Bench) -> Tensor:
    return torch.cat([bench.views.augmented(row[None]) for row in bench.rows])


def looped_step(
    bench: Bench, network: nn.Module, optimizer: torch.optim.Optimizer, views: Callable[[], Tensor]
) -> float:
    plain = network(bench.views.plain(bench.rows)).flatten(1)
    augmented = network(views()).flatten(1)
    return update(looped_loss(plain, augmented, bench.sold), optimizer)


def batched_step(
    bench: Bench,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    views: Callable[[], Tensor],
    *,
    separate: bool = False,
) -> float:
    parts = [bench.views.plain(bench.rows), views()]
    if separate:
        outputs = torch.cat([network(part).flatten(1) for part in parts])
    else:
        outputs = network(torch.cat(parts)).flatten(1)
    picked = torch.arange(len(bench.rows))
    return update(batched_loss(outputs, bench.sold, picked.repeat(2)), optimizer)


def network_alone(_: Bench, network: nn.Module, optimizer: torch.optim.Optimizer, ready: Tensor) -> float:
    """Forward, backward and update on ready views, under the cheapest loss there is."""
    return update(network(ready).square().mean(), optimizer)


def update(loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def loss_problem(bench: Bench, outputs: Tensor) -> str | None:
    """Why both losses cannot be called the same; ``None`` if they can."""
    first, second = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    half = len(bench.sold)
    looped = looped_loss(first[:half], first[half:], bench.sold)
    batched = batched_loss(second, bench.sold, torch.arange(half).repeat(2))
    looped.backward()
    batched.backward()
    assert first.grad is not None
    assert second.grad is not None
    if not torch.allclose(looped, batched, rtol=1e-5):
        return f"losses differ: {float(looped)} looped, {float(batched)} batched"
    if not torch.allclose(first.grad, second.grad, rtol=1e-3, atol=1e-7):
        return f"gradients differ by up to {float((first.grad - second.grad).abs().max())}"
    return None


def step_problem(bench: Bench) -> str | None:
    """The same for three steps on fixed views, batch statistics apart as the published code has them."""
    fixed = bench.views.augmented(bench.rows)
    found = []
    for step in (looped_step, partial(batched_step, separate=True)):
        network = bench.network()
        optimizer = optimizer_of(network, Recipe(learning_rate=0.01))
        found.append([step(bench, network, optimizer, lambda: fixed) for _ in range(3)])
    return (
        None if np.allclose(*found, rtol=1e-3) else f"losses of three steps differ: {found[0]} and {found[1]}"
    )


def runs_a_second(run: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        run()
    return times / (time.perf_counter() - started)


def alternating(
    contestants: dict[str, Callable[[], object]], repeats: int, seconds: float
) -> dict[str, list[float]]:
    """Runs per second of each, ``repeats`` times in turn, each time for about ``seconds``."""
    times = {name: max(1, round(seconds * runs_a_second(run, 2))) for name, run in contestants.items()}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(repeats):
        for name in list(contestants) if repeat % 2 == 0 else list(reversed(contestants)):
            rates[name].append(runs_a_second(contestants[name], times[name]))
    return rates


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}}  (spread {min(values):{form}}..{max(values):{form}})"


def ratios(fast: list[float], slow: list[float]) -> list[float]:
    return [one / other for one, other in zip(fast, slow)]


def show(title: str, rates: dict[str, list[float]]) -> None:
    print(title)
    for name, measured in rates.items():
        print(f"  {name:<44} {spread(measured, '9.1f')} /s, n={len(measured)}")


def loss_rates(bench: Bench, outputs: Tensor, repeats: int) -> dict[str, list[float]]:
    half = len(bench.sold)
    picked = torch.arange(half).repeat(2)
    leaf = outputs.clone().requires_grad_()

    def looped() -> None:
        leaf.grad = None
        looped_loss(leaf[:half], leaf[half:], bench.sold).backward()

    def batched() -> None:
        leaf.grad = None
        batched_loss(leaf, bench.sold, picked).backward()

    return alternating({"batched": batched, "loop over samples": looped}, repeats, seconds=1.0)


def step_rates(bench: Bench, repeats: int) -> dict[str, list[float]]:
    ready = torch.cat([bench.views.plain(bench.rows), bench.views.augmented(bench.rows)])

    def contestant(step: Callable[..., float], *arguments: object) -> Callable[[], object]:
        network = bench.network()
        return partial(step, bench, network, optimizer_of(network, Recipe(learning_rate=0.01)), *arguments)

    contestants = {
        "batched": contestant(batched_step, lambda: bench.views.augmented(bench.rows)),
        "loop over samples": contestant(looped_step, lambda: looped_views(bench)),
        "network alone, ready views": contestant(network_alone, ready),
    }
    return alternating(contestants, repeats, seconds=3.0)


class Counter:
    """A service of random projections that counts the images it is asked for."""

    def __init__(self, size: int) -> None:
        self.weights = np.random.default_rng(0).normal(size=(3 * size * size, 16)).astype(np.float32)
        self.asked = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.asked += len(images)
        return images.reshape(len(images), -1).astype(np.float32) @ self.weights


def calls(images: int = 32, epochs: int = 3, views: int = 2, size: int = 16) -> tuple[int, int]:
    """Calls that StolenEncoder and live Cont-Steal really make of a service, at a size small enough to run."""
    batch = np.random.default_rng(0).integers(256, size=(images, size, size, 3), dtype=np.uint8)
    counters = Counter(size), Counter(size)
    plain, live = (
        Oracle(CallableTarget(counter, modality="image", returns="embedding")) for counter in counters
    )
    network = surrogate("small-conv", width=16, seed=0)
    steal(buy(plain, batch), network, ImageViews(size), Recipe(epochs=epochs), seed=0)
    for epoch in range(epochs):
        buy_views(live, batch, ImageViews(size, crop=True), per_image=views, seed=epoch)
    return counters[0].asked, counters[1].asked


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--least", type=float, default=10.0, help="times that the loss alone must be faster")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--width", type=int, default=512, help="length of the vectors")
    parser.add_argument("--surrogate", default="small-resnet")
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    bench = Bench.of(options.batch, options.size, options.width, options.surrogate)
    outputs = torch.randn(2 * options.batch, options.width)
    problem = loss_problem(bench, outputs) or step_problem(bench)
    if problem is not None:
        print(problem, file=sys.stderr)
        return 1

    print(
        f"one thread, batches of {options.batch} images of {options.size} pixels, one view each, width {options.width}, "
        f"surrogate {options.surrogate}; losses and gradients equal"
    )
    alone = loss_rates(bench, outputs, options.repeats)
    show("(a) loss alone, forward and backward:", alone)
    faster = ratios(alone["batched"], alone["loop over samples"])
    print(f"  ratio {spread(faster, '.1f')}; at least {options.least:g} is required")
    whole = step_rates(bench, options.repeats)
    show("(b) whole step:", whole)
    bound = ratios(whole["network alone, ready views"], whole["loop over samples"])
    print(
        f"  ratio {spread(ratios(whole['batched'], whole['loop over samples']), '.2f')}; with nothing but the network it "
        f"would be {statistics.median(bound):.2f}"
    )
    images, epochs = 2500, 100
    once, live = calls()
    print(
        f"calls of the target for {images:,} images, {epochs} epochs: StolenEncoder {images:,}, Cont-Steal with one live view "
        f"{images * epochs:,}: {epochs} times as many\n"
        f"  counted at 32 images, 3 epochs, 2 views: {once} and {live}"
    )
    if (once, live) != (32, 32 * 3 * 2):
        print("the counted calls are not what the rule says", file=sys.stderr)
        return 1
    versions = ", ".join(f"{name} {version(name)}" for name in ("dosimeter", "torch", "numpy", "kornia"))
    print(
        f"python {platform.python_version()}, {versions}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    if statistics.median(faster) < options.least:
        print(
            f"the loss alone is {statistics.median(faster):.1f} times as fast, less than {options.least:g}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
