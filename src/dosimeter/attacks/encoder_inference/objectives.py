"""Built-in objective inputs, unrelated to any service's data, and random inputs to compare attacks with."""

from __future__ import annotations

from typing import Literal

import numpy as np

from dosimeter.attacks.encoder_inference.beam import CLASSIFICATION, CharacterBeam, random_strings
from dosimeter.core.errors import InputError
from dosimeter.core.records import Batch
from dosimeter.core.seeding import derive_seed, rng

PHRASES = (
    "red fox",
    "blue whale",
    "green parrot",
    "yellow canary",
    "black panther",
    "white rabbit",
    "brown bear",
    "grey wolf",
    "pink flamingo",
    "golden eagle",
    "silver salmon",
    "purple starfish",
    "orange tiger",
    "striped zebra",
    "spotted leopard",
    "crimson crab",
    "violet beetle",
    "turquoise lizard",
    "copper moth",
    "ivory owl",
)
"""Twenty colours of animals, each animal and each colour once."""

# Patches looked at for each one chosen, and pixels a side at which they are compared.
_PATCHES_EACH = 12
_COARSE_SIZE = 4


def text_objectives(n: int = 20) -> list[str]:
    """The first ``n`` of :data:`PHRASES`.

    Raises:
        InputError: ``n`` is not in 1..20.
    """
    if not 1 <= n <= len(PHRASES):
        raise InputError(
            f"expected 1 to {len(PHRASES)} built-in text objectives, but {n} were asked for. Give a file with your own."
        )
    return list(PHRASES[:n])


def image_objectives(n: int, size: int, seed: int) -> np.ndarray:
    """``n`` patches (n, size, size, 3) uint8 of scikit-learn's two photographs that differ from each other.

    Out of twelve times as many random patches, each next one is the farthest from those chosen so far, compared as
    4 x 4 colour mosaics, so that a service is likely to answer them differently. Random: where the patches lie.
    """
    from dosimeter.data import load
    from dosimeter.data.images import resize

    if n < 1:
        raise InputError(f"expected at least 1 image objective, but {n} were asked for.")
    patches = np.asarray(
        load("photographs", n=_PATCHES_EACH * n, size=size, seed=derive_seed(seed, "objectives")).inputs
    )
    mosaics = resize(patches, _COARSE_SIZE).reshape(len(patches), -1).astype(np.float64)
    return patches[farthest_points(mosaics, n)]


def farthest_points(points: np.ndarray, n: int) -> np.ndarray:
    """Rows of ``points`` (p, d): first the one farthest from the mean, then always the one farthest from all chosen.

    Returns:
        (n,) int64 row numbers, in the order of choice. Takes O(n p d) time.
    """
    if n > len(points):
        raise InputError(f"expected at least {n} points to choose {n} from, but got {len(points)}.")
    distance = np.linalg.norm(points - points.mean(axis=0), axis=1)
    chosen = [int(distance.argmax())]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < n:
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
    return np.array(chosen)


def random_starts(
    modality: Literal["image", "text"],
    n: int,
    *,
    seed: int,
    size: int = 64,
    beam: CharacterBeam = CLASSIFICATION,
) -> Batch:
    """``n`` inputs that no candidate shaped: what attacks look like after zero steps, and the source of base rates.

    Images are uniform noise (n, size, size, 3) uint8; texts are uniform strings of ``beam``'s length and alphabet.
    """
    if modality == "image":
        return rng(seed, "random-images").integers(256, size=(n, size, size, 3), dtype=np.uint8)
    return random_strings(n, beam, seed)
