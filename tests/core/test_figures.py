import base64
import io

import altair
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from dosimeter.core import figures
from dosimeter.core.figures.palette import ON_RAMP, RAMP, SERIES

BARS = [
    {"label": "a", "value": 0.5, "low": 0.4, "high": 0.6, "group": "one"},
    {"label": "b", "value": None, "group": "two"},
]
CURVE = {"curve": (np.arange(5), np.arange(5) ** 2)}
POINTS = [
    {"label": "a", "x": 0.1, "y": 0.4, "x_low": 0.0, "x_high": 0.2, "y_low": 0.3, "y_high": 0.5},
    {"label": "b", "x": -0.1, "y": 0.2},
]
PICTURE = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)

BUILT = {
    "interval_bars": figures.interval_bars(
        "n", "t", "c", BARS, x_title="x", reference_lines=[{"value": 0.3, "label": "bound"}]
    ),
    "heatmap": figures.heatmap(
        "n", "t", "c", rows=["a", "b"], columns=["x", "y"], values=[[0, 1], [np.nan, 0.5]]
    ),
    "line": figures.line("n", "t", "c", CURVE, x_title="x", y_title="y", diagonal=True),
    "histogram": figures.histogram("n", "t", "c", {"all": [1.0, 2.0, 2.0]}, x_title="x"),
    "ecdf": figures.ecdf("n", "t", "c", {"all": [3.0, 1.0, 2.0]}, x_title="x"),
    "image_strip": figures.image_strip("n", "t", "c", [{"label": "row", "images": [PICTURE]}]),
    "scatter": figures.scatter("n", "t", "c", POINTS, x_title="x", y_title="y", diagonal="above"),
}


@pytest.mark.parametrize("name", BUILT)
def test_specification_is_valid_vega_lite(name):
    altair.Chart.from_dict(BUILT[name].spec)


def rows_of(figure):
    return figure.spec["data"]["values"]


def test_bars_keep_order_values_and_missing_ones():
    rows = rows_of(BUILT["interval_bars"])
    assert [row["label"] for row in rows] == ["a", "b"]
    assert (rows[0]["low"], rows[0]["value"], rows[0]["high"]) == (0.4, 0.5, 0.6)
    assert (rows[1]["value"], rows[1]["text"]) == (None, "no value")


def test_heatmap_colours_rise_with_values_and_text_stays_readable():
    grid = np.linspace(0, 1, 14).reshape(2, 7)
    rows = rows_of(figures.heatmap("n", "t", "c", rows=["a", "b"], columns=list("1234567"), values=grid))
    steps = [RAMP.index(row["fill"]) for row in rows]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, len(RAMP) - 1)
    assert [row["ink"] for row in rows] == [ON_RAMP[step > 3] for step in steps]
    np.testing.assert_allclose([row["value"] for row in rows], grid.ravel())


def test_heatmap_of_equal_or_missing_values_is_drawn():
    for values in ([[0.5, 0.5]], [[np.nan, np.nan]]):
        assert (
            len(rows_of(figures.heatmap("n", "t", "c", rows=["a"], columns=["x", "y"], values=values))) == 2
        )


def test_logarithmic_axes_show_zeros_at_their_edge():
    fpr, tpr = np.array([0.0, 0.001, 1.0]), np.array([0.0, 0.2, 1.0])
    figure = figures.line(
        "n", "t", "c", {"roc": (fpr, tpr)}, x_title="x", y_title="y", x_scale="log", y_scale="log"
    )
    assert [(row["x"], row["y"]) for row in rows_of(figure)] == [(0.001, 0.2), (0.001, 0.2), (1.0, 1.0)]


def test_histogram_of_a_million_values_is_small_and_sums_to_one():
    values = np.random.default_rng(0).normal(size=1_000_000)
    rows = rows_of(figures.histogram("n", "t", "c", {"all": values}, x_title="x", bins=60))
    assert len(rows) <= 400
    shares, edges = np.histogram(values, bins=60)
    np.testing.assert_allclose([row["y"] for row in rows[:60]], shares / values.size, rtol=1e-5)
    np.testing.assert_allclose([row["x"] for row in rows[:60]], edges[:-1], rtol=1e-5)


def test_ecdf_of_a_million_values_keeps_extremes_and_lies_on_the_full_curve():
    values = np.random.default_rng(1).lognormal(size=1_000_000)
    rows = rows_of(figures.ecdf("n", "t", "c", {"all": values}, x_title="x"))
    x, y = np.array([row["x"] for row in rows]), np.array([row["y"] for row in rows])
    assert len(rows) <= 400
    np.testing.assert_allclose([x[0], x[-1], y[-1]], [values.min(), values.max(), 1.0], rtol=1e-5)
    np.testing.assert_allclose(y, np.searchsorted(np.sort(values), x * (1 + 1e-5)) / values.size, atol=1e-4)


def test_more_curves_than_colours_go_round():
    many = {f"curve {number}": ([0, 1], [0, number]) for number in range(8)}
    colour = figures.line("n", "t", "c", many, x_title="x", y_title="y").spec["layer"][0]["encoding"]["color"]
    assert colour["scale"]["range"] == [*SERIES, *SERIES[:2]]


