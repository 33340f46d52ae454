import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dosimeter.report.wording import (
    bytes_text,
    cell_text,
    clean_text,
    counted,
    date_text,
    listed,
    number_text,
    seconds_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-3.0, "-3"), (9999, "9999"), (10_000, "10,000"), (0.123456, "0.1235"), (12345.67, "12,346"),
     (3.214e-05, "3.214e-05"), (1e20, "1e+20"), (-0.0, "0")],
)  # fmt: skip
def test_numbers(value, text):
    assert number_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_numbers_are_right_to_four_digits(value):
    assert float(number_text(value).replace(",", "")) == pytest.approx(value, rel=5.1e-4, abs=0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (math.nan, "–"), (math.inf, "–"), (True, "yes"), (False, "no"), (2.5, "2.5"), ("x", "x"),
     (["a", 1], '["a", 1]'), (10**400, "1" + "0" * 400)],
)  # fmt: skip
def test_cells(value, text):
    assert cell_text(value) == text


def test_long_cells_say_what_is_left_out():
    assert cell_text("x" * 3500) == "x" * 1000 + "… (2,500 more characters in report.json)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4231, "0.42 s"),
        (37.6, "38 s"),
        (59.7, "60 s"),
        (725, "12 min 5 s"),
        (1800, "30 min"),
        (12_000, "3 h 20 min"),
        (7200, "2 h"),
    ],
)
def test_durations(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (999_999, "1 MB"), (1_482_113, "1.48 MB"), (10**15, "1,000 TB")],
)
def test_sizes(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("stamp", "text"),
    [
        ("2026-03-14T10:22:05Z", "14 March 2026, 10:22 UTC"),
        ("2026-03-14T10:22:05+02:00", "14 March 2026, 08:22 UTC"),
        ("2026-03-14T10:22:05", "14 March 2026, 10:22 UTC"),
        ("yesterday", "yesterday"),
        ("", ""),
    ],
)
def test_dates(stamp, text):
    assert date_text(stamp) == text


def test_lists_and_counts():
    assert [listed(list(items)) for items in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert [counted(1, "query"), counted(12_000, "query"), counted(2, "row")] == [
        "1 query",
        "12,000 queries",
        "2 rows",
    ]


@given(st.text(st.characters()))
def test_cleaned_text_fits_xml_and_utf8(text):
    from xml.etree import ElementTree
    from xml.sax.saxutils import escape

    cleaned = clean_text(text)
    assert len(cleaned) == len(text)
    cleaned.encode()
    ElementTree.fromstring(f"<a>{escape(cleaned)}</a>")


def test_cleaning_keeps_every_script_and_removes_overrides():
    assert clean_text("é 😀 مرحبا\n\t日本") == "é 😀 مرحبا\n\t日本"
    assert clean_text("\u202egnp.exe\u2066") == "\ufffdgnp.exe\ufffd"
