"""One vector from the hidden states of a transformer or a convolutional network."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from dosimeter.core.access import Returns
from dosimeter.core.errors import InputError

Pooling = Literal["mean", "pooler", "cls", "tokens"]
"""``mean`` of the last hidden states (of real tokens), the model's own ``pooler``, the first state (``cls``), or all
states flattened (``tokens``, what a diffusion model conditions on)."""


def pooled_states(output: Any, mask: Tensor, pooling: Pooling, name: str) -> Tensor:
    """(n, d) from a model output; ``mask`` (n, positions) marks real positions of the last hidden state."""
    if pooling == "pooler":
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            raise InputError(f"model of target '{name}' has no pooler. Choose pooling: mean or cls.")
        return pooled.flatten(start_dim=1)
    states = output.last_hidden_state
    if states.ndim == 4:
        states = states.flatten(start_dim=2).transpose(1, 2)
        mask = states.new_ones(states.shape[:2])
    if pooling == "tokens":
        return states.flatten(start_dim=1)
    if pooling == "cls":
        return states[:, 0]
    weights = mask.to(states.dtype)[..., None]
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def check_returns(name: str, returns: Returns) -> None:
    """Raise ``InputError`` unless a Hugging Face model can answer in the way of ``returns``."""
    if returns not in ("embedding", "scores", "label"):
        raise InputError(
            f"huggingface target '{name}' cannot return {returns}; it returns embedding, scores or label."
        )