def test_points_keep_place_and_interval_under_axes_of_one_range():
    spec = BUILT["scatter"].spec
    assert [(row["label"], row["x"], row["y"], row["x_low"]) for row in rows_of(BUILT["scatter"])] == [
        ("a", 0.1, 0.4, 0.0),
        ("b", -0.1, 0.2, None),
    ]
    encoding = spec["layer"][-1]["encoding"]
    low, high = encoding["x"]["scale"]["domain"]
    assert encoding["y"]["scale"]["domain"] == [low, high]
    assert low < -0.1
    assert high > 0.5
    assert spec["layer"][0]["data"]["values"] == [{"x": low, "y": low}, {"x": high, "y": high}]


def test_thirty_names_differ_in_shape_or_colour():
    points = [{"label": str(number), "x": 0, "y": number} for number in range(30)]
    encoding = figures.scatter("n", "t", "c", points, x_title="x", y_title="y").spec["layer"][-1]["encoding"]
    looks = zip(encoding["color"]["scale"]["range"], encoding["shape"]["scale"]["range"])
    assert len(set(looks)) == 30


def test_images_are_embedded_pixel_for_pixel():
    uri = rows_of(BUILT["image_strip"])[0]["url"]
    assert uri.startswith("data:image/png;base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    np.testing.assert_array_equal(np.asarray(picture), PICTURE)


def test_large_images_are_shrunk():
    figure = figures.image_strip("n", "t", "c", [{"label": "r", "images": [np.zeros((500, 250), np.uint8)]}])
    picture = Image.open(io.BytesIO(base64.b64decode(rows_of(figure)[0]["url"].partition(",")[2])))
    assert picture.size == (48, 96)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: figures.interval_bars("f", "t", "c", [], x_title="x"), "distinct labels"),
        (lambda: figures.interval_bars("f", "t", "c", BARS * 2, x_title="x"), "distinct labels"),
        (
            lambda: figures.interval_bars("f", "t", "c", [{"label": "a", "value": np.nan}], x_title="x"),
            "value nan",
        ),
        (lambda: figures.heatmap("f", "t", "c", rows=["a"], columns=["x"], values=[[1, 2]]), r"\(1, 1\)"),
        (lambda: figures.heatmap("f", "t", "c", rows=["a"], columns=["x"], values=[[np.inf]]), "infinite"),
        (lambda: figures.line("f", "t", "c", {}, x_title="x", y_title="y"), "needs curves"),
        (lambda: figures.line("f", "t", "c", {"a": ([1], [1, 2])}, x_title="x", y_title="y"), "as many x"),
        (lambda: figures.line("f", "t", "c", {"a": ([np.nan], [1])}, x_title="x", y_title="y"), "finite"),
        (
            lambda: figures.line("f", "t", "c", {"a": ([0], [1])}, x_title="x", y_title="y", x_scale="log"),
            "logarithmic",
        ),
        (lambda: figures.histogram("f", "t", "c", {"a": []}, x_title="x"), "finite values for 'a'"),
        (lambda: figures.ecdf("f", "t", "c", {"a": [np.inf]}, x_title="x"), "finite values for 'a'"),
        (lambda: figures.image_strip("f", "t", "c", []), "1 to 240 images"),
        (
            lambda: figures.image_strip("f", "t", "c", [{"label": "r", "images": [PICTURE / 255]}]),
            "uint8 images",
        ),
        (lambda: figures.scatter("f", "t", "c", [], x_title="x", y_title="y"), "at least one point"),
        (
            lambda: figures.scatter(
                "f", "t", "c", [{"label": "a", "x": np.nan, "y": 0}], x_title="x", y_title="y"
            ),
            "value nan for 'a'",
        ),
        (
            lambda: figures.scatter(
                "f", "t", "c", [{"label": "a", "x": 0, "y": 0, "x_low": 0}], x_title="x", y_title="y"
            ),
            "half an interval for 'a'",
        ),
        (lambda: figures.thin([0, 1], [0]), "equal lengths"),
        (lambda: figures.thin([0, 1], [0, 1], log_x=True), "above 0"),
        (lambda: figures.thin([0, 1], [0, 1], most=3), "at least 4"),
    ],
)
def test_misuse_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@given(arrays(np.float64, st.integers(0, 900), elements=st.floats(-1e6, 1e6)), st.integers(4, 200))
def test_thinning_keeps_ends_extremes_and_order(y, most):
    kept = figures.thin(np.arange(y.size), y, most=most)
    assert len(kept) <= max(most, 0)
    assert (np.diff(kept) > 0).all()
    if y.size:
        assert (kept[0], kept[-1]) == (0, y.size - 1)
        assert (y[kept].min(), y[kept].max()) == (y.min(), y.max())


def test_thinning_spreads_over_a_logarithmic_axis():
    x = np.linspace(1e-6, 1, 1_000_000)
    kept = figures.thin(x, np.sqrt(x), log_x=True, log_y=True)
    decades = np.histogram(np.log10(x[kept]), bins=np.arange(-5, 1))[0]
    assert decades.min() >= 20
    assert len(kept) <= 400
