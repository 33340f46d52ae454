"""The zero-shot check of two-tower models: the target's own text tower beside the *stolen* image tower.

Source: StolenEncoder, arXiv 2201.05889 (CLIP). It works only because the stolen space is aligned with the target's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dosimeter.attacks.encoder_stealing.purchase import unit_rows
from dosimeter.core.errors import InputError

TEMPLATE = "a photo of a {}"


def prompts(classes: Sequence[str], template: str = TEMPLATE) -> list[str]:
    """One prompt per class; ``{}`` stands for its name.

    Raises:
        InputError: a template without ``{}``.
    """
    if "{}" not in template:
        raise InputError(
            f"expected a template with {{}} for the class, as in '{TEMPLATE}', but got '{template}'."
        )
    return [template.replace("{}", name) for name in classes]


def zero_shot_labels(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """(n,) int64: for each of the image vectors (n, d) the class whose text vector, a row of (classes, d), has the
    largest cosine.

    Raises:
        InputError: towers of different widths.
    """
    if images.shape[1] != texts.shape[1]:
        raise InputError(
            f"the image tower gives vectors of length {images.shape[1]}, the text tower of length {texts.shape[1]}; "
            "zero-shot labels need the two towers of one model."
        )
    return (unit_rows(images) @ unit_rows(texts).T).argmax(1)
