"""Encoder inference (PEI), arXiv 2408.02814: the paper's relations with their controls.

``quick`` takes six small encoders trained on the spot and twelve services on them; ``full`` takes public CIFAR-10
encoders, zeroth-order synthesis for all, and text encoders. ``relations`` holds what both measure.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Literal

from dosimeter.core.claim import Reproduction

SLUG = "encoder-inference"


def run(size: Literal["quick", "full"], seed: int, out: Path | None) -> Reproduction:
    """Measure every claim. Attack sets are kept under ``out``, so that a run that was stopped goes on from there."""
    from dosimeter.models.training import single_thread
    from dosimeter.reproductions.encoder_inference import full, quick

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, single_thread():
        cache = Path(scratch) if out is None else out
        claims = quick.measure(seed, cache) if size == "quick" else full.measure(seed, cache)
    return Reproduction(SLUG, size, seed, round(time.perf_counter() - started, 1), claims)
