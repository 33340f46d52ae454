"""Texts in token batches whose shape depends on each text alone, so that company never changes an answer.

A text of ``k`` tokens is padded to the smallest of 8, 16, 32, ... that holds it (at most ``max_length``), together with
others of that size, in passes of exactly ``batch_size`` rows. Against padding everything to ``max_length`` this saves
most of the work; against padding to the longest neighbour it costs little and keeps every bit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dosimeter.core.access import Returns
from dosimeter.core.records import Batch
from dosimeter.core.target import Target
from dosimeter.targets.torch import answers_from

_SHORTEST = 8


def padded_lengths(lengths: Sequence[int] | np.ndarray, longest: int) -> np.ndarray:
    """For each number of tokens the padded length: the next of 8, 16, 32, ..., at most ``longest``; (n,) int64."""
    exponents = np.ceil(np.log2(np.maximum(np.asarray(lengths), _SHORTEST)))
    return np.minimum(2 ** exponents.astype(np.int64), longest)


def batches_of_equal_length(padded: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """(indices, padded length) of batches that together cover every text once; at most ``batch_size`` indices each."""
    for length in np.unique(padded):
        members = np.flatnonzero(padded == length)
        for start in range(0, len(members), batch_size):
            yield members[start : start + batch_size], int(length)


class TokenizedTarget(Target):
    """Base of local text models: tokenizes, pads and batches; a subclass computes.

    Args:
        tokenizer: a Hugging Face tokenizer.
        max_length: most tokens of a text; longer ones are cut.
        fixed_length: pad everything to ``max_length``, for answers that contain the padded positions.
    """

    def __init__(
        self,
        *,
        name: str,
        returns: Returns,
        fingerprint: str,
        tokenizer: Any,
        max_length: int,
        batch_size: int,
        fixed_length: bool = False,
    ) -> None:
        super().__init__(name=name, modality="text", returns=returns, fingerprint=fingerprint)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.batch_size = batch_size
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._fixed_length = fixed_length

    @abstractmethod
    def compute(self, features: dict[str, Tensor]) -> Tensor:
        """Embeddings or logits (batch_size, d) of int64 ``input_ids``, ``attention_mask``, ... (batch_size, length)."""

    def answer(self, batch: Batch) -> np.ndarray:
        """Answers to a list of texts, in order."""
        encoded = self._tokenizer(list(batch), truncation=True, max_length=self._max_length)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        padded = padded_lengths(lengths, self._max_length)
        if self._fixed_length:
            padded = np.full(len(batch), self._max_length)
        answers: list[Any] = [None] * len(batch)
        with torch.inference_mode():
            for indices, length in batches_of_equal_length(padded, self.batch_size):
                part = answers_from(self.compute(self._features(encoded, indices, length)), self.returns)
                for index, answer in zip(indices, part):
                    answers[index] = answer
        return np.stack(answers)

    def _features(self, encoded: Any, indices: np.ndarray, length: int) -> dict[str, Tensor]:
        fill = {
            "input_ids": self._tokenizer.pad_token_id,
            "token_type_ids": self._tokenizer.pad_token_type_id,
        }
        features = {}
        for key, rows in encoded.items():
            table = torch.full((self.batch_size, length), fill.get(key, 0), dtype=torch.int64)
            for row in range(self.batch_size):
                tokens = rows[indices[min(row, len(indices) - 1)]]
                table[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
            features[key] = table
        return features
