"""Images: arrays in ``.npz``, a folder of picture files, or such a folder in a ZIP archive.

Pictures are decoded by Pillow, one format list, dimensions checked before pixels; a picture is never guessed at
from its content alone. Pixels are taken as stored: no EXIF rotation, transparency dropped, first frame only.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from dosimeter.core.errors import InputError
from dosimeter.core.progress import track
from dosimeter.core.records import as_uint8_images
from dosimeter.loading.archives import Archive
from dosimeter.loading.arrays import load_arrays
from dosimeter.loading.labels import encode_labels
from dosimeter.loading.sources import MIB, check_fits, open_regular, refusing, shown

if TYPE_CHECKING:
    from PIL.Image import Image

_WHAT = "an image"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")
_MOST_PIXELS = 64 * MIB
_MOST_FILE_BYTES = 128 * MIB
_MOST_FILES = 2_000_000


@dataclass(frozen=True, eq=False)
class LoadedImages:
    """Images with what their file says about them.

    Attributes:
        images: (n, height, width, 3) uint8.
        labels: (n,) int64 positions in ``classes``, or ``None`` where the file has none.
        classes: names of the classes.
        files: name of the picture behind each image; empty for arrays.
    """

    images: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    files: tuple[str, ...]


def load_images(path: Path, *, limit: int | None = None, size: int | None = None) -> LoadedImages:
    """Images of a ``.npz`` file, a folder or a ``.zip`` of pictures.

    In ``.npz``: images under ``x`` or ``images``, else the first 4-d array; labels under ``y`` or ``labels``; names
    under ``classes``. Uint8 0..255 or floats 0..1, one or three channels first or last. In folders and archives: the
    folder that holds a picture is its class; pictures in one folder have no labels.

    Args:
        limit: most images; they are spread evenly over the sorted files (or the array), so every class keeps its share.
        size: resize the central square of each image to ``size`` x ``size`` pixels (bilinear, antialiased).

    Raises:
        InputError: no images, damaged ones, more than 8 bits a channel, or sizes that differ without ``size``.
    """
    path = Path(path)
    for name, value in (("limit", limit), ("size", size)):
        if value is not None and value < 1:
            raise InputError(f"expected {name} to be at least 1, but got {value}.")
    if path.is_dir():
        files = _picture_files(path)
        return _decode_all(path, files, lambda name: _read_file(path / name), limit, size)
    if path.suffix.lower() == ".zip":
        with Archive(path, what="an archive of images") as archive:
            files = _pictures(archive.members)
            return _decode_all(
                path, files, lambda name: archive.read(name, max_bytes=_MOST_FILE_BYTES), limit, size
            )
    if path.suffix.lower() == ".npz":
        return _from_arrays(path, limit, size)
    open_regular(path, what="images").close()
    raise InputError(
        f"expected {shown(path)} to be a folder of images, a .zip of them or a .npz file, "
        f"but it ends in '{shown(path.suffix)}'."
    )


def _pictures(names: Iterable[str]) -> list[str]:
    """The names of pictures among ``names``, sorted; hidden files and those of the archiver are left out."""
    return sorted(
        name
        for name in names
        if name.lower().endswith(_SUFFIXES)
        and not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
    )


def _picture_files(folder: Path) -> list[str]:
    names: list[str] = []
    for parent, _, files in os.walk(folder):
        names += [(Path(parent) / file).relative_to(folder).as_posix() for file in files]
        if len(names) > _MOST_FILES:
            raise InputError(
                f"{shown(folder)} holds more than {_MOST_FILES} files. Name the folder of the images."
            )
    return _pictures(names)


def _read_file(path: Path) -> bytes:
    with open_regular(path, what=_WHAT, max_bytes=_MOST_FILE_BYTES) as file:
        return file.read()


def _spread(n: int, limit: int | None) -> list[int]:
    """At most ``limit`` positions, evenly spaced over ``range(n)``."""
    return list(range(n)) if limit is None or limit >= n else [i * n // limit for i in range(limit)]


def _decode_all(
    path: Path, files: list[str], read: Callable[[str], bytes], limit: int | None, size: int | None
) -> LoadedImages:
    if not files:
        raise InputError(f"found no images in {shown(path)}. Accepted are {', '.join(_SUFFIXES)}.")
    chosen = [files[i] for i in _spread(len(files), limit)]
    images: np.ndarray | None = None
    with track("reading images", len(chosen)) as progress:
        for row, name in enumerate(chosen):
            image = _decode(f"{path}/{name}", read(name), size)
            if images is None:
                check_fits(path, len(chosen) * image.size)
                images = np.empty((len(chosen), *image.shape), dtype=np.uint8)
            if image.shape != images.shape[1:]:
                raise InputError(
                    f"the images of {shown(path)} differ in size: {shown(chosen[0])} is {_extent(images[0])}, "
                    f"{shown(name)} is {_extent(image)}. Give a size to bring them to."
                )
            images[row] = image
            progress.advance()
    assert images is not None
    labels, classes = _folder_labels(files, chosen)
    return LoadedImages(images, labels, classes, tuple(chosen))


def _folder_labels(files: list[str], chosen: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    classes = sorted({PurePosixPath(name).parent.name for name in files})
    if len(classes) < 2:
        return None, ()
    return np.array(
        [classes.index(PurePosixPath(name).parent.name) for name in chosen], dtype=np.int64
    ), tuple(classes)


def _extent(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _decode(where: str, data: bytes, size: int | None) -> np.ndarray:
    """One picture as (height, width, 3) uint8."""
    from PIL import Image, UnidentifiedImageError

    with refusing(where, _WHAT), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(BytesIO(data), formats=_FORMATS)
        except UnidentifiedImageError:
            raise InputError(
                f"{shown(where)} is no picture in one of the formats {', '.join(_FORMATS)}. Convert or remove it."
            ) from None
        with image:
            width, height = image.size
            if width * height > _MOST_PIXELS:
                raise InputError(
                    f"refused {shown(where)}: it claims {width} x {height} pixels, more than the {_MOST_PIXELS} accepted. "
                    "Make it smaller."
                )
            if image.mode not in _EIGHT_BIT_MODES:
                raise InputError(
                    f"refused {shown(where)}: its pixels ({image.mode}) have more than 8 bits. Convert it to 8 bits."
                )
            return np.asarray(_central_square(image.convert("RGB"), size))


def _central_square(image: Image, size: int | None) -> Image:
    if size is None:
        return image
    from PIL.Image import Resampling

    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Resampling.BILINEAR)


def _from_arrays(path: Path, limit: int | None, size: int | None) -> LoadedImages:
    arrays = load_arrays(path)
    candidates = ["x", "images", *(name for name, array in arrays.items() if array.ndim == 4)]
    key = next((name for name in candidates if name in arrays), None)
    if key is None:
        found = ", ".join(f"{shown(name)} {array.shape}" for name, array in list(arrays.items())[:12])
        raise InputError(
            f"expected {shown(path)} to hold images under 'x' or 'images', or a 4-d array, but it holds {found}."
        )
    n = len(arrays[key]) if arrays[key].ndim else 0
    if n == 0:
        raise InputError(
            f"the images in {shown(path)} ('{shown(key)}') are an empty array. Give at least one."
        )
    rows = _spread(n, limit)
    images = as_uint8_images(arrays[key][rows], what=f"'{shown(key)}' of {shown(path)}")
    if size is not None and images.shape[1:3] != (size, size):
        from PIL import Image

        images = np.stack([np.asarray(_central_square(Image.fromarray(image), size)) for image in images])
    label_key = next((key for key in ("y", "labels") if key in arrays), None)
    if label_key is None:
        return LoadedImages(images, None, (), ())
    values = arrays[label_key]
    if values.shape[:1] != (n,):
        raise InputError(
            f"{shown(path)} has {n} images and labels of shape {values.shape}; they must be as many."
        )
    names = arrays["classes"].tolist() if "classes" in arrays and arrays["classes"].ndim == 1 else None
    labels, classes = encode_labels(path, values, names)
    return LoadedImages(images, labels[rows], classes, ())
