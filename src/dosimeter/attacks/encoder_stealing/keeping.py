"""Keeps trained copies, so that a run that was killed does not train again what it had trained.

A copy is taken back only if everything that made it is the same: what was bought, architecture and start, recipe, seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from dosimeter.attacks.encoder_stealing.training import StolenEncoder
from dosimeter.attacks.encoder_stealing.views import Views
from dosimeter.core.files import write_atomic
from dosimeter.core.records import content_hash
from dosimeter.targets.torch import state_hash

# Raise when training changes what it makes of the same settings.
_VERSION = 1


def kept(
    cache: Path | None,
    signature: tuple[object, ...],
    surrogate: nn.Module,
    views: Views,
    train: Callable[[], StolenEncoder],
) -> StolenEncoder:
    """What ``train`` makes of ``surrogate``, or the copy that was made so before.

    Args:
        cache: folder; ``None`` keeps nothing.
        signature: JSON values and hashes of everything but the surrogate that decides the outcome.
        surrogate: untrained; filled with the kept weights where there are some.
    """
    if cache is None:
        return train()
    key = content_hash(
        "encoder-stealing", _VERSION, torch.__version__, state_hash(surrogate), *map(str, signature)
    )
    path = cache / "encoder-stealing" / f"{key}.safetensors"
    if path.exists():
        found = _read(path, surrogate, views)
        if found is not None:
            return found
    copy = train()
    data = weights_as_safetensors(copy)
    write_atomic(path, lambda file: file.write(data))
    return copy


def weights_as_safetensors(copy: StolenEncoder) -> bytes:
    """The weights of a copy and what its training took, as the bytes of a safetensors file."""
    from safetensors.torch import save

    facts = {"losses": list(copy.losses), "queries": copy.queries, "input_passes": copy.input_passes}
    # Copies, since safetensors refuses weights that share memory, as tied ones do.
    tensors = {name: tensor.clone().contiguous() for name, tensor in copy.module.state_dict().items()}
    return bytes(save(tensors, metadata={"dosimeter": json.dumps(facts)}))


def _read(path: Path, surrogate: nn.Module, views: Views) -> StolenEncoder | None:
    """``None`` where the file is damaged or of another architecture: it is then made anew."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["dosimeter"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        losses, queries, passes = tuple(facts["losses"]), int(facts["queries"]), int(facts["input_passes"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        return None
    mine = {name: tensor.shape for name, tensor in surrogate.state_dict().items()}
    # Loading what fits only in part would change where training starts from.
    if mine != {name: tensor.shape for name, tensor in state.items()}:
        return None
    surrogate.load_state_dict(state)
    return StolenEncoder(surrogate.eval(), views, losses, queries=queries, input_passes=passes)
