import re

import altair
import numpy as np
import pytest

from dosimeter.core import figures
from dosimeter.core.figures.palette import INK, MUTED, NO_VALUE, ON_RAMP, RAMP, SERIES
from dosimeter.core.result import Figure
from dosimeter.report.figures import THEME, draw
from dosimeter.report.svg import DrawingRefused


def chart(**changes) -> Figure:
    spec = {
        "data": {"values": [{"a": "one", "b": 1}, {"a": "two", "b": 2}]},
        "mark": "bar",
        "encoding": {"x": {"field": "b", "type": "quantitative"}, "y": {"field": "a", "type": "nominal"}},
    }
    return Figure(name="n", title="Title <b>", caption='Said "so".', spec=spec | changes)


def test_no_colour_of_the_palette_is_written_as_it_is():
    drawn = [
        draw(figure, identifiers="f")
        for figure in (
            figures.interval_bars(
                "n", "t", "c", [{"label": "a", "value": 1.0, "low": 0.5, "high": 1.5}], x_title="x",
                reference_lines=[{"value": 1.2, "label": "bound"}],
            ),
            figures.heatmap("n", "t", "c", rows=["a"], columns=list("xyz"), values=[[0, 1, np.nan]]),
            figures.line("n", "t", "c", {"a": ([0, 1], [0, 1]), "b": ([0, 1], [1, 0])}, x_title="x", y_title="y"),
        )
    ]  # fmt: skip
    for drawing in drawn:
        for svg in (drawing.wide, drawing.narrow):
            colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg))
            assert colours <= {"none", "transparent", *THEME.values()}


def test_every_colour_of_the_palette_has_a_variable():
    assert {*SERIES, *RAMP, *ON_RAMP, NO_VALUE, INK, MUTED} <= set(THEME)
    own = [THEME[colour] for colour in (*SERIES, *RAMP, *ON_RAMP, NO_VALUE, INK, MUTED)]
    assert len(set(own)) == len(own)


def test_alternative_text_is_title_and_caption_escaped():
    svg = draw(chart(), identifiers="f").wide
    assert svg.startswith('<svg role="img" aria-label="Title &lt;b&gt;. Said &#34;so&#34;."')


def test_container_width_is_drawn_wide_and_narrow():
    drawing = draw(chart(width="container"), identifiers="f")
    assert ' width="816"' in drawing.wide
    assert ' width="328"' in drawing.narrow
    assert draw(chart(), identifiers="f").narrow is None


def test_drawing_twice_gives_the_same_markup():
    figure = chart(mark={"type": "bar", "clip": True})
    first = draw(figure, identifiers="f")
    assert "clip-path" in first.wide
    assert draw(figure, identifiers="f") == first


def test_backgrounds_of_the_specification_give_way_to_the_page():
    svg = draw(chart(background="white", config={"background": "#fff"}), identifiers="f").wide
    assert "white" not in svg
    assert "#fff" not in svg


@pytest.mark.parametrize(
    "text", ["control \x00\x01\x1b", "half \ud83d", "not a character \uffff", "😀" * 80, "A" * 30 + "😀" * 60]
)
def test_texts_that_break_the_converter_are_drawn(text):
    svg = draw(chart(data={"values": [{"a": text, "b": 1}]}), identifiers="f").wide
    assert "<text" in svg
    assert not re.search("[\x00-\x08\x1b\ud800-\udfff\uffff]", svg)


def test_altair_charts_with_named_data_are_drawn():
    source = altair.Chart(altair.Data(values=[{"a": 1, "b": 2}])).mark_point().encode(x="a:Q", y="b:Q")
    assert (
        "<path" in draw(Figure(name="n", title="t", caption="c", spec=source.to_dict()), identifiers="f").wide
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"url": "https://example.org/x.csv"}}, "loads 'https://example.org/x.csv'"),
        ({"data": {"url": "/etc/passwd"}}, "loads '/etc/passwd'"),
        ({"mark": {"type": "image", "url": "https://example.org/x.png"}}, "hold their data"),
        (
            {
                "data": {"values": [{"u": "https://example.org/x.png"}]},
                "mark": "image",
                "encoding": {"url": {"field": "u"}},
            },
            "only images inside it",
        ),
        ({"data": {"values": [{"a": 1}] * 20_001}}, "20,001 records"),
        ({"datasets": {"d": [{"a": 1}] * 20_001}, "data": {"name": "d"}}, "20,001 records"),
        ({"mark": "nonsense"}, "cannot be drawn"),
        (
            {"mark": "text", "encoding": {"text": {"value": "x"}, "href": {"value": "javascript:alert(1)"}}},
            "drawn",
        ),
    ],
)
def test_specifications_that_load_or_are_too_large_or_broken_are_refused(changes, message):
    with pytest.raises(DrawingRefused, match=message):
        draw(chart(**changes), identifiers="f")


def test_drawings_that_are_too_large_are_refused():
    points = [{"a": str(index % 50), "b": index} for index in range(20_000)]
    with pytest.raises(DrawingRefused, match="more than 1,000,000"):
        draw(chart(data={"values": points}, mark="point"), identifiers="f")
