"""Encoder stealing (StolenEncoder), arXiv 2201.05889: the paper's relations with their controls.

``quick`` steals a small contrastive encoder of handwritten digits; ``full`` one of Fashion-MNIST, a public CIFAR-10 network
and a public sentence encoder. ``arms`` trains copies side by side, ``relations`` holds what both sizes measure.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Literal

from dosimeter.core.claim import Reproduction

SLUG = "encoder-stealing"


def run(size: Literal["quick", "full"], seed: int, out: Path | None) -> Reproduction:
    """Measure every claim. Copies are kept under ``out``, so that a run that was stopped goes on from there."""
    from dosimeter.models.training import single_thread
    from dosimeter.reproductions.encoder_stealing import full, quick

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, single_thread():
        cache = Path(scratch) if out is None else out
        measured = quick.measure(seed, cache) if size == "quick" else full.measure(seed, cache)
    return Reproduction(
        SLUG,
        size,
        seed,
        round(time.perf_counter() - started, 1),
        measured.claims,
        tables=measured.tables,
        figures=measured.figures,
    )
