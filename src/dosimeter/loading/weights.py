"""Model weights: safetensors, or PyTorch checkpoints that hold tensors and nothing else.

A checkpoint is a pickle, and a pickle is a program; it is inspected first (``loading.pickles``), then read with
``weights_only=True``, then measured against the size of its file. Only ``trust=True`` loads anything else.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.loading.pickles import check_checkpoint
from dosimeter.loading.sources import MIB, check_fits, open_regular, refusing, shown

if TYPE_CHECKING:
    import torch

_WHAT = "model weights"
_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin")
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "weights", "net")
_MOST_HEADER_BYTES = 32 * MIB
_DTYPE_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BF16": 16, "C64": 64}
_DTYPE = re.compile(r"[IUF](8|16|32|64)|F8_E[0-9]M[0-9](FNUZ|FN)?|" + "|".join(_DTYPE_BITS))
_MOST_AXES = 64


def load_weights(path: Path, *, trust: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of ``path`` by name, on the CPU, in the dtypes they were saved in.

    Reads ``.safetensors``, and ``.pt``, ``.pth`` or ``.bin`` checkpoints: a state dict, or a dictionary that holds
    one under ``state_dict``, ``model_state_dict``, ``model``, ``weights`` or ``net``.

    Args:
        trust: run whatever code the file contains; then pickled modules and every other suffix load too.

    Raises:
        InputError: unreadable, damaged, not a state dict, or not loadable without running its code.
        MissingExtra: PyTorch or safetensors is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _load_safetensors(path)
    if not trust:
        if suffix not in _CHECKPOINT_SUFFIXES:
            open_regular(path, what=_WHAT).close()
            raise InputError(
                f"refused {shown(path)}: '{shown(suffix)}' is not one of .safetensors, {', '.join(_CHECKPOINT_SUFFIXES)}, "
                "so loading it could run code. Convert it to safetensors, or pass --trust (trust=True) if you trust "
                "its author as you trust a program."
            )
        check_checkpoint(path)
    loaded = _torch_load(path, weights_only=not trust)
    state = _state_dict(path, loaded)
    if not trust:
        _check_claims(path, state)
    return state


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    _check_safetensors(path)
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtra("loading .safetensors weights", "torch") from error
    with refusing(path, "safetensors weights"):
        return dict(load_file(path))


def _check_safetensors(path: Path) -> None:
    """Raise ``InputError`` unless the tensors tile the data exactly, each as long as its dtype and shape say."""
    with open_regular(path, what="safetensors weights") as file:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if length > min(size - 8, _MOST_HEADER_BYTES):
            hint = f"its header claims {length} bytes"
            if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
                hint = "it is a pickle or PyTorch checkpoint under another name"
            elif start.isascii() and start.decode().isprintable():
                hint = "it is text, such as a web page or a Git LFS pointer, and no weights"
            raise InputError(
                f"refused {shown(path)}: {hint}. Save it with safetensors.torch.save_file, or download it again."
            )
        text = file.read(length)
    with refusing(path, "safetensors weights"):
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
        if not isinstance(header, dict):
            raise ValueError("its header is not a JSON object")
        header.pop("__metadata__", None)
        spans = sorted(_span(name, entry) for name, entry in header.items())
        end = 0
        for first, last, name in spans:
            if first != end:
                raise ValueError(
                    f"tensor '{name}' starts at byte {first}, but the one before it ends at {end}"
                )
            end = last
        if 8 + length + end != size:
            raise ValueError(f"its tensors end at byte {8 + length + end}, but the file has {size} bytes")
    check_fits(path, end)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("its header names a key twice")
    return entries


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    """First byte, end and name of a tensor; ``ValueError`` unless its entry is consistent."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor '{name}' is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
            raise ValueError(f"tensor '{name}' has the shape {shape} at the offsets {offsets}")
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise ValueError(f"tensor '{name}' has the unknown type {dtype!r}")
    if len(offsets) != 2 or len(shape) > _MOST_AXES:
        raise ValueError(f"tensor '{name}' has {len(shape)} axes and {len(offsets)} offsets")
    bits = _DTYPE_BITS.get(dtype) or int(re.findall(r"\d+", dtype)[0])
    if (offsets[1] - offsets[0]) * 8 != bits * math.prod(shape):
        raise ValueError(f"tensor '{name}' of type {dtype} and shape {shape} does not fill bytes {offsets}")
    return offsets[0], offsets[1], name


def _torch_load(path: Path, *, weights_only: bool) -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("loading PyTorch checkpoints", "torch") from error
    with open_regular(path, what=_WHAT) as file, refusing(path, _WHAT), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=weights_only)


def _state_dict(path: Path, loaded: Any) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(loaded, torch.nn.Module):
        loaded = loaded.state_dict()
    if isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in _STATE_KEYS if isinstance(loaded.get(key), Mapping)), loaded)
        if inner and all(
            isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in inner.items()
        ):
            return {name: tensor.detach() for name, tensor in inner.items()}
        found = f"a dictionary with the keys {', '.join(map(repr, list(inner)[:8])) or '(none)'}"
    else:
        found = f"one {type(loaded).__name__}"
    raise InputError(
        f"expected {shown(path)} to hold tensors by name, but it holds {shown(found)}. "
        "Save module.state_dict(), best with safetensors.torch.save_file."
    )


def _check_claims(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """A crafted tensor can be larger than its stored data (memory made up on loading, or one value repeated)."""
    import torch

    size = path.stat().st_size
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise InputError(
                f"refused {shown(path)}: tensor '{shown(name)}' is not a plain CPU tensor. Save it as one."
            )
        claimed = max(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
        if claimed > size:
            raise InputError(
                f"refused {shown(path)}: tensor '{shown(name)}' claims {claimed} bytes in a file of {size}. "
                "Make or download it again."
            )
