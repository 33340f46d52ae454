"""Labels as others write them, as the class numbers that the rest works with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dosimeter.core.errors import InputError
from dosimeter.loading.sources import shown

_MOST_CLASSES = 1_000_000
_WHOLE_NUMBER = re.compile(r"\s*-?[0-9]+\s*")


def encode_labels(
    path: Path, values: Sequence[Any] | np.ndarray, names: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """``(labels, classes)``: (n,) int64 class numbers and the name of each class.

    Whole numbers from 0 (also as text) are class numbers and stay as they are; ``names`` or the numbers themselves
    name the classes. Anything else is a class name; names are numbered in sorted order.

    Raises:
        InputError: a missing label, a fraction, a number below 0 or beyond the classes, or labels in several dimensions.
    """
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise InputError(
            f"expected one label per record in {shown(path)}, but the labels have shape {values.shape}."
        )
    flat = values.tolist() if isinstance(values, np.ndarray) else list(values)
    for position, value in enumerate(flat):
        if value is None or value == "" or value != value or isinstance(value, (list, dict)):
            raise InputError(
                f"expected record {position + 1} of {shown(path)} to have a class as its label, but got "
                f"{shown(repr(value))}. Fill it in or drop the record."
            )
    if all(_is_number(value) for value in flat):
        return _class_numbers(path, [_number(value) for value in flat], names)
    texts = [str(value) for value in flat]
    classes = [str(name) for name in names] if names is not None else sorted(set(texts))
    number = {name: index for index, name in enumerate(classes)}
    unknown = next((text for text in texts if text not in number), None)
    if unknown is not None:
        raise InputError(
            f"the label '{shown(unknown)}' in {shown(path)} is none of its classes: {shown(', '.join(classes))}."
        )
    return np.array([number[text] for text in texts], dtype=np.int64), tuple(classes)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return _WHOLE_NUMBER.fullmatch(value) is not None
    return isinstance(value, (int, float))


def _number(value: Any) -> int | float:
    # A float also holds what is beyond Python's limit of digits; it is out of range in any case.
    return (int(value) if len(value) < 19 else float(value)) if isinstance(value, str) else value


def _class_numbers(
    path: Path, values: list[int | float], names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    most = _MOST_CLASSES if names is None else len(names)
    for position, value in enumerate(values):
        if not 0 <= value < most or value != int(value):
            raise InputError(
                f"expected record {position + 1} of {shown(path)} to have a class number in 0..{most - 1} as its label, "
                f"but got {shown(value)}. Number the classes from 0, or give their names."
            )
    labels = np.array(values, dtype=np.int64)
    if names is not None:
        return labels, tuple(str(name) for name in names)
    return labels, tuple(str(index) for index in range(int(labels.max(initial=-1)) + 1))
