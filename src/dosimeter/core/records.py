"""What goes into a target and what comes out: batches, their content hashes and their checks.

A *batch* of inputs is an ``(n, height, width, 3)`` uint8 array (images), an ``(n, features)`` float array (tables), a
list of strings (text) or a list of :class:`Prompt` (images with a question). Answers are ``(n,)`` int64 labels,
``(n, classes)`` float scores, ``(n, dim)`` float embeddings, a list of strings, or ``(n, [k,] height, width, 3)``
uint8 images. Images are 8-bit everywhere at this border, so that a service behind HTTP and the same service in this
process see the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from dosimeter.core.access import Modality, Returns
from dosimeter.core.errors import InputError, TargetError


@dataclass(frozen=True, eq=False)
class Prompt:
    """A question about zero or more images, for vision-language targets. Images are (h, w, 3) uint8."""

    text: str
    images: tuple[np.ndarray, ...] = ()


Batch: TypeAlias = "np.ndarray | list[str] | list[Prompt]"
Answers: TypeAlias = "np.ndarray | list[str]"


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        contiguous = np.ascontiguousarray(value)
        digest.update(f"{contiguous.dtype.str}{contiguous.shape}".encode())
        digest.update(contiguous.data if contiguous.size else b"")
    elif isinstance(value, Prompt):
        digest.update(b"prompt:")
        _feed(digest, value.text)
        for image in value.images:
            _feed(digest, image)
    elif isinstance(value, bytes):
        digest.update(b"bytes:%d:" % len(value))
        digest.update(value)
    elif isinstance(value, str):
        encoded = value.encode("utf-8", "surrogatepass")
        digest.update(b"str:%d:" % len(encoded))
        digest.update(encoded)
    else:
        digest.update(json.dumps(value, sort_keys=True, default=repr).encode())


def content_hash(*values: Any) -> str:
    """A 32-digit hexadecimal BLAKE2b hash of arrays (dtype, shape and bytes), strings, prompts or JSON values."""
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        _feed(digest, value)
        digest.update(b"\x1e")
    return digest.hexdigest()


def take(batch: Batch, indices: Sequence[int] | np.ndarray) -> Batch:
    """The records of ``batch`` at ``indices``, in that order, as the same kind of batch."""
    if isinstance(batch, np.ndarray):
        return batch[np.asarray(indices, dtype=np.intp)]
    return [batch[int(i)] for i in indices]  # type: ignore[return-value]


def concatenate(parts: Sequence[Batch]) -> Batch:
    """Join batches of one kind. Arrays must agree in everything but length."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)  # type: ignore[arg-type]
    return [record for part in parts for record in part]  # type: ignore[return-value]


def check_batch(modality: Modality, batch: Batch, *, what: str = "input") -> Batch:
    """``batch`` if it is a valid batch of ``modality``, else ``InputError`` naming what is wrong.

    Float images in [0, 1] are rounded to 8 bits; float images outside are refused rather than guessed at.
    """
    if modality == "image":
        return as_uint8_images(batch, what=what)
    if modality == "table":
        array = np.asarray(batch)
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InputError(
                f"expected {what} to be a numeric (n, features) table, but got {describe(batch)}."
            )
        if not np.isfinite(array).all():
            raise InputError(
                f"expected {what} to be finite, but {int((~np.isfinite(array)).sum())} values are NaN or infinite."
            )
        return array
    kind: type = str if modality == "text" else Prompt
    if isinstance(batch, np.ndarray) and batch.dtype.kind == "U":
        batch = [str(text) for text in batch]
    if not isinstance(batch, list) or not all(isinstance(record, kind) for record in batch):
        raise InputError(f"expected {what} to be a list of {kind.__name__}, but got {describe(batch)}.")
    return batch


