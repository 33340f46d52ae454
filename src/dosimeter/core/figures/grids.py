"""Cells in rows and columns: numbers as colours, and images."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dosimeter.core.figures.palette import NO_VALUE, ON_RAMP, RAMP, build_figure
from dosimeter.core.result import Figure

_MOST_IMAGES = 240
_LARGEST_IMAGE = 96


def heatmap(
    name: str,
    title: str,
    caption: str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    values: ArrayLike,
    x_title: str | None = None,
    y_title: str | None = None,
    domain: tuple[float, float] | None = None,
    number: str = ".2f",
) -> Figure:
    """A grid of coloured cells, the value written in each as long as there are at most 16 columns.

    Args:
        rows, columns: distinct labels, from top to bottom and left to right.
        values: (rows, columns) numbers; NaN shows as an empty cell.
        domain: values of the lightest and the darkest colour; without it the range of ``values``.

    Raises:
        ValueError: labels that are not distinct or do not match the shape, infinite values.
    """
    grid = np.asarray(values, dtype=np.float64)
    if grid.shape != (len(set(rows)), len(set(columns))) or not grid.size:
        raise ValueError(
            f"figure '{name}' needs values of shape ({len(rows)}, {len(columns)}) under distinct labels, got {grid.shape}"
        )
    if np.isinf(grid).any():
        raise ValueError(f"figure '{name}' has infinite values")
    known = grid[~np.isnan(grid)]
    low, high = domain or ((float(known.min()), float(known.max())) if known.size else (0.0, 1.0))
    steps = np.linspace(low, high, len(RAMP) + 1)[1:-1]
    cells = []
    for row, line in zip(rows, grid.tolist()):
        for column, value in zip(columns, line):
            missing = math.isnan(value)
            step = 0 if missing else int(np.searchsorted(steps, value, side="right"))
            cells.append(
                {
                    "row": row,
                    "column": column,
                    "value": None if missing else value,
                    "fill": NO_VALUE if missing else RAMP[step],
                    "ink": ON_RAMP[step > len(RAMP) // 2],
                    "text": "–" if missing else format(value, number),
                }
            )
    across = {
        "field": "column",
        "type": "ordinal",
        "sort": None,
        "title": x_title,
        "axis": {"orient": "top", "labelAngle": -40 if max(map(len, columns)) > 6 else 0},
    }
    position = {"x": across, "y": {"field": "row", "type": "ordinal", "sort": None, "title": y_title}}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rect", "cornerRadius": 2},
            "encoding": {**position, "color": {"field": "fill", "type": "nominal", "scale": None}},
        }
    ]
    if len(columns) <= 16:
        layers.append(
            {
                "mark": {"type": "text"},
                "encoding": {
                    **position,
                    "text": {"field": "text"},
                    "color": {"field": "ink", "type": "nominal", "scale": None},
                },
            }
        )
    spec = {
        "width": "container" if len(columns) <= 8 else {"step": 40 if len(columns) <= 16 else 14},
        "height": {"step": 30},
        "data": {"values": cells},
        "layer": layers,
        "config": {"axis": {"domain": False, "ticks": False}, "scale": {"bandPaddingInner": 0.06}},
    }
    return build_figure(name, title, caption, spec)


class ImageRow(TypedDict):
    """Images under one label: uint8, (height, width, 3) or (height, width), from left to right."""

    label: str
    images: Sequence[NDArray[np.uint8]]


def image_strip(
    name: str,
    title: str,
    caption: str,
    rows: Sequence[ImageRow],
    *,
    columns: Sequence[str] | None = None,
    size: int = 64,
) -> Figure:
    """Rows of images drawn ``size`` units wide, pixels kept sharp.

    Args:
        rows: from top to bottom, with distinct labels.
        columns: distinct captions above the images; without them there are none.

    Raises:
        ValueError: no images, more than 240, not uint8, labels that are not distinct, too few captions.
    """
    wide = max((len(row["images"]) for row in rows), default=0)
    count = sum(len(row["images"]) for row in rows)
    if not 0 < count <= _MOST_IMAGES or len({row["label"] for row in rows}) < len(rows):
        raise ValueError(
            f"figure '{name}' needs 1 to {_MOST_IMAGES} images in rows of distinct labels, got {count}"
        )
    heads = list(columns) if columns is not None else [str(number) for number in range(1, wide + 1)]
    if len(set(heads)) < wide:
        raise ValueError(f"figure '{name}' needs {wide} distinct captions, got {heads}")
    values = [
        {"row": row["label"], "column": head, "url": _png(name, image)}
        for row in rows
        for head, image in zip(heads, row["images"])
    ]
    bare = {"domain": False, "ticks": False, "labelPadding": 8}
    spec = {
        "width": {"step": size + 8},
        "height": {"step": size + 8},
        "data": {"values": values},
        "mark": {"type": "image", "width": size, "height": size, "smooth": False},
        "encoding": {
            "url": {"field": "url"},
            "x": {
                "field": "column",
                "type": "ordinal",
                "sort": None,
                "title": None,
                "axis": {**bare, "orient": "top", "labelAngle": 0} if columns is not None else None,
            },
            "y": {"field": "row", "type": "ordinal", "sort": None, "title": None, "axis": bare},
        },
        "config": {"view": {"stroke": None}},
    }
    return build_figure(name, title, caption, spec)


def _png(figure: str, image: NDArray[np.uint8]) -> str:
    """``image`` as a data URI, at most 96 pixels a side."""
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"figure '{figure}' needs uint8 images, got {image.dtype} of shape {image.shape}")
    picture = Image.fromarray(image.squeeze())
    picture.thumbnail((_LARGEST_IMAGE, _LARGEST_IMAGE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
