"""What a target gives and what a method needs, and the sentence said when the two do not meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dosimeter.core.errors import CapabilityError

Modality = Literal["image", "text", "table", "prompt"]
Returns = Literal["label", "scores", "embedding", "text", "tokens+logprobs", "mask", "image"]
Grants = Literal["query", "activations", "weights"]

_GRANT_ORDER: tuple[Grants, ...] = ("query", "activations", "weights")
# A target that returns the key also gives what the values ask for.
_IMPLIES: dict[Returns, tuple[Returns, ...]] = {"scores": ("label",), "tokens+logprobs": ("text",)}


@dataclass(frozen=True)
class Needs:
    """Requirements of a method: one of ``modalities``, one of ``returns``, and at least ``grants``."""

    modalities: tuple[Modality, ...]
    returns: tuple[Returns, ...]
    grants: Grants = "query"


def gives(returns: Returns) -> tuple[Returns, ...]:
    """All answer kinds that can be read from a target declaring ``returns``."""
    return (returns, *_IMPLIES.get(returns, ()))


def check_access(
    method: str, needs: Needs, *, target: str, modality: Modality, returns: Returns, grants: Grants
) -> None:
    """Raise :class:`CapabilityError` with one sentence if the target gives less than the method needs."""
    lacks = []
    if modality not in needs.modalities:
        lacks.append(f"{_either(needs.modalities)} inputs (the target takes {modality})")
    if not set(gives(returns)) & set(needs.returns):
        lacks.append(f"{_either(needs.returns)} as answers (the target returns {returns})")
    if _GRANT_ORDER.index(grants) < _GRANT_ORDER.index(needs.grants):
        lacks.append(f"access to {needs.grants} (the target grants {grants})")
    if lacks:
        raise CapabilityError(f"{method} cannot run on target '{target}': it needs {', and '.join(lacks)}.")


def _either(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" or {names[-1]}"
