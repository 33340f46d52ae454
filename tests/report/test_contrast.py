"""Contrast of the style sheet's colours in both themes, as WCAG 2.2 computes it: 4.5 for text, 3 for parts of figures."""

import re
from importlib.resources import files

import pytest

from dosimeter.core.figures.palette import INK, MUTED, NO_VALUE, ON_RAMP, RAMP, SERIES
from dosimeter.report.figures import THEME

CSS = files("dosimeter.report").joinpath("templates", "report.css").read_text(encoding="utf-8")


def variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


LIGHT = variables(CSS.split("@media screen and (prefers-color-scheme: dark)")[0])
DARK = variables(re.search(r"prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", CSS, re.DOTALL)[1])
THEMES = {"light": LIGHT, "dark": DARK}


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted([luminance(one), luminance(other)], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_reference_values():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", THEMES)
def test_text(theme):
    colours = THEMES[theme]
    pairs = [(text, ground) for text in ("ink", "muted", "link") for ground in ("page", "panel")]
    pairs += [(verdict, f"{verdict}-tint") for verdict in ("pass", "fail", "undetermined", "error")]
    pairs += [("on-low", f"ramp-{step}") for step in range(1, 5)]
    pairs += [("on-high", f"ramp-{step}") for step in range(5, 8)]
    pairs += [("on-low", "no-value")]
    assert {pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in pairs if
            contrast(colours[pair[0]], colours[pair[1]]) < 4.5} == {}  # fmt: skip


@pytest.mark.parametrize("theme", THEMES)
def test_parts_of_figures(theme):
    colours = THEMES[theme]
    parts = [*(f"series-{number}" for number in range(1, 7)), "axis"]
    assert [part for part in parts if contrast(colours[part], colours["page"]) < 3] == []


def test_both_themes_have_the_same_colours():
    assert set(LIGHT) == set(DARK)


def test_the_palette_is_the_light_theme():
    for colour in (*SERIES, *RAMP, *ON_RAMP, NO_VALUE, INK, MUTED):
        assert LIGHT[THEME[colour].removeprefix("var(--").removesuffix(")")] == colour
    assert {variable.removeprefix("var(--").removesuffix(")") for variable in THEME.values()} <= set(LIGHT)
