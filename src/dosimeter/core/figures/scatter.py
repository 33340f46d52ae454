"""Named points in a plane, each with its intervals in both directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from dosimeter.core.figures.palette import MUTED, SERIES, build_figure
from dosimeter.core.result import Figure

#: Five shapes against six colours: thirty names differ in one of them at least.
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
_MARGIN = 0.06


class ScatterPoint(TypedDict):
    """One point; points of one ``label`` share shape and colour. Intervals are ``None`` or left out where there is none."""

    label: str
    x: float
    y: float
    x_low: NotRequired[float | None]
    x_high: NotRequired[float | None]
    y_low: NotRequired[float | None]
    y_high: NotRequired[float | None]


def scatter(
    name: str,
    title: str,
    caption: str,
    points: Sequence[ScatterPoint],
    *,
    x_title: str,
    y_title: str,
    diagonal: str | None = None,
) -> Figure:
    """Points told apart by shape and colour, named above the plot, with a cross of intervals where there are some.

    Args:
        diagonal: draw x = y as a dotted line, and these words in the corner above it. Both axes then cover the same
            range, zero included, so that the line cuts the plot in halves.

    Raises:
        ValueError: no points, a number that is not finite, an interval of which one end is missing.
    """
    rows = [_row(name, point) for point in points]
    if not rows:
        raise ValueError(f"figure '{name}' needs at least one point")
    labels = list(dict.fromkeys(point["label"] for point in points))
    axes: dict[str, dict[str, Any]] = {"x": {"zero": False}, "y": {"zero": False}}
    layers: list[dict[str, Any]] = []
    if diagonal is not None:
        low, high = _square(rows)
        axes = {along: {"domain": [low, high], "nice": False} for along in axes}
        layers += _diagonal(low, high, diagonal)
    x = {"field": "x", "type": "quantitative", "title": x_title, "scale": axes["x"]}
    y = {"field": "y", "type": "quantitative", "title": y_title, "scale": axes["y"]}
    marked = {"type": "nominal", "legend": {"orient": "top", "title": None}}
    colour = {"domain": labels, "range": [SERIES[index % len(SERIES)] for index in range(len(labels))]}
    shape = {"domain": labels, "range": [SHAPES[index % len(SHAPES)] for index in range(len(labels))]}
    coloured = {"field": "label", **marked, "scale": colour}
    shaped = {"field": "label", **marked, "scale": shape}
    for along, across in (("x", y), ("y", x)):
        own = x if along == "x" else y
        layers.append(
            {
                "transform": [{"filter": f"isValid(datum.{along}_low)"}],
                "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.55},
                "encoding": {
                    along: {**own, "field": f"{along}_low"},
                    f"{along}2": {"field": f"{along}_high"},
                    "y" if along == "x" else "x": across,
                    "color": coloured,
                },
            }
        )
    layers.append(
        {
            "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": coloured, "shape": shaped},
        }
    )
    return build_figure(name, title, caption, {"height": 320, "data": {"values": rows}, "layer": layers})


def _row(figure: str, point: ScatterPoint) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("x_low", "x_high", "y_low", "y_high"), None) | dict(point)
    for along in ("x", "y"):
        if (row[f"{along}_low"] is None) != (row[f"{along}_high"] is None):
            raise ValueError(f"figure '{figure}' has half an interval for '{point['label']}'")
    for field, number in row.items():
        if field != "label" and number is not None:
            if not math.isfinite(number):
                raise ValueError(
                    f"figure '{figure}' has the value {number} for '{point['label']}'; leave it out"
                )
            row[field] = float(number)
    return row


def _square(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Ends of a range that holds zero and all points and intervals, with a margin."""
    numbers = [value for row in rows for key, value in row.items() if key != "label" and value is not None]
    low, high = min(0.0, *numbers), max(0.0, *numbers)
    margin = _MARGIN * ((high - low) or 1.0)
    return low - margin, high + margin


def _diagonal(low: float, high: float, words: str) -> list[dict[str, Any]]:
    return [
        {
            "data": {"values": [{"x": low, "y": low}, {"x": high, "y": high}]},
            "mark": {"type": "line", "color": MUTED, "strokeWidth": 1.5, "strokeDash": [2, 3]},
            "encoding": {
                "x": {"field": "x", "type": "quantitative"},
                "y": {"field": "y", "type": "quantitative"},
            },
        },
        {
            "data": {"values": [{}]},
            "mark": {"type": "text", "align": "left", "baseline": "top", "dx": 8, "dy": 6, "color": MUTED},
            "encoding": {"x": {"value": 0}, "y": {"value": 0}, "text": {"value": words}},
        },
    ]
