"""What clients may send: every encoding of our own client, and hostile records by the words they are refused with."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dosimeter.server.inputs import InputReader, read_object
from dosimeter.server.refusals import Refusal
from dosimeter.server.spec import ServerSettings
from dosimeter.targets.http_payload import encode_record

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
SETTINGS = ServerSettings(max_batch=4, max_image_side=64, max_image_pixels=5000, max_text_characters=10)


def reader(modality: str) -> InputReader:
    return InputReader(modality, SETTINGS)


def picture(image: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return base64.b64encode(buffer.getvalue()).decode()


def bomb(width: int, height: int) -> str:
    """A PNG of a few bytes that claims ``width`` x ``height`` pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    ).decode()


@pytest.mark.parametrize("encoding", ["png-base64", "data-url", "nested-list"])
def test_images_of_our_client_come_back_as_they_were(encoding):
    body = json.dumps({"inputs": [encode_record(PIXELS, encoding)]}).encode()
    [image] = reader("image").records(read_object(body)["inputs"], key="inputs")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PIXELS)


def test_jpeg_webp_grey_and_palette_are_read():
    grey = Image.fromarray(PIXELS[..., 0])
    [image] = reader("image").records([picture(grey)], key="inputs")
    np.testing.assert_array_equal(image, np.repeat(PIXELS[..., :1], 3, axis=2))
    for kind in ("JPEG", "WEBP"):
        [image] = reader("image").records([picture(Image.fromarray(PIXELS), kind)], key="inputs")
        assert image.shape == PIXELS.shape


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_rows_keep_every_bit(row):
    [read] = reader("table").records(read_object(json.dumps({"x": [row]}).encode())["x"], key="x")
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read.view(np.uint64), np.array(row).view(np.uint64))


def test_one_record_may_stand_alone_where_that_is_allowed():
    assert reader("text").records("hello", key="input", one=True) == ["hello"]
    [row] = reader("table").records([1, 2.5], key="input", one=True)
    np.testing.assert_array_equal(row, [1.0, 2.5])
    with pytest.raises(Refusal, match="'inputs' must be a list of texts, not a text"):
        reader("text").records("hello", key="inputs")


@pytest.mark.parametrize(
    ("modality", "value", "match"),
    [
        ("text", [], "'inputs' must hold at least one record"),
        ("text", {}, "'inputs' must be a list of texts, not an object"),
        ("text", None, "'inputs' must be a list of texts, not null"),
        ("text", ["a", 3], r"'inputs\[1\]' must be a text, not a number"),
        ("text", ["a", None], r"'inputs\[1\]' must be a text, not null"),
        ("text", ["a" * 11], r"'inputs\[0\]' has 11 characters, and a text may have 10"),
        ("table", [[1, "x"]], r"'inputs\[0\]\[1\]' must be a number, not a text"),
        ("table", [[1, True]], r"'inputs\[0\]\[1\]' must be a number, not true or false"),
        ("table", [[1], []], r"'inputs\[1\]' must be a list of numbers, not an empty list"),
        ("table", [[[1]]], r"'inputs\[0\]\[0\]' must be a number, not a list"),
        ("table", [[10**400]], r"'inputs\[0\]' has a number that is too large"),
        ("table", [[float("inf")]], r"'inputs\[0\]' to be finite, but 1 values are NaN or infinite"),
        ("table", [[float("nan"), 1]], r"'inputs\[0\]' to be finite"),
        ("image", [7], r"'inputs\[0\]' must be a base64 picture or nested lists of pixels, not a number"),
        ("image", ["%%%"], r"'inputs\[0\]' is not base64"),
        ("image", ["é"], r"'inputs\[0\]' is not base64"),
        ("image", [""], r"'inputs\[0\]' is not a PNG, JPEG or WebP picture"),
        ("image", ["aGVsbG8="], r"'inputs\[0\]' is not a PNG, JPEG or WebP picture"),
        ("image", [bomb(60_000, 60_000)], "claims too many pixels; no side may be longer than 64"),
        ("image", [bomb(65, 3)], "65 x 3 pixels, and no side may be longer than 64"),
        ("image", [bomb(60, 60)] * 2, r"cannot read 'inputs\[0\]' as a PNG"),
        ("image", [picture(Image.fromarray(PIXELS))[:-80]], r"cannot read 'inputs\[0\]' as a PNG"),
        ("image", [picture(Image.new("I;16", (4, 4)))], "have more than 8 bits"),
        ("image", [picture(Image.fromarray(PIXELS), "GIF")], r"'inputs\[0\]' is not a PNG, JPEG or WebP"),
        ("image", [picture(Image.new("RGB", (50, 60)))] * 2, "more than 5000 pixels together"),
        ("image", [[[[1, 2, 3], [1, 2]]]], "rows and channels of equal length"),
        ("image", [[[[1, 2]] * 2] * 2], "1 or 3 channels"),
        ("image", [[1, 2, 3]], r"must be an image of shape \(height, width, 3\), but its shape is \(3,\)"),
        ("image", [[]], "must be an image of shape"),
        ("image", [[[["a", "b", "c"]]]], "to be images of shape"),
        ("image", [[[[256, 0, 0]]]], r"in 0..255, but got values in 0..256"),
        ("image", [[[[1.5, 0, 0]]]], r"in 0..1, but got values in 0..1.5"),
        ("image", [np.zeros((65, 2, 3)).astype(int).tolist()], "2 x 65 pixels"),
    ],
)
def test_what_cannot_be_used_is_said(modality, value, match):
    with pytest.raises(Refusal, match=match) as caught:
        reader(modality).records(value, key="inputs")
    assert caught.value.status == 422
    assert caught.value.message.endswith(".") and "\n" not in caught.value.message


def test_too_many_records_are_a_413():
    with pytest.raises(
        Refusal, match="holds 5 records, and one request may hold 4; send them in parts"
    ) as caught:
        reader("text").records(["a"] * 5, key="inputs")
    assert caught.value.status == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b"{} {}",
        b"{'a': 1}",
    ],
)
def test_what_is_no_json_is_a_400(body):
    with pytest.raises(Refusal, match=r"the request is not JSON: .* line ") as caught:
        read_object(body)
    assert caught.value.status == 400 and len(caught.value.message) < 200


def test_a_json_list_is_no_request():
    with pytest.raises(Refusal, match="must be a JSON object, not a list"):
        read_object(b"[1]")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=12))  # fmt: skip
def test_whatever_comes_is_read_or_refused(value):
    for modality in ("text", "table", "image"):
        for one in (True, False):
            try:
                records = reader(modality).records(value, key="inputs", one=one)
            except Refusal as refusal:
                assert refusal.status in (413, 422)
            else:
                assert records
