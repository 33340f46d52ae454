"""Small character-level text encoders: a bag of n-grams, a convolutional and a recurrent one.

They read Unicode text as hashed characters, so that any string has an embedding and nothing needs a vocabulary file.
Padding never changes an embedding (up to float32 rounding).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.core.records import content_hash
from dosimeter.core.target import CallableTarget
from dosimeter.models.networks import initial_weights

SYMBOLS = 256
"""Hashed characters; 0 is padding."""


def encode_characters(texts: Sequence[str], length: int = 128) -> Tensor:
    """(n, t) int64 hashed characters of the lower-cased ``texts``, cut to ``length``; t is the longest, at least 1."""
    codes = [
        np.frombuffer(text.lower()[:length].encode("utf-32-le", "surrogatepass"), dtype="<u4") % (SYMBOLS - 1)
        + 1
        for text in texts
    ]
    table = np.zeros((len(codes), max([1, *map(len, codes)])), dtype=np.int64)
    for row, code in enumerate(codes):
        table[row, : len(code)] = code
    return torch.from_numpy(table)


class CharacterEncoder(nn.Module):
    """Hashed characters (n, t) -> embeddings (n, embedding_dim).

    ``bag``: mean of embedded character trigrams; ``cnn``: two convolutions of width 3 and 5; ``gru``: one recurrent
    layer. All are pooled by the mean over characters and projected.
    """

    def __init__(
        self, kind: Literal["bag", "cnn", "gru"], *, width: int = 64, embedding_dim: int = 64, seed: int
    ) -> None:
        super().__init__()
        self.kind, self.embedding_dim = kind, embedding_dim
        with initial_weights(seed, "character-encoder", kind):
            self.symbols = nn.Embedding(SYMBOLS, width if kind != "bag" else 32, padding_idx=0)
            if kind == "bag":
                self.mixing = nn.Conv1d(32, width, 3, padding=1)
            elif kind == "cnn":
                self.first = nn.Conv1d(width, width, 3, padding=1)
                self.second = nn.Conv1d(width, width, 5, padding=2)
            else:
                self.recurrent = nn.GRU(width, width, batch_first=True)
            self.projection = nn.Linear(width, embedding_dim)

    def forward(self, codes: Tensor) -> Tensor:
        mask = (codes > 0).unsqueeze(2).float()
        states = self._states(self.symbols(codes), mask)
        pooled = (states * mask).sum(1) / mask.sum(1).clamp_min(1)
        return self.projection(pooled)

    def _states(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.kind == "gru":
            return self.recurrent(x)[0]
        x = x.transpose(1, 2)
        if self.kind == "bag":
            return torch.relu(self.mixing(x)).transpose(1, 2)
        # What lies beyond the end is cleared, so that the second layer sees the same whatever the padding.
        hidden = torch.relu(self.first(x)) * mask.transpose(1, 2)
        return torch.relu(self.second(hidden)).transpose(1, 2)


def embedding_target(encoder: CharacterEncoder, name: str) -> CallableTarget:
    """``encoder`` as a target that takes text and returns embeddings."""
    state = [tensor.numpy() for tensor in encoder.eval().state_dict().values()]

    def embed(texts: list[str]) -> np.ndarray:
        with torch.inference_mode():
            return encoder(encode_characters(texts)).numpy()

    target = CallableTarget(
        embed,
        modality="text",
        returns="embedding",
        name=name,
        fingerprint=content_hash("character-encoder", encoder.kind, *state),
        batch_size=4096,
    )
    target.grants = "weights"
    return target
