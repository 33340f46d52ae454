"""Public data sets: read from the folder named by ``DOSIMETER_DATA``, else through the ``datasets`` package.

Layout of the folder, one line a set: ``cifar10/cifar10_jpg.zip`` (train|test/<class>/*.jpg),
``fashion_mnist/fashion_mnist.npz``, ``image_samples/labelled_samples.npz``, ``captions/images_128.zip``,
``camvid/camvid_240x180.zip``, ``text/ag_news_{train,test}.jsonl.gz``, ``text/sst2.jsonl.gz``.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dosimeter.core.errors import InputError
from dosimeter.core.progress import track
from dosimeter.core.records import as_uint8_images
from dosimeter.data.dataset import Dataset

VARIABLE = "DOSIMETER_DATA"

_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_AG_NEWS = ("World", "Sports", "Business", "Sci/Tech")
_SST2 = ("negative", "positive")


def cifar10(*, split: str = "train") -> Dataset:
    """CIFAR-10, 32x32; from the folder as JPEG (train 12,000, test 4,000), from the hub lossless and whole."""
    _check_choice("cifar10", "split", split, ("train", "test"))
    make = partial(
        _image_dataset, f"cifar10 {split}", classes=_CIFAR10, licence="free for research (Krizhevsky 2009)"
    )
    path = data_file("cifar10/cifar10_jpg.zip")
    if path is None:
        columns = _hub("cifar10", "cifar10/cifar10_jpg.zip", "uoft-cs/cifar10", split)
        images = np.stack([np.asarray(image.convert("RGB")) for image in columns["img"]])
        return make(images, np.asarray(columns["label"]), source="uoft-cs/cifar10")
    members, images = read_zip_images(path, f"{split}/", ".jpg")
    folders = [member.split("/")[1] for member in members]
    if unknown := set(folders) - set(_CIFAR10):
        raise InputError(f"{path} holds folders that are no class of CIFAR-10: {', '.join(sorted(unknown))}.")
    labels = np.array([_CIFAR10.index(folder) for folder in folders])
    return make(images, labels, source="cifar10_jpg.zip (JPEG, subset)")


def fashion_mnist(*, split: str = "train") -> Dataset:
    """Fashion-MNIST, 28x28 grey as RGB; from the folder train 20,000 and test 5,000, from the hub whole."""
    _check_choice("fashion-mnist", "split", split, ("train", "test"))
    path = data_file("fashion_mnist/fashion_mnist.npz")
    classes: tuple[str, ...] = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
    classes += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    make = partial(_image_dataset, f"fashion-mnist {split}", classes=classes, licence="MIT")
    if path is None:
        columns = _hub(
            "fashion-mnist", "fashion_mnist/fashion_mnist.npz", "zalando-datasets/fashion_mnist", split
        )
        images = np.stack([np.asarray(image) for image in columns["image"]])
        return make(images, np.asarray(columns["label"]), source="zalando-datasets/fashion_mnist")
    arrays = _read_npz(path, f"x_{split}", f"y_{split}")
    return make(arrays[0], arrays[1], source="fashion_mnist.npz (subset)")


def image_samples(*, set: str = "imagenet") -> Dataset:
    """20 labelled images of ``set``: imagenet (224x224), cifar10, cifar100, mnist or fashion-mnist; lossless but ImageNet."""
    keys = {name: name for name in ("imagenet", "cifar10", "cifar100", "mnist")}
    keys["fashion-mnist"] = "fashionMNIST"
    _check_choice("image-samples", "set", set, tuple(keys))
    path = required_file("image-samples", "image_samples/labelled_samples.npz")
    images, labels = _read_npz(path, f"x_{keys[set]}", f"y_{keys[set]}")
    count = {"imagenet": 1000, "cifar100": 100}.get(set, 10)
    classes = _CIFAR10 if set == "cifar10" else tuple(str(number) for number in range(count))
    return _image_dataset(
        f"image-samples {set}",
        images,
        labels,
        classes=classes,
        licence="for research",
        source="bethgelab/foolbox samples",
    )


def flickr8k() -> Dataset:
    """1,000 photographs of Flickr8k, 128x128, unlabelled."""
    path = required_file("flickr8k", "captions/images_128.zip")
    return Dataset(
        name="flickr8k",
        modality="image",
        inputs=read_zip_images(path, "flickr8k/", ".jpg")[1],
        licence="non-commercial research and education",
        source="Flickr8k (Hodosh et al. 2013), 1,000 images",
    )


def camvid(*, split: str = "train") -> Dataset:
    """Street scenes of CamVid, 240x180, unlabelled; groups are the drives they were filmed in."""
    _check_choice("camvid", "split", split, ("train", "val", "test"))
    path = required_file("camvid", "camvid/camvid_240x180.zip")
    members, images = read_zip_images(path, f"{split}/", ".jpg")
    drives = [Path(member).name.partition("_")[0] for member in members]
    return Dataset(
        name=f"camvid {split}",
        modality="image",
        inputs=images,
        groups=np.unique(drives, return_inverse=True)[1],
        licence="academic research use",
        source="CamVid (Brostow et al. 2008)",
    )


def ag_news(*, split: str = "train") -> Dataset:
    """AG News, four topics; the folder's train part is a subset of 13,757 texts, its test part the official one."""
    _check_choice("ag-news", "split", split, ("train", "test"))
    make = partial(_text_dataset, f"ag-news {split}", classes=_AG_NEWS, licence="non-commercial research")
    path = data_file(f"text/ag_news_{split}.jsonl.gz")
    if path is None:
        columns = _hub("ag-news", f"text/ag_news_{split}.jsonl.gz", "fancyzhx/ag_news", split)
        return make(list(columns["text"]), columns["label"], source="fancyzhx/ag_news")
    rows = _read_jsonl(path, "text", "label")
    return make([text for text, _ in rows], [label for _, label in rows], source=path.name)


