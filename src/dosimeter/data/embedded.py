"""Real data that comes with scikit-learn, so it is there without network or folder."""

from __future__ import annotations

import numpy as np

from dosimeter.core.errors import InputError
from dosimeter.core.seeding import rng
from dosimeter.data.dataset import Dataset
from dosimeter.data.images import patches, resize


def digits(*, size: int | None = None) -> Dataset:
    """1,797 handwritten digits, grey 8x8 in the source (0..16, scaled to 0..255); ``size`` resizes them."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    grey = np.rint(bundle.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    return Dataset(
        name="digits",
        modality="image",
        inputs=images if size is None else resize(images, size),
        labels=bundle.target,
        classes=tuple("0123456789"),
        licence="CC BY 4.0",
        source="scikit-learn load_digits (UCI optical recognition of handwritten digits, test part)",
    )


def breast_cancer() -> Dataset:
    """569 tumours with 30 measured features each, malignant (0) or benign (1)."""
    from sklearn.datasets import load_breast_cancer

    bundle = load_breast_cancer()
    return Dataset(
        name="breast-cancer",
        modality="table",
        inputs=bundle.data,
        labels=bundle.target,
        classes=tuple(str(name) for name in bundle.target_names),
        licence="CC BY 4.0",
        source="scikit-learn load_breast_cancer (UCI breast cancer Wisconsin, diagnostic)",
    )


def photographs(*, n: int = 1000, size: int = 32, seed: int = 0) -> Dataset:
    """``n`` random patches of scikit-learn's two photographs (a temple, a flower), ``size`` pixels square.

    Labels say which photograph; groups are tiles of a 4 x 4 grid over each, so that the parts of a split share no pixel.
    """
    from sklearn.datasets import load_sample_image

    if n < 1 or size < 1:
        raise InputError(
            f"expected photographs with n and size of at least 1, but got n = {n}, size = {size}."
        )
    sources = [load_sample_image(f"{name}.jpg") for name in ("china", "flower")]
    images, labels, groups = patches(sources, n=n, size=size, generator=rng(seed, "photographs"))
    return Dataset(
        name="photographs",
        modality="image",
        inputs=images,
        labels=labels,
        classes=("china", "flower"),
        groups=groups,
        licence="CC BY 2.0",
        source=f"scikit-learn load_sample_images (Flickr photographs of danielbuechele and vultilion), {n} patches, seed {seed}",
    )
