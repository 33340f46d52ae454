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
from typing import Any, TypeAlias, cast

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

_LABELS = 2**53  # floats below it hold whole numbers exactly


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError(
                "an array of Python objects has no content hash; give it a numeric or string dtype"
            )
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8) if value.nbytes else b"")
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
    elif isinstance(value, (list, tuple)):
        _feed_all(digest, b"list", value)
    elif isinstance(value, dict):
        pairs = sorted(value.items(), key=lambda pair: str(pair[0]))
        _feed_all(digest, b"dict", [part for pair in pairs for part in pair])
    elif isinstance(value, np.generic):
        _feed(digest, value.item())
    else:
        digest.update(json.dumps(value).encode())


def _feed_all(digest: Any, kind: bytes, values: Sequence[Any]) -> None:
    digest.update(b"%s:%d:" % (kind, len(values)))
    for value in values:
        _feed(digest, value)
        digest.update(b"\x1e")


def content_hash(*values: Any) -> str:
    """A 32-digit hexadecimal BLAKE2b hash of arrays (dtype, shape and bytes), strings, prompts, and what JSON can hold.

    Lists and dictionaries may hold any of these. A tuple counts as the list of its items.

    Raises:
        TypeError: a value that has no content of its own, such as an open file or an array of objects.
    """
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
    """``batch`` in canonical form if it is a valid batch of ``modality``, else ``InputError`` naming what is wrong.

    Images become uint8 as in :func:`as_uint8_images`, those of prompts too; tables become float64.
    """
    if modality == "image":
        return as_uint8_images(batch, what=what)
    if modality == "table":
        array = _as_array(batch, what=what)
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InputError(
                f"expected {what} to be a numeric (n, features) table, but got {describe(batch)}."
            )
        if not np.isfinite(array).all():
            raise InputError(
                f"expected {what} to be finite, but {int((~np.isfinite(array)).sum())} values are NaN or infinite."
            )
        return array.astype(np.float64)
    kind: type = str if modality == "text" else Prompt
    if isinstance(batch, np.ndarray) and batch.dtype.kind == "U":
        batch = [str(text) for text in batch]
    if not isinstance(batch, list) or not all(isinstance(record, kind) for record in batch):
        raise InputError(f"expected {what} to be a list of {kind.__name__}, but got {describe(batch)}.")
    if modality == "prompt":
        return [_checked_prompt(prompt, what) for prompt in cast("list[Prompt]", batch)]
    return batch


def _checked_prompt(prompt: Prompt, what: str) -> Prompt:
    images = (np.asarray(image)[None] for image in prompt.images)
    return Prompt(
        prompt.text, tuple(as_uint8_images(image, what=f"an image of {what}")[0] for image in images)
    )


def _as_array(values: Any, *, what: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"expected {what} to be one array of equal records, but got {describe(values)}: {error}."
        ) from error


def as_uint8_images(images: Any, *, what: str = "images") -> np.ndarray:
    """``images`` as (n, height, width, 3) uint8.

    Accepts integers 0..255 or floats in [0, 1], which are rounded to 8 bits rather than guessed at where they are
    outside. One channel is repeated to three; channels may be first or last; (n, height, width) is grey.

    Raises:
        InputError: not a 3-d or 4-d array, NaN, values out of range, or no axis of 1 or 3 channels.
    """
    array = _as_array(images, what=what)
    if array.ndim == 3 and array.shape[-1] == 3:
        raise InputError(
            f"expected {what} to be images of shape (n, height, width, 3), but got one of shape {array.shape}. "
            "Add the batch axis: images[None]."
        )
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
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(
                f"expected {what} to be finite, but they contain NaN or infinity. Remove or repair those records."
            )
        low, high = array.min(), array.max()
        if array.dtype.kind == "f":
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
    Labels become int64; scores and embeddings keep their float dtype, whole numbers become float64.
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
    except (ValueError, TypeError, RuntimeError) as error:
        raise TargetError(
            f"target '{name}' returned {describe(answers)}, which is no array of equal answers: {error}"
        ) from error
    if array.dtype.kind not in "fiub":
        raise TargetError(f"target '{name}' should return {returns}, but returned {describe(answers)}.")
    if array.ndim == 0 or len(array) != n:
        raise TargetError(f"target '{name}' returned an array of shape {array.shape} for {n} inputs.")
    finite = np.isfinite(array)
    if returns == "label":
        whole = array.dtype.kind != "f" or bool(np.all((np.abs(array) < _LABELS) & (array == np.rint(array))))
        if array.ndim != 1 or not whole:
            raise TargetError(
                f"target '{name}' should return one whole-number label per input, but returned {describe(array)}"
                f"{'' if finite.all() else f', of which {int((~finite).sum())} are NaN or infinite'}."
            )
        return array.astype(np.int64)
    if not finite.all():
        bad = int((~finite).sum())
        raise TargetError(f"target '{name}' returned {bad} values that are NaN or infinite of {array.size}.")
    if returns in ("scores", "embedding"):
        if array.ndim != 2 or array.shape[1] == 0:
            raise TargetError(
                f"target '{name}' should return {returns} of shape ({n}, d), but returned shape {array.shape}."
            )
        if width is not None and array.shape[1] != width:
            raise TargetError(
                f"target '{name}' returned {returns} of length {array.shape[1]} after length {width} before."
            )
        return array if array.dtype.kind == "f" else array.astype(np.float64)
    if returns == "image":
        if array.ndim not in (4, 5) or array.shape[-1] != 3:
            raise TargetError(
                f"target '{name}' should return images of shape ({n}, [k,] height, width, 3), but returned {array.shape}."
            )
        try:
            flat = as_uint8_images(array.reshape(-1, *array.shape[-3:]), what=f"answers of target '{name}'")
        except InputError as error:
            raise TargetError(str(error)) from error
        return flat.reshape(array.shape)
    return array
