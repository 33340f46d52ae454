"""Numbers come back with every bit, and OpenAI's shape is OpenAI's."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dosimeter.server.answers import openai, plain


@pytest.mark.parametrize(("dtype", "bits"), [("float32", "uint32"), ("float64", "uint64")])
@given(data=st.data())
def test_every_bit_comes_back(dtype, bits, data):
    width = np.dtype(bits).itemsize * 8
    patterns = data.draw(st.lists(st.integers(0, 2**width - 1), min_size=1, max_size=20))
    values = np.array(patterns, dtype=bits).view(dtype)
    values = values[np.isfinite(values)][None]
    document = json.loads(plain("m", "embedding", values))
    assert document["dtype"] == dtype
    np.testing.assert_array_equal(np.array(document["embeddings"], dtype=dtype).view(bits), values.view(bits))
    if dtype == "float32":
        [item] = json.loads(openai("m", values, "base64"))["data"]
        read = np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
        np.testing.assert_array_equal(read.view(bits), values[0].view(bits))


@pytest.mark.parametrize("returns", ["label", "scores", "text"])
def test_other_answers(returns):
    answers = {"label": np.array([3, 1]), "scores": np.array([[0.5, 0.5]] * 2), "text": ["a", "é"]}[returns]
    document = json.loads(plain("m", returns, answers))
    expected = answers if returns == "text" else answers.tolist()
    assert document[{"label": "labels", "scores": "scores", "text": "texts"}[returns]] == expected


def test_the_documented_shape_of_openai():
    document = json.loads(openai("m", np.array([[1, 2], [3, 4]], dtype=np.float32), "float"))
    assert document == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0, 2.0]},
            {"object": "embedding", "index": 1, "embedding": [3.0, 4.0]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
