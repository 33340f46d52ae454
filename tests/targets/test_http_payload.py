"""Templates, paths and answers of JSON services, without a network."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.records import Prompt
from dosimeter.targets.http_payload import (
    check_template,
    decode_answers,
    encode_record,
    parse_path,
    read_path,
    request_body,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)


def body(template, batch, encoding="png-base64"):
    return json.loads(request_body(template, batch, encoding))


def decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def png(image: np.ndarray) -> str:
    return encode_record(image, "png-base64")


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("", ()),
        ("outputs", ("outputs",)),
        ("data[*].embedding", ("data", None, "embedding")),
        ("[0].label", (0, "label")),
        ("a.b-c[12][*]", ("a", "b-c", 12, None)),
    ],
)
def test_paths_are_parsed(path, steps):
    assert parse_path(path) == steps


@pytest.mark.parametrize("path", ["[", "a[x]", "a..b", ".a", "a.", "a]", "[-1]"])
def test_unreadable_paths_are_explained(path):
    with pytest.raises(InputError, match="is not understood at"):
        parse_path(path)


names = st.text(st.characters(exclude_characters=".[]", exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(st.lists(st.one_of(names, st.integers(0, 5), st.none()), max_size=6))
def test_parsing_inverts_writing(steps):
    text = "".join(
        "[*]" if step is None else f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps
    )
    assert parse_path(text.removeprefix(".")) == tuple(steps)


@given(st.text(max_size=12))
def test_any_text_parses_or_is_refused_with_a_reason(text):
    try:
        parse_path(text)
    except InputError as error:
        assert "is not understood" in str(error)


def test_paths_are_followed():
    document = {"data": [{"v": [1, 2]}, {"v": [3, 4]}]}
    assert read_path(document, parse_path("data[*].v")) == [[1, 2], [3, 4]]
    assert read_path(document, parse_path("data[1].v[0]")) == 3
    assert read_path(document, parse_path("data[*].v[*]")) == [[1, 2], [3, 4]]
    assert read_path(document, ()) is document


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("outputs", r"an object with 'outputs' at '\(top\)', but got an object with 'data'"),
        ("data[*].w", r"'w' at 'data\[0\]', but got an object with 'v'"),
        ("data[5]", "an element 5 at 'data', but got a list of 1"),
        ("data[0].v[*]", r"a list at 'data\[0\]\.v', but got 7"),
    ],
)
def test_missing_parts_are_named(path, match):
    with pytest.raises(TargetError, match=match):
        read_path({"data": [{"v": 7}]}, parse_path(path))


def test_a_batch_fills_the_template():
    template = {"inputs": "{{inputs}}", "parameters": {"top_k": 1}, "note": "as is"}
    sent = body(template, IMAGES)
    np.testing.assert_array_equal([decoded(text) for text in sent["inputs"]], IMAGES)
    assert sent["parameters"] == {"top_k": 1} and sent["note"] == "as is"
    assert body({"rows": "{{ inputs }}"}, np.array([[0.1, 2.0]])) == {"rows": [[0.1, 2.0]]}
    assert body(["{{inputs}}"], IMAGES, "nested-list") == [IMAGES.tolist()]


def test_one_record_may_stand_inside_a_text():
    assert body({"prompt": "Classify: {{input}}."}, ["{{input}} \ud800"]) == {
        "prompt": "Classify: {{input}} \ud800."
    }
    assert body({"image": "{{input}}"}, IMAGES[:1], "data-url")["image"].startswith("data:image/png;base64,")


def test_prompts_repeat_the_element_of_each_image():
    template = {"content": [{"type": "text", "text": "{{text}}"}, {"type": "image_url", "url": "{{image}}"}]}
    sent = body({"messages": [template]}, [Prompt("alike?", tuple(IMAGES[:2]))])
    content = sent["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "image_url"]
    np.testing.assert_array_equal([decoded(part["url"]) for part in content[1:]], IMAGES[:2])
    assert body({"q": "{{text}}", "images": "{{images}}"}, [Prompt("why", ())]) == {"q": "why", "images": []}


@pytest.mark.parametrize(
    ("template", "modality", "encoding", "match"),
    [
        ({"x": 1}, "text", "png-base64", "needs either .* but has neither"),
        (["{{input}}", "{{inputs}}"], "text", "png-base64", "but has both"),
        ({"x": "{{inptus}}"}, "text", "png-base64", r"has \{\{inptus\}\}; for text inputs it may have"),
        ({"x": "all: {{inputs}}"}, "text", "png-base64", "must be a whole string of its own"),
        ({"x": "row {{input}}"}, "table", "png-base64", "must be a whole string of its own"),
        ({"x": "a {{input}}"}, "image", "nested-list", "must be a whole string of its own"),
        ({"x": "{{images}}"}, "prompt", "png-base64", r"needs \{\{text\}\}"),
        ({"q": "{{text}}", "x": "{{image}}"}, "prompt", "png-base64", "must be inside a list"),
    ],
)
def test_templates_that_cannot_be_filled_are_refused(template, modality, encoding, match):
    with pytest.raises(InputError, match=match):
        check_template(template, modality, encoding)


@given(
    st.recursive(st.text() | st.integers() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_json_passes_or_is_refused(template):
    try:
        check_template(template, "text", "png-base64")
    except InputError:
        return
    request_body(template, ["text"], "png-base64")


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(floats, min_size=2, max_size=2), min_size=1, max_size=5))
def test_single_precision_survives_json_bit_for_bit(rows):
    numbers = np.array(rows, dtype=np.float32)
    through = decode_answers(json.loads(json.dumps(numbers.tolist())), "embedding", (), "float32")
    shortest = decode_answers([[float(str(x)) for x in row] for row in numbers], "embedding", (), "float32")
    assert through.dtype == np.float32
    np.testing.assert_array_equal(through, numbers)
    np.testing.assert_array_equal(shortest, numbers)


def test_answers_are_decoded():
    def decode(values, returns, classes=(), dtype="float32"):
        return decode_answers(values, returns, classes, dtype)

    np.testing.assert_array_equal(decode([1, 2.0], "label"), [1, 2])
    np.testing.assert_array_equal(decode(["dog", "cat"], "label", ("cat", "dog")), [1, 0])
    assert decode([[0.1, 0.9]], "scores", dtype="float64").dtype == np.float64
    by_name = [{"b": 0.75, "a": 0.25}]
    ranked = [[{"label": "b", "score": 0.75}, {"label": "a", "score": 0.25}]]
    np.testing.assert_array_equal(decode(by_name, "scores", ("a", "b")), [[0.25, 0.75]])
    np.testing.assert_array_equal(decode(ranked, "scores", ("a", "b")), [[0.25, 0.75]])
    assert decode([[[1, 2], [3, 4]]], "embedding").shape == (1, 4)
    assert decode(["yes"], "text") == ["yes"]
    np.testing.assert_array_equal(decode([png(image) for image in IMAGES], "image", (), "float32"), IMAGES)
    several = decode([[png(IMAGES[0]), "data:image/png;base64," + png(IMAGES[1])]], "image")
    np.testing.assert_array_equal(several, IMAGES[None, :2])
    np.testing.assert_array_equal(decode([IMAGES[0].tolist()], "image"), IMAGES[:1])


@pytest.mark.parametrize(
    ("values", "returns", "match"),
    [
        (["cat"], "label", "label 'cat' is a name, and no classes are given"),
        ([1.5], "label", "whole number or a class name"),
        ([True], "label", "whole number or a class name"),
        ([float("nan")], "label", "whole number or a class name"),
        ([[1.0, None]], "embedding", "expected finite numbers, but 1 of 2"),
        ([[1.0, float("nan")]], "embedding", "1 of 2 are NaN or infinite"),
        ([[1.0, "x"]], "scores", "expected a list of numbers as answer 0"),
        ([[1.0], [1.0, 2.0]], "scores", r"one shape, but got shapes \(1,\) and \(2,\)"),
        ([{"a": 1.0}], "scores", "scores are given for a, but the classes are not given"),
        ([3], "text", "expected text as answer 0, but got 3"),
        (["!!"], "image", "expected a base64 PNG"),
        (["AAAA"], "image", "expected a base64 PNG"),
        ([{}], "image", "expected a base64 image or nested lists"),
    ],
)
def test_answers_of_another_kind_are_explained(values, returns, match):
    with pytest.raises(TargetError, match=match):
        decode_answers(values, returns, (), "float32")
