"""What an attacker does about a service that damages its inputs."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dosimeter.core.errors import InputError
from dosimeter.core.records import as_uint8_images


def upscale(images: np.ndarray, factor: int = 2) -> np.ndarray:
    """Attack images (n, h, w, 3) enlarged bicubically to (n, factor * h, factor * w, 3) uint8 before they are sent.

    JPEG works on blocks of 8 x 8 pixels: after enlarging, one block covers less of the original canvas and the detail
    that the attack lives on has moved to lower frequencies, where the encoder quantises less. It helps if the service
    re-encodes before it resizes, and not if it resizes first.

    Raises:
        InputError: not images, or ``factor`` below 1.
    """
    images = as_uint8_images(images, what="images to upscale")
    if factor < 1:
        raise InputError(f"expected an upscaling factor of at least 1, but got {factor}.")
    if factor == 1 or len(images) == 0:
        return images
    height, width = images.shape[1:3]
    size = (factor * width, factor * height)
    return np.stack(
        [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images]
    )