def sst2(*, split: str = "train") -> Dataset:
    """SST-2, sentences of film reviews, negative or positive; the hub's test part has no labels and is refused."""
    _check_choice("sst2", "split", split, ("train", "dev", "test"))
    make = partial(
        _text_dataset, f"sst2 {split}", classes=_SST2, licence="research (Stanford Sentiment Treebank)"
    )
    path = data_file("text/sst2.jsonl.gz")
    if path is None:
        if split == "test":
            raise InputError(
                f"sst2 test is read from text/sst2.jsonl.gz in the folder named by {VARIABLE}, which is not there; "
                "the public copy has no test labels. Use split='dev'."
            )
        columns = _hub(
            "sst2", "text/sst2.jsonl.gz", "stanfordnlp/sst2", "validation" if split == "dev" else split
        )
        return make(list(columns["sentence"]), columns["label"], source="stanfordnlp/sst2")
    rows = [row for row in _read_jsonl(path, "text", "label", "split") if row[2] == split]
    return make([row[0] for row in rows], [row[1] for row in rows], source=path.name)


def data_file(relative: str) -> Path | None:
    """``relative`` inside the folder named by ``DOSIMETER_DATA``, or ``None`` if it is not there.

    Raises:
        InputError: the variable is set to something that is not a folder.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise InputError(f"{VARIABLE} is set to '{named}', which is not a folder. Correct it or unset it.")
    path = folder / relative
    return path if path.exists() else None


def read_zip_images(path: Path, prefix: str, suffix: str) -> tuple[list[str], np.ndarray]:
    """All images of one size under ``prefix`` in a zip, sorted by name: names, and (n, h, w, 3) uint8.

    Raises:
        InputError: not a zip, no such images, a broken image, or images of different sizes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(
                name for name in archive.namelist() if name.startswith(prefix) and name.endswith(suffix)
            )
            images = None
            with track(f"reading {path.name}", len(members)) as bar:
                for index, member in enumerate(members):
                    image = np.asarray(Image.open(io.BytesIO(archive.read(member))).convert("RGB"))
                    if images is None:
                        images = np.empty((len(members), *image.shape), np.uint8)
                    images[index] = image
                    if index % 500 == 499:
                        bar.advance(500)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read images from {path}: {error}. Fetch the file again.") from error
    if images is None:
        raise InputError(f"{path} holds no {suffix} images under {prefix}. Fetch the file again.")
    return members, images


def _read_npz(path: Path, *keys: str) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[key] for key in keys]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"cannot read {' and '.join(keys)} from {path}: {error}. Fetch the file again."
        ) from error


def _read_jsonl(path: Path, *keys: str) -> list[tuple[Any, ...]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return [tuple(row[key] for key in keys) for row in rows]
    except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"cannot read {' and '.join(keys)} from {path}: {error}. Fetch the file again."
        ) from error


def _image_dataset(
    name: str, images: np.ndarray, labels: Any, *, classes: tuple[str, ...], licence: str, source: str
) -> Dataset:
    return Dataset(
        name=name,
        modality="image",
        inputs=as_uint8_images(images),
        labels=np.asarray(labels),
        classes=classes,
        licence=licence,
        source=source,
    )


def _text_dataset(
    name: str, texts: list[str], labels: Any, *, classes: tuple[str, ...], licence: str, source: str
) -> Dataset:
    return Dataset(
        name=name,
        modality="text",
        inputs=texts,
        labels=np.asarray(labels),
        classes=classes,
        licence=licence,
        source=source,
    )


def _check_choice(name: str, option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(
            f"expected {option} of data '{name}' to be {' or '.join(choices)}, but got {value!r}."
        )


def required_file(name: str, relative: str) -> Path:
    """``relative`` inside the folder named by ``DOSIMETER_DATA``; ``name`` says for what, in the error.

    Raises:
        InputError: it is not there, or the variable names no folder.
    """
    path = data_file(relative)
    if path is None:
        raise InputError(f"{_missing(name, relative)}.")
    return path


def _missing(name: str, relative: str) -> str:
    folder = os.environ.get(VARIABLE)
    where = f"{relative} is not in {folder}" if folder else f"{VARIABLE} is not set"
    return f"data '{name}' is not here: {where}. Set {VARIABLE} to a folder that holds {relative}"


def _hub(name: str, relative: str, repository: str, split: str) -> Any:
    """The split from the Hugging Face hub or its local cache, column by column."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError(
            f"{_missing(name, relative)}, or run 'pip install datasets' to fetch {repository} from the Hugging Face hub."
        ) from error
    load: Callable[..., Any] = load_dataset
    try:
        return load(repository, split=split)
    except Exception as error:
        raise InputError(
            f"{_missing(name, relative)}; fetching {repository} from the Hugging Face hub failed: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}."
        ) from error
