"""Probes per second of zeroth-order synthesis against a loop over copies in the manner of the published code.

The loop works on one copy after the other: all q probes in one direction, then all in the opposite one; rounds them to
8 bits in NumPy, resizes image by image with Pillow, and encodes them in one batch. Both sides run the whole search (the
same starts and directions, estimate and update included) with the same small encoder in one process and one thread.

What can be reached is bounded by the encoder, which both sides pass every probe through; its own speed on ready batches
is measured beside them.

Checked first: without resizing (canvas = encoder input) both searches give the same images; with it, Pillow (8 bits in
between) and ours (float) differ by part of a grey level, so that the steps they take are compared by correlation. The
default is 50 images, as many as the published 10 objectives of 5 copies, and 100 directions.

    python benchmarks/synthesis_throughput.py [--repeats 7] [--canvas 64 16] [--size 32] [--device cpu] ...
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
from PIL import Image
from torch import Tensor, nn

from dosimeter.attacks.encoder_inference.synthesis import ZerothOrder, synthesise
from dosimeter.models.networks import SmallConvNet
from dosimeter.targets.torch import Preprocessing, TorchTarget

MEAN, STD = 0.5, 0.25
LEAST_CORRELATION = 0.98


@dataclass(frozen=True)
class Bench:
    """The encoder that both sides search on: float images (n, 3, size, size), normalised -> embeddings."""

    module: nn.Module
    target: TorchTarget
    size: int
    device: torch.device

    @classmethod
    def of(cls, size: int, device: str) -> Bench:
        module = SmallConvNet(in_size=size, seed=0).eval().to(device)
        preprocessing = Preprocessing(size=size, mean=(MEAN,) * 3, std=(STD,) * 3)
        target = TorchTarget(module, name="encoder", returns="embedding", preprocessing=preprocessing)
        return cls(module, target, size, torch.device(device))


def encode_in_a_loop(bench: Bench, probes: np.ndarray) -> Tensor:
    """Embeddings of (q, 3, S, S) float probes, through 8-bit pictures of Pillow."""
    pixels = np.clip(255 * probes, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    resized = [
        Image.fromarray(picture).resize((bench.size, bench.size), Image.Resampling.BILINEAR)
        for picture in pixels
    ]
    images = [torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div(255) for picture in resized]
    with torch.no_grad():
        return bench.module(((torch.stack(images) - MEAN) / STD).to(bench.device)).cpu()


def search_in_a_loop(
    bench: Bench, goals: Tensor, copies: int, settings: ZerothOrder, seed: int
) -> np.ndarray:
    """(n, S, S, 3) uint8 attack images."""
    generator = torch.Generator().manual_seed(seed)
    shape = (3, settings.canvas, settings.canvas)
    images = torch.rand(len(goals) * copies, *shape, generator=generator).numpy()
    for _ in range(settings.steps):
        directions = torch.rand(settings.directions, *shape, generator=generator).numpy() - np.float32(0.5)
        directions /= np.linalg.norm(directions.reshape(len(directions), -1), axis=1)[:, None, None, None]
        offsets = np.float32(settings.epsilon) * directions
        for row, image in enumerate(images):
            goal = goals[row // copies]
            plus = (encode_in_a_loop(bench, image + offsets) - goal).square().mean(dim=1)
            minus = (encode_in_a_loop(bench, image - offsets) - goal).square().mean(dim=1)
            estimate = np.tensordot((plus - minus).numpy(), directions, axes=1)
            step = np.float32(settings.learning_rate) * estimate / np.abs(estimate).max()
            images[row] = np.clip(image - step, 0, 1)
    return np.clip(255 * images, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def search_at_once(bench: Bench, goals: Tensor, copies: int, settings: ZerothOrder, seed: int) -> np.ndarray:
    made = synthesise(bench.target.forward, goals.to(bench.device), copies, settings, seed=seed)
    return made.images.reshape(-1, *made.images.shape[2:])


def problem_with(looped: np.ndarray, ours: np.ndarray, start: np.ndarray, *, resized: bool) -> str | None:
    """Why the two searches cannot be called the same; ``None`` if they can."""
    if not resized:
        gaps = np.abs(looped.astype(int) - ours)
        wrong = float((gaps > 0).mean())
        # A value on the border of two grey levels may fall to either side.
        return (
            None
            if gaps.max() <= 1 and wrong < 0.01
            else f"{wrong:.2%} of pixels differ, by up to {gaps.max()}"
        )
    steps = [(found.astype(float) - start).ravel() for found in (looped, ours)]
    correlation = float(np.corrcoef(*steps)[0, 1])
    return None if correlation >= LEAST_CORRELATION else f"the steps correlate only by {correlation:.3f}"


def probes_a_second(search: Callable[[], object], probes: int) -> float:
    started = time.perf_counter()
    search()
    return probes / (time.perf_counter() - started)


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}}  (spread {min(values):{form}}..{max(values):{form}})"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--canvas", type=int, nargs="+", default=[64, 16])
    parser.add_argument("--size", type=int, default=32, help="side of the encoder's input")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--directions", type=int, default=100)
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--steps", type=int, default=1)
    options = parser.parse_args()

    torch.set_num_threads(1)
    bench = Bench.of(options.size, options.device)
    objective = np.random.default_rng(0).integers(256, size=(1, bench.size, bench.size, 3), dtype=np.uint8)
    goals = torch.from_numpy(bench.target.answer(objective))
    ready = torch.randn(options.directions, 3, bench.size, bench.size, device=bench.device)

    for canvas in (bench.size, *options.canvas):
        one_step = ZerothOrder(canvas=canvas, steps=1, directions=options.directions)
        start = search_at_once(bench, goals, 3, ZerothOrder(canvas=canvas, steps=0), seed=0)
        looped = search_in_a_loop(bench, goals, 3, one_step, seed=0)
        ours = search_at_once(bench, goals, 3, one_step, seed=0)
        problem = problem_with(looped, ours, start, resized=canvas != bench.size)
        if problem is not None:
            print(f"canvas {canvas}: {problem}", file=sys.stderr)
            return 1

    def encoder_alone() -> None:
        with torch.no_grad():
            for _ in range(probes // len(ready)):
                bench.module(ready).cpu()

    print(
        f"{options.device}, one thread, {options.copies} copies, {options.directions} directions, {options.steps} steps"
    )
    for canvas in options.canvas:
        settings = ZerothOrder(canvas=canvas, steps=options.steps, directions=options.directions)
        probes = options.copies * settings.queries_per_sample()
        contestants: dict[str, Callable[[], object]] = {
            "vectorised": partial(search_at_once, bench, goals, options.copies, settings, 1),
            "loop over copies": partial(search_in_a_loop, bench, goals, options.copies, settings, 1),
            "encoder alone, ready batches": encoder_alone,
        }
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        for search in contestants.values():
            search()
        for repeat in range(options.repeats):
            order = list(contestants) if repeat % 2 == 0 else list(reversed(contestants))
            for name in order:
                rates[name].append(probes_a_second(contestants[name], probes))
        print(f"canvas {canvas}, encoder input {bench.size}:")
        for name, measured in rates.items():
            print(f"  {name:<30} {spread(measured, '8.0f')} probes/s, n={len(measured)}")
        ratios = [ours / loop for ours, loop in zip(rates["vectorised"], rates["loop over copies"])]
        bounds = [
            alone / loop
            for alone, loop in zip(rates["encoder alone, ready batches"], rates["loop over copies"])
        ]
        print(
            f"  ratio {spread(ratios, '.2f')}; with nothing but the encoder it would be {statistics.median(bounds):.2f}"
        )
    versions = ", ".join(f"{name} {version(name)}" for name in ("dosimeter", "torch", "numpy", "pillow"))
    print(
        f"python {platform.python_version()}, {versions}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
