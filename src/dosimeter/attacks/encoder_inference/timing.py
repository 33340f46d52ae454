"""How long synthesis will take, from one timed pass of each local candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dosimeter.attacks.encoder_inference.attack_sets import most_queries
from dosimeter.attacks.encoder_inference.beam import CharacterBeam, random_strings
from dosimeter.attacks.encoder_inference.candidates import Candidate

if TYPE_CHECKING:
    from dosimeter.attacks.encoder_inference.attack_sets import Synthesiser

_RECORDS = 64
# A gradient step is a forward pass, and a backward pass that costs about twice as much.
_GRADIENT_STEP = 3


def synthesis_seconds(
    candidates: Sequence[Candidate], settings: Sequence[Synthesiser], objectives: int, copies: int
) -> float | None:
    """Seconds for all attack sets on this machine as busy as it is now; ``None`` if some candidate is not local.

    Candidates that are only queried are not timed: each of their calls may cost money.
    """
    total = 0.0
    for candidate, chosen in zip(candidates, settings):
        if chosen is None:
            continue
        if candidate.access != "weights":
            return None
        passes = most_queries(chosen, objectives, copies)
        gradient = _GRADIENT_STEP if chosen.kind == "gradient" else 1
        total += passes * gradient * _seconds_a_record(candidate, chosen)
    return total


def _seconds_a_record(candidate: Candidate, settings: Synthesiser) -> float:
    embed = candidate.embedder()
    if isinstance(settings, CharacterBeam):
        texts = random_strings(_RECORDS, settings, seed=0)
        return _timed(lambda: embed(texts)) / _RECORDS
    assert settings is not None
    images = np.zeros((_RECORDS, settings.canvas, settings.canvas, 3), dtype=np.uint8)
    return _timed(lambda: embed(images)) / _RECORDS


def _timed(work: Callable[[], object]) -> float:
    """Least seconds of three runs on one thread, as cells use one unless told otherwise."""
    from dosimeter.models.training import single_thread

    seconds = []
    with single_thread():
        for _ in range(3):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
    return min(seconds)
