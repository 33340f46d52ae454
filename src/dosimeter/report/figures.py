"""Figures as drawings: Vega-Lite to SVG in this process, nothing loaded, readable in light and dark, wide and narrow."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dosimeter.core.figures.palette import INK, MUTED, NO_VALUE, ON_RAMP, RAMP, SERIES
from dosimeter.core.result import Figure
from dosimeter.report.svg import DrawingRefused, rebuild
from dosimeter.report.wording import clean_text

WIDE, NARROW = 816, 328
MOST_RECORDS = 20_000
MOST_BYTES = 1_000_000
_GRID, _AXIS = "#e3e7ed", "#7f8997"
#: The style-sheet variable in place of each colour of the palette. Vega's own default for text is black.
THEME: dict[str, str] = {
    **{colour: f"var(--series-{index})" for index, colour in enumerate(SERIES, 1)},
    **{colour: f"var(--ramp-{index})" for index, colour in enumerate(RAMP, 1)},
    ON_RAMP[0]: "var(--on-low)",
    ON_RAMP[1]: "var(--on-high)",
    NO_VALUE: "var(--no-value)",
    **dict.fromkeys([INK, "#000", "#000000", "black", "rgb(0, 0, 0)"], "var(--ink)"),
    MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    _AXIS: "var(--axis)",
}
# Vega shortens long labels between the two halves of such a character and then fails.
_BEYOND_16_BITS = re.compile("[\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Drawing:
    """One figure as SVG for the page; ``narrow`` is for phones and ``None`` where the figure has a width of its own."""

    wide: Markup
    narrow: Markup | None


def draw(figure: Figure, *, identifiers: str) -> Drawing:
    """``figure`` as SVG whose colours follow the page.

    Args:
        identifiers: prefix of all ``id`` in the drawing; must be unique in the page.

    Raises:
        DrawingRefused: the specification loads something, has more than 20,000 records, makes a drawing above
            1 MB, or is not Vega-Lite.
    """
    spec = _checked(figure.spec)
    alternative = clean_text(f"{figure.title}. {figure.caption}")
    if spec.get("width") != "container":
        return Drawing(_svg(spec, WIDE, f"{identifiers}w", alternative), None)
    wide, narrow = (
        _svg(
            {**spec, "width": width, "autosize": {"type": "fit-x", "contains": "padding"}},
            width,
            f"{identifiers}{prefix}",
            alternative,
        )
        for width, prefix in ((WIDE, "w"), (NARROW, "n"))
    )
    return Drawing(wide, narrow)


def drawn_alone(figure: Figure) -> str:
    """``figure`` as an SVG file of its own: 816 units wide, on white.

    Raises:
        DrawingRefused: as :func:`draw`.
    """
    spec = _checked(figure.spec)
    if spec.get("width") == "container":
        spec = {**spec, "width": WIDE, "autosize": {"type": "fit-x", "contains": "padding"}}
    return _converted({**spec, "background": "white"}, WIDE)


def _converted(spec: dict[str, Any], width: int) -> str:
    import vl_convert

    def convert(spec: dict[str, Any]) -> str:
        config = {key: value for key, value in _config(width).items() if key not in spec}
        return str(vl_convert.vegalite_to_svg(spec, config=config, allowed_base_urls=[]))

    try:
        try:
            return convert(spec)
        except ValueError:
            return convert(_mapped(spec, lambda text: _BEYOND_16_BITS.sub("▯", text)))
    except ValueError as error:
        lines = [line for line in str(error).splitlines() if not line.startswith("    at ")]
        raise DrawingRefused(f"its specification cannot be drawn ({' '.join(lines)[:300]})") from error


def _svg(spec: dict[str, Any], width: int, identifiers: str, alternative: str) -> Markup:
    svg = _converted(spec, width)
    markup = rebuild(svg, identifiers=identifiers, colours=THEME)
    if len(markup) > MOST_BYTES:
        raise DrawingRefused(
            f"the drawing has {len(markup):,} bytes, more than {MOST_BYTES:,}; thin its data"
        )
    label = Markup('<svg role="img" aria-label="{}"').format(alternative)
    return Markup(markup.replace("<svg", label, 1))


def _checked(spec: dict[str, Any]) -> dict[str, Any]:
    """``spec`` without control characters and background, once it is known to load nothing and to be of a fair size."""
    records = _count_records(spec)
    if records > MOST_RECORDS:
        raise DrawingRefused(
            f"it has {records:,} records, more than {MOST_RECORDS:,}; bin or thin them first, as "
            "dosimeter.core.figures does"
        )
    # vl-convert ends the whole process on characters that XML cannot hold.
    clean = {key: value for key, value in _mapped(spec, clean_text).items() if key != "background"}
    if isinstance(clean.get("config"), dict):
        clean["config"] = {key: value for key, value in clean["config"].items() if key != "background"}
    return clean


def _count_records(node: Any) -> int:
    """Records of all data inside ``node``; refuses data and images from elsewhere."""
    if isinstance(node, list):
        return sum(map(_count_records, node))
    if not isinstance(node, dict):
        return 0
    count = 0
    for key, value in node.items():
        if key == "url" and isinstance(value, str):
            raise DrawingRefused(f"it loads '{value[:60]}'; figures must hold their data themselves")
        if key == "values" and isinstance(value, list):
            count += len(value)
        elif key == "datasets" and isinstance(value, dict):
            count += sum(len(records) for records in value.values() if isinstance(records, list))
        else:
            count += _count_records(value)
    return count


def _mapped(node: Any, change: Callable[[str], str]) -> Any:
    """``node`` with ``change`` applied to every string in it, keys included."""
    if isinstance(node, str):
        return change(node)
    if isinstance(node, list | tuple):
        return [_mapped(item, change) for item in node]
    if isinstance(node, dict):
        return {_mapped(key, change): _mapped(value, change) for key, value in node.items()}
    return node


def _config(width: int) -> dict[str, Any]:
    narrow = width < WIDE
    return {
        "aria": False,
        "background": None,
        "font": "Liberation Sans",
        "padding": {"left": 2, "top": 4, "right": 6, "bottom": 4},
        "view": {"stroke": None},
        "mark": {"color": SERIES[0]},
        "text": {"color": INK, "fontSize": 12},
        "axis": {
            "labelColor": MUTED,
            "titleColor": MUTED,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 10,
            "labelPadding": 6,
            "labelLimit": 104 if narrow else 220,
            "gridColor": _GRID,
            "domainColor": _AXIS,
            "tickColor": _AXIS,
        },
        "axisQuantitative": {"tickCount": 4 if narrow else 8},
        "legend": {
            "labelColor": INK,
            "titleColor": MUTED,
            "labelFontSize": 12,
            "labelLimit": 240,
            "symbolOpacity": 1,
            "symbolSize": 110,
            "columns": 1 if narrow else 4,
            "titleFontWeight": "normal",
        },
        "title": {"color": INK, "fontWeight": "normal"},
        "range": {"category": list(SERIES), "ordinal": list(RAMP), "ramp": list(RAMP), "heatmap": list(RAMP)},
    }
