"""What all figures look like: colours, dashes, legends."""

from __future__ import annotations

from typing import Any

from dosimeter.core.result import Figure

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
#: Colours of groups and curves, in order.
SERIES = ("#2868ac", "#b45309", "#0f766e", "#7c3aed", "#be185d", "#4b5563")
#: Dashes of curves, so that they differ without colour.
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [5, 2], [1, 3])
#: Heat map steps from low to high, the text on their lower and upper part, and the fill of a cell without value.
RAMP = ("#eef4fb", "#d3e3f3", "#adcbe8", "#82aeda", "#3a72aa", "#235488", "#123a63")
ON_RAMP = ("#152030", "#fdfeff")
NO_VALUE = "#f1f2f4"
#: Text and reference lines.
INK = "#1b2430"
MUTED = "#56606f"


def build_figure(name: str, title: str, caption: str, spec: dict[str, Any]) -> Figure:
    """A figure as wide as its container unless ``spec`` says otherwise."""
    return Figure(
        name=name, title=title, caption=caption, spec={"$schema": SCHEMA, "width": "container", **spec}
    )


def legend(labels: list[str]) -> dict[str, Any] | None:
    """A legend above the plot; none for a single label."""
    return {"orient": "top", "title": None} if len(labels) > 1 else None


def colour_by(field: str, labels: list[str]) -> dict[str, Any]:
    """Encoding channel that gives each of ``labels`` its colour of :data:`SERIES`, in order and round again."""
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": labels, "range": [SERIES[index % len(SERIES)] for index in range(len(labels))]},
        "legend": legend(labels),
    }
