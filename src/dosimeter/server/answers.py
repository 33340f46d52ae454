"""From a target's answers to the JSON of a response. Numbers keep every bit: each is written with the digits that
bring the same float32 or float64 back.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from pydantic_core import to_json

from dosimeter.core.access import Returns

FIELDS: dict[str, str] = {
    "embedding": "embeddings",
    "scores": "scores",
    "label": "labels",
    "text": "texts",
}
"""Where a plain response holds the answers, by kind of answer."""


def plain(name: str, returns: Returns, answers: Any) -> bytes:
    """``{"model", "embeddings": [[...], ...], "dtype"}``, with the field of :data:`FIELDS`; texts have no dtype."""
    if isinstance(answers, np.ndarray):
        return to_json({"model": name, FIELDS[returns]: answers.tolist(), "dtype": str(answers.dtype)})
    return to_json({"model": name, FIELDS[returns]: answers})


def openai(name: str, embeddings: np.ndarray, encoding_format: str) -> bytes:
    """An OpenAI list of embeddings; ``base64`` holds little-endian float32.

    A service here counts records, not tokens, so both token counts in ``usage`` are the number of records.
    """
    vectors: list[Any]
    if encoding_format == "base64":
        vectors = [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in embeddings]
    else:
        vectors = embeddings.tolist()
    n = len(vectors)
    return to_json(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(vectors)
            ],
            "model": name,
            "usage": {"prompt_tokens": n, "total_tokens": n},
        }
    )
