"""From the JSON of a request to records for the target, with every limit checked before the work it limits.

Takes what a ``kind: http`` target sends: texts, lists of numbers, and images as base64 files (PNG, JPEG, WebP), data
URLs or nested lists of pixels. Pictures are measured before their pixels are decoded.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import numpy as np
from pydantic_core import from_json

from dosimeter.core.access import Modality
from dosimeter.core.errors import InputError
from dosimeter.core.records import as_uint8_images, check_batch
from dosimeter.loading.sources import refusing
from dosimeter.server.refusals import invalid
from dosimeter.server.spec import ServerSettings

_FORMATS = ("PNG", "JPEG", "WEBP")
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_WHAT = "a PNG, JPEG or WebP picture"


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``; NaN and infinity are no JSON.

    Raises:
        Refusal: 400 where it is not JSON, 422 where it is no object.
    """
    try:
        document = from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        raise invalid(
            f"the request is not JSON: {str(error)[:100]}.", status=400, code="invalid_json"
        ) from None
    if not isinstance(document, dict):
        raise invalid(f"the request must be a JSON object, not {_kind(document)}.", code="invalid_request")
    return document


class InputReader:
    """Reads records of one ``modality`` within the limits of ``settings``."""

    def __init__(self, modality: Modality, settings: ServerSettings) -> None:
        self.modality = modality
        self._settings = settings

    def records(self, value: Any, *, key: str, one: bool = False) -> list[Any]:
        """The records in ``value``, the ``key`` of a request.

        Args:
            one: a single record may stand there instead of a list of them.

        Returns:
            Texts, (features,) float64 rows or (height, width, 3) uint8 images.

        Raises:
            Refusal: 422 with what is wrong with which record; 413 for too many of them.
        """
        if one and self._is_record(value):
            value = [value]
        if not isinstance(value, list):
            raise invalid(f"'{key}' must be a list of {self._plural}, not {_kind(value)}.")
        if not value:
            raise invalid(f"'{key}' must hold at least one record.")
        most = self._settings.max_batch
        if len(value) > most:
            raise invalid(
                f"'{key}' holds {len(value)} records, and one request may hold {most}; send them in parts.",
                status=413,
                code="batch_too_large",
            )
        left = self._settings.max_image_pixels
        records = []
        for number, item in enumerate(value):
            try:
                record = self._record(item, f"{key}[{number}]", left)
            except InputError as error:
                raise invalid(str(error)) from None
            if self.modality == "image":
                left -= record.shape[0] * record.shape[1]
            records.append(record)
        return records

    @property
    def _plural(self) -> str:
        return {"image": "images", "text": "texts", "table": "rows of numbers"}.get(self.modality, "records")

    def _is_record(self, value: Any) -> bool:
        if isinstance(value, str):
            return True
        return (
            self.modality == "table"
            and isinstance(value, list)
            and bool(value)
            and not isinstance(value[0], list)
        )

    def _record(self, item: Any, where: str, pixels: int) -> Any:
        if self.modality == "text":
            return self._text(item, where)
        if self.modality == "table":
            return _row(item, where)
        return (
            self._picture(item, where, pixels) if isinstance(item, str) else self._pixels(item, where, pixels)
        )

    def _text(self, item: Any, where: str) -> str:
        if not isinstance(item, str):
            raise InputError(f"'{where}' must be a text, not {_kind(item)}.")
        if len(item) > self._settings.max_text_characters:
            raise InputError(
                f"'{where}' has {len(item)} characters, and a text may have {self._settings.max_text_characters}."
            )
        return item

    def _pixels(self, item: Any, where: str, pixels: int) -> np.ndarray:
        if not isinstance(item, list):
            raise InputError(
                f"'{where}' must be a base64 picture or nested lists of pixels, not {_kind(item)}."
            )
        try:
            array = np.asarray(item)
        except (ValueError, OverflowError):
            raise InputError(f"'{where}' must have rows and channels of equal length throughout.") from None
        if array.ndim not in (2, 3) or 0 in array.shape:
            raise InputError(
                f"'{where}' must be an image of shape (height, width, 3), but its shape is {array.shape}."
            )
        image = as_uint8_images(array[None], what=f"'{where}'")[0]
        self._check_size(image.shape[1], image.shape[0], where, pixels)
        return image

    def _picture(self, item: str, where: str, pixels: int) -> np.ndarray:
        from PIL import Image, UnidentifiedImageError

        try:
            data = base64.b64decode(item.rpartition("base64,")[2], validate=True)
        except (binascii.Error, ValueError):
            raise InputError(f"'{where}' is not base64.") from None
        with refusing(f"'{where}'", _WHAT, advice="Encode it again."):
            try:
                picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            except UnidentifiedImageError:
                raise InputError(f"'{where}' is not {_WHAT}.") from None
            except (Image.DecompressionBombError, Image.DecompressionBombWarning):
                raise InputError(
                    f"'{where}' claims too many pixels; no side may be longer than {self._settings.max_image_side}."
                ) from None
        self._check_size(*picture.size, where, pixels)
        if picture.mode not in _EIGHT_BIT_MODES:
            raise InputError(
                f"the pixels of '{where}' ({picture.mode}) have more than 8 bits; send 8-bit ones."
            )
        with refusing(f"'{where}'", _WHAT, advice="Encode it again."):
            return np.asarray(picture.convert("RGB"))

    def _check_size(self, width: int, height: int, where: str, pixels: int) -> None:
        side = self._settings.max_image_side
        if max(width, height) > side:
            raise InputError(
                f"'{where}' has {width} x {height} pixels, and no side may be longer than {side}; send it smaller."
            )
        if width * height > pixels:
            raise InputError(
                f"the images of this request have more than {self._settings.max_image_pixels} pixels together; "
                "send fewer at once."
            )


def _row(item: Any, where: str) -> np.ndarray:
    if not isinstance(item, list) or not item:
        raise InputError(f"'{where}' must be a list of numbers, not {_kind(item)}.")
    if not all(type(number) in (int, float) for number in item):
        wrong = next(place for place, number in enumerate(item) if type(number) not in (int, float))
        raise InputError(f"'{where}[{wrong}]' must be a number, not {_kind(item[wrong])}.")
    try:
        row = np.asarray(item, dtype=np.float64)
    except OverflowError:
        raise InputError(f"'{where}' has a number that is too large.") from None
    checked: Any = check_batch("table", row[None], what=f"'{where}'")
    return checked[0]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    if isinstance(value, list) and not value:
        return "an empty list"
    return names.get(type(value), "a number")
