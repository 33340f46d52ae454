"""Curves and distributions, of any number of points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dosimeter.core.figures.palette import DASHES, MUTED, build_figure, colour_by, legend
from dosimeter.core.figures.thinning import MOST_POINTS, thin
from dosimeter.core.result import Figure


def line(
    name: str,
    title: str,
    caption: str,
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_title: str,
    y_title: str,
    x_scale: Literal["linear", "log"] = "linear",
    y_scale: Literal["linear", "log"] = "linear",
    diagonal: bool = False,
    steps: bool = False,
) -> Figure:
    """Curves, told apart by colour and dash, each thinned to at most 400 points.

    Args:
        series: name of a curve to its (n,) x and (n,) y. On a logarithmic axis values of 0 and below are drawn at
            the smallest value above 0 of all curves.
        diagonal: also draw x = y, as chance level of an ROC curve.
        steps: constant between points (empirical distributions) instead of straight lines.

    Raises:
        ValueError: no curves, an empty one, values that are not finite, nothing above 0 on a logarithmic axis.
    """
    curves = {
        label: (np.asarray(x, np.float64), np.asarray(y, np.float64)) for label, (x, y) in series.items()
    }
    if not curves or any(x.size == 0 or x.shape != y.shape for x, y in curves.values()):
        raise ValueError(f"figure '{name}' needs curves of one or more points with as many x as y")
    log_x, log_y = x_scale == "log", y_scale == "log"
    floor_x = _smallest_positive(name, [x for x, _ in curves.values()]) if log_x else -math.inf
    floor_y = _smallest_positive(name, [y for _, y in curves.values()]) if log_y else -math.inf
    points = []
    for label, (raw_x, raw_y) in curves.items():
        x, y = np.maximum(raw_x, floor_x), np.maximum(raw_y, floor_y)
        kept = thin(x, y, log_x=log_x, log_y=log_y)
        points += [
            {"curve": label, "order": order, "x": a, "y": b}
            for order, (a, b) in enumerate(zip(_rounded(x[kept]), _rounded(y[kept])))
        ]
    labels = list(curves)
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "line", "strokeWidth": 2, "interpolate": "step-after" if steps else "linear"},
            "encoding": {
                "x": {"field": "x", "type": "quantitative", "title": x_title, "scale": _scale(x_scale)},
                "y": {"field": "y", "type": "quantitative", "title": y_title, "scale": _scale(y_scale)},
                "order": {"field": "order", "type": "quantitative"},
                "color": colour_by("curve", labels),
                "strokeDash": {
                    "field": "curve",
                    "type": "nominal",
                    "scale": {
                        "domain": labels,
                        "range": [DASHES[index % len(DASHES)] for index in range(len(labels))],
                    },
                    "legend": legend(labels),
                },
            },
        }
    ]
    if diagonal:
        first = max(floor_x, floor_y, 0.0)
        layers.append(
            {
                "data": {"values": [{"x": first, "y": first}, {"x": 1.0, "y": 1.0}]},
                "mark": {"type": "line", "color": MUTED, "strokeWidth": 1, "strokeDash": [2, 3]},
                "encoding": {
                    "x": {"field": "x", "type": "quantitative"},
                    "y": {"field": "y", "type": "quantitative"},
                },
            }
        )
    return build_figure(name, title, caption, {"height": 260, "data": {"values": points}, "layer": layers})


def histogram(
    name: str,
    title: str,
    caption: str,
    samples: Mapping[str, ArrayLike],
    *,
    x_title: str,
    bins: int = 60,
) -> Figure:
    """Distributions over common bins as outlines, each as the share of its own records, of any sample size.

    Args:
        samples: name of a group to its (n,) values.

    Raises:
        ValueError: no group, an empty one, values that are not finite.
    """
    groups = {label: _sample(name, label, values) for label, values in samples.items()}
    if not groups:
        raise ValueError(f"figure '{name}' needs at least one group of values")
    low = min(float(values.min()) for values in groups.values())
    high = max(float(values.max()) for values in groups.values())
    edges = np.histogram_bin_edges([], bins=bins, range=(low, high))
    curves = {}
    for label, values in groups.items():
        share = np.histogram(values, bins=edges)[0] / values.size
        curves[label] = (np.append(edges, edges[-1]), np.concatenate([share, share[-1:], [0.0]]))
    return line(name, title, caption, curves, x_title=x_title, y_title="share of records", steps=True)


def ecdf(name: str, title: str, caption: str, samples: Mapping[str, ArrayLike], *, x_title: str) -> Figure:
    """Empirical distribution functions: the share of records at or below x, extremes included.

    Args:
        samples: name of a group to its (n,) values.

    Raises:
        ValueError: no group, an empty one, values that are not finite.
    """
    curves = {}
    for label, sample in samples.items():
        values = np.sort(_sample(name, label, sample))
        kept = np.unique(np.linspace(0, values.size - 1, min(values.size, MOST_POINTS)).astype(np.int64))
        curves[label] = (values[kept], (kept + 1) / values.size)
    return line(
        name, title, caption, curves, x_title=x_title, y_title="share of records at or below", steps=True
    )


def _sample(figure: str, label: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"figure '{figure}' needs finite values for '{label}', got {array.size} with some not finite"
        )
    return array


def _smallest_positive(figure: str, arrays: list[NDArray[np.float64]]) -> float:
    values = np.concatenate(arrays)
    if not (values > 0).any():
        raise ValueError(f"figure '{figure}' has nothing above 0 to draw on a logarithmic axis")
    return float(values[values > 0].min())


def _rounded(values: NDArray[np.float64]) -> list[float]:
    """Six significant digits: more than a screen shows, in a third of the bytes."""
    return [float(f"{value:.6g}") for value in values.tolist()]


def _scale(kind: str) -> dict[str, Any]:
    return {"type": "log"} if kind == "log" else {"zero": False}
