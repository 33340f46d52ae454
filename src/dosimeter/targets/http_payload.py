"""From records to the JSON a service takes, and from the JSON it returns to answers. Pure functions, no network.

A *template* is any JSON value with placeholders in its strings: ``{{inputs}}`` (list of all records of a request),
``{{input}}`` (the one record of a request), and for prompts ``{{text}}``, ``{{images}}`` (list) and ``{{image}}``
(the list element around it is repeated once per image). A *path* such as ``data[*].embedding`` says where the answers
are: names joined by dots, ``[3]`` for one element, ``[*]`` for each; the empty path is the whole document.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from dosimeter.core.access import Modality, Returns
from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.records import Batch, Prompt, describe

ImageEncoding = Literal["png-base64", "data-url", "nested-list"]
PathStep = str | int | None
"""A key, an index, or ``None`` for each element."""

_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\*|\d+)\]")
_STAND_ALONE = ("inputs", "images")
_MOST_PIXELS = 64 * 2**20


def parse_path(path: str) -> tuple[PathStep, ...]:
    """The steps of ``path``.

    Raises:
        InputError: not names, ``[index]`` and ``[*]``.
    """
    steps: list[PathStep] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or (position == 0 and path[0] == "."):
            raise InputError(
                f"response path '{path}' is not understood at '{path[position:]}'. "
                "Write names joined by dots, [0] for one element and [*] for each, as in 'data[*].embedding'."
            )
        name, index = match.groups()
        steps.append(name if name is not None else None if index == "*" else int(index))
        position = match.end()
    return tuple(steps)


def read_path(document: Any, steps: Sequence[PathStep], *, at: str = "") -> Any:
    """The part of a parsed JSON ``document`` at ``steps``; a list where a step is ``[*]``.

    Raises:
        TargetError: the document has no such part; the message names the part and what is there instead.
    """
    for number, step in enumerate(steps):
        if step is None:
            if not isinstance(document, list):
                raise TargetError(f"expected a list at '{at or '(top)'}', but got {_outline(document)}")
            return [
                read_path(item, steps[number + 1 :], at=f"{at}[{row}]") for row, item in enumerate(document)
            ]
        if isinstance(step, int):
            if not isinstance(document, list) or step >= len(document):
                raise TargetError(
                    f"expected a list with an element {step} at '{at or '(top)'}', but got {_outline(document)}"
                )
            document, at = document[step], f"{at}[{step}]"
        else:
            if not isinstance(document, dict) or step not in document:
                raise TargetError(
                    f"expected an object with '{step}' at '{at or '(top)'}', but got {_outline(document)}"
                )
            document, at = document[step], f"{at}.{step}" if at else step
    return document


def _outline(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(repr(key)[:40] for key in list(value)[:8]) or 'nothing'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return json.dumps(value)[:60]


def placeholders(template: Any) -> Iterator[tuple[str, bool]]:
    """(name, whether it is the whole string) of every placeholder in ``template``."""
    if isinstance(template, str):
        for match in _PLACEHOLDER.finditer(template):
            yield match[1], match[0] == template
    elif isinstance(template, (list, dict)):
        for item in template.values() if isinstance(template, dict) else template:
            yield from placeholders(item)


def check_template(template: Any, modality: Modality, encoding: ImageEncoding) -> None:
    """Raise ``InputError`` unless ``template`` has the placeholders that ``modality`` needs, where they can stand."""
    found = list(placeholders(template))
    names = {name for name, _ in found}
    known = {"text", "images", "image"} if modality == "prompt" else {"inputs", "input"}
    if names - known:
        unknown = ", ".join(f"{{{{{name}}}}}" for name in sorted(names - known))
        raise InputError(
            f"request template has {unknown}; for {modality} inputs it may have {_braced(sorted(known))}."
        )
    if modality == "prompt":
        if "text" not in names:
            raise InputError("request template for prompt inputs needs {{text}} where the question goes.")
    elif len(names) != 1:
        raise InputError(
            "request template needs either {{inputs}} (a list of records per request) or {{input}} (one record per "
            f"request), but has {'both' if names else 'neither'}."
        )
    stand_alone: tuple[str, ...] = _STAND_ALONE
    if modality == "table" or (modality != "text" and encoding == "nested-list"):
        stand_alone += ("input", "image")
    for name, alone in found:
        if name in stand_alone and not alone:
            raise InputError(f"{{{{{name}}}}} in the request template must be a whole string of its own.")
    if any(name == "image" for name, _ in found) and not _image_is_in_list(template):
        raise InputError("{{image}} in the request template must be inside a list; use {{images}} otherwise.")


def _braced(names: Sequence[str]) -> str:
    return " or ".join(f"{{{{{name}}}}}" for name in names)


def _mentions_image(template: Any) -> bool:
    return any(name == "image" for name, _ in placeholders(template))


def _image_is_in_list(template: Any) -> bool:
    if isinstance(template, list):
        return True
    if isinstance(template, dict):
        return all(_image_is_in_list(item) for item in template.values() if _mentions_image(item))
    return False


def takes_one_record(template: Any) -> bool:
    """Whether every request carries exactly one record."""
    return all(name != "inputs" for name, _ in placeholders(template))


def request_body(template: Any, batch: Batch, encoding: ImageEncoding) -> bytes:
    """The JSON request for ``batch``: the whole batch for ``{{inputs}}``, its only record otherwise."""
    if isinstance(batch[0], Prompt):
        images = [encode_record(image, encoding) for image in batch[0].images]
        values: dict[str, Any] = {"text": batch[0].text, "images": images}
    else:
        records = [encode_record(record, encoding) for record in batch]
        values = {"inputs": records, "input": records[0]}
    return json.dumps(_fill(template, values), separators=(",", ":"), allow_nan=False).encode()


def _fill(template: Any, values: dict[str, Any]) -> Any:
    if isinstance(template, dict):
        return {key: _fill(item, values) for key, item in template.items()}
    if isinstance(template, list):
        filled = []
        for item in template:
            if "image" not in values and _mentions_image(item) and not _image_is_in_list(item):
                filled += [_fill(item, values | {"image": image}) for image in values["images"]]
            else:
                filled.append(_fill(item, values))
        return filled
    if isinstance(template, str):
        whole = _PLACEHOLDER.fullmatch(template)
        return values[whole[1]] if whole else _PLACEHOLDER.sub(lambda match: values[match[1]], template)
    return template


def encode_record(record: Any, encoding: ImageEncoding) -> Any:
    """A text as it is, a table row as a list of numbers, an image (h, w, 3) uint8 in ``encoding``."""
    if isinstance(record, str):
        return record
    array = np.asarray(record)
    if array.ndim != 3 or encoding == "nested-list":
        return array.tolist()
    text = base64.b64encode(_png(array)).decode("ascii")
    return f"data:image/png;base64,{text}" if encoding == "data-url" else text


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode_answers(values: list[Any], returns: Returns, classes: Sequence[str], dtype: str) -> Any:
    """One JSON value per record as answers of kind ``returns``.

    Labels may be whole numbers or names in ``classes``; scores may be lists or objects keyed by ``classes``; images are
    base64 files, data URLs or nested lists, one or several per record. Numbers are rounded to ``dtype``.

    Raises:
        TargetError: a value that is no answer of that kind; the message says which and what to change.
    """
    if returns == "text":
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise TargetError(f"expected text as answer {row}, but got {_outline(value)}")
        return values
    if returns == "label":
        return np.array([_label(value, classes) for value in values], dtype=np.int64)
    if returns == "image":
        return _equal_shapes([_images(value) for value in values])
    if returns == "scores":
        values = [
            _by_class(value, classes) if isinstance(value, dict) or _is_ranking(value) else value
            for value in values
        ]
    arrays = []
    for row, value in enumerate(values):
        try:
            arrays.append(np.asarray(value, dtype=dtype))
        except (TypeError, ValueError, OverflowError):
            raise TargetError(
                f"expected a list of numbers as answer {row}, but got {_outline(value)}"
            ) from None
    answers = _equal_shapes(arrays)
    if not np.isfinite(answers).all():
        bad = int((~np.isfinite(answers)).sum())
        raise TargetError(f"expected finite numbers, but {bad} of {answers.size} are NaN or infinite")
    return answers.reshape(len(answers), -1) if returns == "embedding" else answers


def _equal_shapes(arrays: list[np.ndarray]) -> np.ndarray:
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise TargetError(f"expected answers of one shape, but got shapes {shapes[0]} and {shapes[1]}")
    return np.stack(arrays)


def _label(value: Any, classes: Sequence[str]) -> int:
    if isinstance(value, str):
        if value in classes:
            return list(classes).index(value)
        known = (
            f"not one of the classes {', '.join(classes)}" if classes else "a name, and no classes are given"
        )
        raise TargetError(
            f"label {value[:60]!r} is {known}. List all class names under 'classes' in the target's spec"
        )
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value % 1:
        raise TargetError(f"expected a whole number or a class name as label, but got {_outline(value)}")
    return int(value)


def _is_ranking(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and {"label", "score"} <= set(item) for item in value)
    )


def _by_class(value: dict[str, Any] | list[dict[str, Any]], classes: Sequence[str]) -> list[Any]:
    scores = value if isinstance(value, dict) else {item["label"]: item["score"] for item in value}
    if set(scores) != set(classes):
        raise TargetError(
            f"scores are given for {', '.join(map(str, list(scores)[:8]))}, but the classes are "
            f"{', '.join(classes) or 'not given'}. List exactly these names under 'classes' in the target's spec"
        )
    return [scores[name] for name in classes]


def _images(value: Any) -> np.ndarray:
    if isinstance(value, str):
        return _image(value)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return _equal_shapes([_image(item) for item in value])
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "iuf" or array.ndim not in (3, 4):
        raise TargetError(f"expected a base64 image or nested lists of pixels, but got {_outline(value)}")
    return array


def _image(text: str) -> np.ndarray:
    from PIL import Image

    try:
        data = base64.b64decode(text.rpartition("base64,")[2], validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise TargetError(f"an image of {image.width} x {image.height} pixels is too large")
            return np.asarray(image.convert("RGB"))
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TargetError(
            f"expected a base64 PNG, JPEG or WebP image, but got {describe(text)} ({error})"
        ) from None
