"""Values with intervals, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from dosimeter.core.figures.palette import INK, MUTED, build_figure, colour_by
from dosimeter.core.result import Figure


class IntervalRow(TypedDict):
    """One bar; ``value`` is ``None`` where there is none, ``low`` and ``high`` where there is no interval."""

    label: str
    value: float | None
    low: NotRequired[float | None]
    high: NotRequired[float | None]
    group: NotRequired[str]


class ReferenceLine(TypedDict):
    """A vertical line at ``value`` of the x axis with a few words above it."""

    value: float
    label: str


def interval_bars(
    name: str,
    title: str,
    caption: str,
    rows: Sequence[IntervalRow],
    *,
    x_title: str,
    reference_lines: Sequence[ReferenceLine] = (),
    domain: tuple[float, float] | None = None,
    number: str = ".3g",
) -> Figure:
    """One horizontal bar per row with its interval, and its value in figures at the right.

    Args:
        rows: from top to bottom, with distinct labels; rows of one ``group`` share a colour.
        domain: ends of the x axis; without it the axis covers zero, all intervals and all reference lines.
        number: Python format of the printed values.

    Raises:
        ValueError: no rows, two rows of one label, a number that is not finite.
    """
    labels = [row["label"] for row in rows]
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"figure '{name}' needs rows with distinct labels, got {labels}")
    values = [
        {
            "label": row["label"],
            "group": row.get("group", ""),
            "value": _finite(name, row["value"]),
            "low": _finite(name, row.get("low")),
            "high": _finite(name, row.get("high")),
            "text": "no value" if row["value"] is None else format(row["value"], number),
        }
        for row in rows
    ]
    groups = list(dict.fromkeys(str(value["group"]) for value in values))
    scale: dict[str, Any] = {"domain": list(domain)} if domain else {"zero": True}
    x = {"field": "value", "type": "quantitative", "title": x_title, "scale": scale}
    y = {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"ticks": False, "domain": False},
    }
    colour = colour_by("group", groups)
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "bar", "height": 12, "cornerRadius": 2, "opacity": 0.32},
            "encoding": {"x": x, "y": y, "color": colour},
        },
        {
            "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y, "color": colour},
        },
        {
            "transform": [{"filter": "isValid(datum.value)"}],
            "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 10, "color": INK},
            "encoding": {"x": {"value": "width"}, "y": y, "text": {"field": "text"}},
        },
    ]
    one: dict[str, Any] = {"values": [{}]}
    for height, line in enumerate(reference_lines):
        at = {"datum": _finite(name, line["value"]), "type": "quantitative"}
        layers += [
            {
                "data": one,
                "mark": {"type": "rule", "strokeDash": [4, 3], "color": INK},
                "encoding": {"x": at},
            },
            {
                "data": one,
                "mark": {"type": "text", "dy": -9 - 14 * height, "color": MUTED},
                "encoding": {"x": at, "y": {"value": 0}, "text": {"value": line["label"]}},
            },
        ]
    return build_figure(
        name, title, caption, {"height": {"step": 28}, "data": {"values": values}, "layer": layers}
    )


def _finite(figure: str, number: float | None) -> float | None:
    if number is not None and not math.isfinite(number):
        raise ValueError(f"figure '{figure}' has the value {number}; give None where there is none")
    return None if number is None else float(number)