def as_uint8_images(images: Any, *, what: str = "images") -> np.ndarray:
    """``images`` as (n, height, width, 3) uint8.

    Accepts uint8 0..255 or floats in [0, 1]; one channel is repeated to three; channels may be first or last.

    Raises:
        InputError: not a 3-d or 4-d array, NaN, floats outside [0, 1], or no axis of 1 or 3 channels.
    """
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.dtype.kind not in "uif":
        raise InputError(
            f"expected {what} to be images of shape (n, height, width, 3), but got {describe(images)}."
        )
    if array.shape[-1] not in (1, 3) and array.shape[1] in (1, 3):
        array = np.moveaxis(array, 1, -1)
    if array.shape[-1] not in (1, 3):
        raise InputError(f"expected {what} to have 1 or 3 channels, but got shape {array.shape}.")
    if array.size:
        low, high = array.min(), array.max()
        if array.dtype.kind == "f":
            if not np.isfinite(array).all():
                raise InputError(
                    f"expected {what} to be finite, but they contain NaN or infinity. Remove or repair those records."
                )
            if low < 0 or high > 1:
                raise InputError(
                    f"expected float {what} in 0..1, but got values in {low:.4g}..{high:.4g}. "
                    "Divide by 255, or store them as uint8."
                )
            array = np.rint(array * 255)
        elif low < 0 or high > 255:
            raise InputError(f"expected integer {what} in 0..255, but got values in {low}..{high}.")
    array = array.astype(np.uint8)
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else np.ascontiguousarray(array)


def describe(value: Any) -> str:
    """A few words on what ``value`` is, for error messages."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, (list, tuple)):
        kinds = sorted({type(item).__name__ for item in value}) or ["nothing"]
        return f"a {type(value).__name__} of {len(value)} ({', '.join(kinds)})"
    return f"{type(value).__name__} {str(value)[:60]!r}"


def check_answers(name: str, returns: Returns, answers: Any, n: int, width: int | None) -> Answers:
    """``answers`` in canonical form if they can be answers of kind ``returns`` to ``n`` records, else ``TargetError``.

    ``width`` is the number of classes or dimensions seen before (``None``: not known yet); a change is an error.
    """
    if returns == "text":
        if not isinstance(answers, (list, tuple)) or not all(isinstance(text, str) for text in answers):
            raise TargetError(
                f"target '{name}' should return a list of texts, but returned {describe(answers)}."
            )
        if len(answers) != n:
            raise TargetError(f"target '{name}' returned {len(answers)} texts for {n} inputs.")
        return list(answers)
    try:
        array = np.asarray(answers)
    except ValueError as error:
        raise TargetError(f"target '{name}' returned answers of unequal length: {error}") from error
    if array.dtype.kind not in "fiub":
        raise TargetError(f"target '{name}' should return {returns}, but returned {describe(answers)}.")
    if array.ndim == 0 or len(array) != n:
        raise TargetError(f"target '{name}' returned an array of shape {array.shape} for {n} inputs.")
    if returns == "label":
        if array.ndim != 1 or (array.dtype.kind == "f" and not np.array_equal(array, np.rint(array))):
            raise TargetError(
                f"target '{name}' should return one whole-number label per input, but returned {describe(array)}."
            )
        return array.astype(np.int64)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise TargetError(f"target '{name}' returned {bad} values that are NaN or infinite of {array.size}.")
    if returns in ("scores", "embedding"):
        if array.ndim != 2:
            raise TargetError(
                f"target '{name}' should return {returns} of shape ({n}, d), but returned shape {array.shape}."
            )
        if width is not None and array.shape[1] != width:
            raise TargetError(
                f"target '{name}' returned {returns} of length {array.shape[1]} after length {width} before."
            )
        return array
    if returns == "image":
        if array.ndim not in (4, 5) or array.shape[-1] != 3:
            raise TargetError(
                f"target '{name}' should return images of shape ({n}, [k,] height, width, 3), but returned {array.shape}."
            )
        flat = as_uint8_images(array.reshape(-1, *array.shape[-3:]), what=f"answers of target '{name}'")
        return flat.reshape(array.shape)
    return array
