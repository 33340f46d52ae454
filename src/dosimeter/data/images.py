"""Images as arrays: resizing, and cutting patches out of large photographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from dosimeter.core.errors import InputError


def resize(images: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """(n, h, w, 3) uint8 images as (n, height, width, 3) uint8, bilinear with antialiasing (Pillow), aspect ignored.

    ``size`` is one number for a square, or (height, width).
    """
    height, width = (size, size) if isinstance(size, int) else size
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise InputError(
            f"expected (n, height, width, 3) uint8 images to resize, but got shape {images.shape} and type {images.dtype}."
        )
    if height < 1 or width < 1:
        raise InputError(f"expected an image size of at least 1 pixel, but got {size}.")
    if images.shape[1:3] == (height, width):
        return images
    resized = np.empty((len(images), height, width, 3), np.uint8)
    for index, image in enumerate(images):
        resized[index] = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return resized


def patches(
    photographs: Sequence[np.ndarray],
    *,
    n: int,
    size: int,
    generator: np.random.Generator,
    tiles: int = 4,
    scale: tuple[float, float] = (0.1, 0.25),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``n`` random square patches, taken from the photographs in turn.

    A patch lies wholly inside one tile of a ``tiles`` x ``tiles`` grid over its photograph, so patches of different
    groups share no pixel. Its side is uniform in ``scale`` times the shorter side of the photograph (at most that of
    the tile), its position uniform in the tile.

    Args:
        photographs: (h, w, 3) uint8 arrays; their sizes may differ.
        size: side of the patches given back, in pixels (bilinear with antialiasing).

    Returns:
        Patches (n, size, size, 3) uint8; the index of each one's photograph (n,) int64; its group, which is its
        tile, counted over all photographs (n,) int64.
    """
    if n < 1 or size < 1:
        raise InputError(
            f"expected at least one patch of at least one pixel, but got n = {n} and size = {size}."
        )
    images = np.empty((n, size, size, 3), np.uint8)
    sources = np.arange(n) % len(photographs)
    cells = generator.integers(tiles * tiles, size=n)
    pictures = [Image.fromarray(photograph) for photograph in photographs]
    for index, (source, cell) in enumerate(zip(sources, cells)):
        picture = pictures[source]
        row, column = divmod(int(cell), tiles)
        width, height = picture.width // tiles, picture.height // tiles
        side = min(max(1, round(generator.uniform(*scale) * min(picture.size))), width, height)
        left = column * width + int(generator.integers(width - side + 1))
        top = row * height + int(generator.integers(height - side + 1))
        box = (left, top, left + side, top + side)
        # Cut before resizing: the filter of ``resize(box=...)`` reads beyond the box.
        images[index] = picture.crop(box).resize((size, size), Image.Resampling.BILINEAR)
    return images, sources, sources * tiles * tiles + cells
