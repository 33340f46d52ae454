"""Data sets by name or path: what is embedded, the folder named by ``DOSIMETER_DATA``, then the public loader."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dosimeter.core.errors import InputError
from dosimeter.data import embedded, public
from dosimeter.data.dataset import Dataset

_NAMED: dict[str, Callable[..., Dataset]] = {
    "digits": embedded.digits,
    "breast-cancer": embedded.breast_cancer,
    "photographs": embedded.photographs,
    "cifar10": public.cifar10,
    "fashion-mnist": public.fashion_mnist,
    "image-samples": public.image_samples,
    "flickr8k": public.flickr8k,
    "camvid": public.camvid,
    "ag-news": public.ag_news,
    "sst2": public.sst2,
}
_IMAGE_SUFFIXES = (".npz", ".npy", ".zip")
_TEXT_SUFFIXES = (".jsonl", ".jsonl.gz", ".txt")
_TABLE_SUFFIXES = (".csv", ".parquet")


def known_names() -> list[str]:
    """Names that :func:`load` knows, embedded ones first."""
    return list(_NAMED)


def load(name_or_path: str | Path, **options: Any) -> Dataset:
    """A data set by name, or from a file or folder of the user's.

    A string is taken as a name where it is one, else as a path; a ``Path`` always as a path. Names and their options:
    digits (size), breast-cancer, photographs (n, size, seed), cifar10, fashion-mnist, ag-news, camvid (split), sst2
    (split: train, dev, test), image-samples (set), flickr8k. Options of files:

    - images (.npz, image folder, .zip): ``limit`` (at most so many), ``size`` (side in pixels);
    - text (.jsonl, .jsonl.gz, .txt, or .csv with ``text``): ``text``, ``label``, ``group`` (column names);
    - tables (.csv, .parquet): ``label``, ``group`` (column names).

    Raises:
        InputError: neither a known name (with the nearest ones) nor a file, an option that the set does not have, or
            data that is missing or cannot be read.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in _NAMED:
        return _call(name, _NAMED[name], options)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(path.name.lower().replace("_", "-"), _NAMED, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Names are: {', '.join(_NAMED)}."
        raise InputError(f"there is no data set or file '{name}'. {hint}")
    lower = path.name.lower()
    if path.is_dir() or lower.endswith(_IMAGE_SUFFIXES):
        return _call(name, _images, options, path)
    if lower.endswith(_TEXT_SUFFIXES) or "text" in options:
        return _call(name, _texts, options, path)
    if lower.endswith(_TABLE_SUFFIXES):
        return _call(name, _table, options, path)
    known = ", ".join((*_IMAGE_SUFFIXES, *_TEXT_SUFFIXES, *_TABLE_SUFFIXES))
    raise InputError(
        f"expected {path} to be an image folder or a file ending in {known}. Convert it to one of these."
    )


def _call(name: str, make: Callable[..., Dataset], options: dict[str, Any], *path: Path) -> Dataset:
    parameters = inspect.signature(make).parameters.values()
    accepted = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in accepted:
            raise InputError(
                f"data '{name}' has no option '{option}'; it has {', '.join(accepted) if accepted else 'none'}."
            )
    return make(*path, **options)


def _images(path: Path, *, limit: int | None = None, size: int | None = None) -> Dataset:
    from dosimeter.loading.images import load_images

    found = load_images(path, limit=limit, size=size)
    return Dataset(
        name=path.name,
        modality="image",
        inputs=found.images,
        labels=found.labels,
        classes=found.classes,
        source=str(path),
    )


def _texts(
    path: Path, *, text: str | None = None, label: str | None = None, group: str | None = None
) -> Dataset:
    from dosimeter.loading.text import load_text

    found = load_text(path, text=text, label=label)
    groups = None
    if group is not None:
        if group not in found.columns:
            raise InputError(
                f"{path} has no column '{group}' to group by; it has {', '.join(map(str, found.columns))}."
            )
        groups = np.unique([str(value) for value in found.columns[group]], return_inverse=True)[1]
    return Dataset(
        name=path.name,
        modality="text",
        inputs=found.texts,
        labels=found.labels,
        classes=found.classes,
        groups=groups,
        source=str(path),
    )


def _table(path: Path, *, label: str | None = None, group: str | None = None) -> Dataset:
    from dosimeter.loading.tables import load_table

    found = load_table(path, label=label)
    features, groups = found.features, None
    if group is not None:
        if group not in found.columns:
            raise InputError(
                f"{path} has no column '{group}' to group by; it has {', '.join(found.columns)}."
            )
        column = found.columns.index(group)
        groups = np.unique(features[:, column], return_inverse=True)[1]
        features = np.delete(features, column, axis=1)
    return Dataset(
        name=path.name,
        modality="table",
        inputs=features,
        labels=found.labels,
        classes=found.classes,
        groups=groups,
        source=str(path),
    )
