"""A small transformer over hashed words, which needs no vocabulary file: texts -> embeddings."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.models.networks import initial_weights

BUCKETS = 2**14
"""Hashed words; 0 is padding, and what was masked."""

# Chinese and Japanese put no spaces between words: every sign counts as one.
_SIGNS = r"\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_SIGNS}]|[^\W_{_SIGNS}]+|[^\w\s]|_")


def encode_words(texts: Sequence[str], length: int = 64) -> Tensor:
    """(n, length) int64 hashed words and marks of the lower-cased ``texts``, cut or padded with 0 to ``length``.

    Chinese and Japanese give one word per sign; other scripts without spaces (Thai, Khmer) one per run of letters. A text
    without words keeps one position, so that every text has an embedding.
    """
    table = np.zeros((len(texts), length), dtype=np.int64)
    for row, text in enumerate(texts):
        words = _WORD.findall(text.lower())[:length] or [""]
        codes = [zlib.crc32(word.encode("utf-8", "surrogatepass")) % (BUCKETS - 1) + 1 for word in words]
        table[row, : len(codes)] = codes
    return torch.from_numpy(table)


class WordTransformer(nn.Module):
    """Hashed words (n, length) -> embeddings (n, embedding_dim) float32.

    Word and position embeddings, ``layers`` encoder layers (GELU, norm first), the mean over positions that hold a
    word, and a linear projection.
    """

    def __init__(
        self,
        *,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        length: int = 64,
        embedding_dim: int = 384,
        seed: int,
    ) -> None:
        super().__init__()
        self.embedding_dim, self.length = embedding_dim, length
        with initial_weights(seed, "word-transformer"):
            self.words = nn.Embedding(BUCKETS, width, padding_idx=0)
            self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
            layer = nn.TransformerEncoderLayer(
                width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
            self.projection = nn.Linear(width, embedding_dim)

    def forward(self, codes: Tensor) -> Tensor:
        # Padding at the end of a whole batch costs time and changes nothing.
        used = max(1, int((codes > 0).any(0).nonzero().max()) + 1) if bool((codes > 0).any()) else 1
        codes = codes[:, :used]
        there = codes > 0
        states = self.words(codes) + self.positions[:used]
        states = self.layers(states, src_key_padding_mask=~there)
        weights = there.unsqueeze(2).float()
        return self.projection((states * weights).sum(1) / weights.sum(1).clamp_min(1))
