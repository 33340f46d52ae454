"""Random state from one seed and a path of names, so that no two places ever share a stream by accident."""

from __future__ import annotations

import hashlib

import numpy as np

_SEPARATOR = "\x1f"


def derive_seed(seed: int, *path: str | int) -> int:
    """A seed in ``[0, 2**63)`` that depends on ``seed`` and every element of ``path``, and on nothing else."""
    text = _SEPARATOR.join(
        [str(int(seed)), *(f"{type(part).__name__}:{_escape(str(part))}" for part in path)]
    )
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _escape(part: str) -> str:
    return part.replace("\\", "\\\\").replace(_SEPARATOR, "\\s")


def rng(seed: int, *path: str | int) -> np.random.Generator:
    """An independent NumPy generator for the place named by ``path``."""
    return np.random.default_rng(derive_seed(seed, *path))
