import numpy as np
import pytest
from PIL import Image

from dosimeter.core.errors import InputError
from dosimeter.data.images import patches, resize


def test_resize_is_pillow_bilinear_for_each_image():
    images = np.random.default_rng(0).integers(0, 256, (3, 7, 9, 3), dtype=np.uint8)
    resized = resize(images, (5, 4))
    assert resized.shape == (3, 5, 4, 3) and resized.dtype == np.uint8
    for image, small in zip(images, resized):
        expected = np.asarray(Image.fromarray(image).resize((4, 5), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(small, expected)
    assert resize(images[:0], 4).shape == (0, 4, 4, 3)


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (np.zeros((2, 4, 4), np.uint8), 2, r"got shape \(2, 4, 4\)"),
        (np.zeros((2, 4, 4, 3)), 2, "type float64"),
        (np.zeros((2, 4, 4, 3), np.uint8), 0, "at least 1 pixel, but got 0"),
    ],
)
def test_resize_refuses(images, size, message):
    with pytest.raises(InputError, match=message):
        resize(images, size)


def test_patches_of_different_groups_share_no_pixel():
    """Every tile has a colour of its own, so a patch that leaves its tile would show two colours."""
    tiles, tile = 4, 25
    photographs = []
    for source in range(2):
        colours = np.arange(tiles * tiles).reshape(tiles, tiles) * 8 + source
        grey = np.kron(colours, np.ones((tile, tile))).astype(np.uint8)
        photographs.append(np.repeat(grey[..., None], 3, axis=-1))
    images, sources, groups = patches(
        photographs, n=300, size=6, generator=np.random.default_rng(0), tiles=tiles, scale=(0.05, 0.3)
    )
    assert images.shape == (300, 6, 6, 3)
    assert np.ptp(images.reshape(300, -1), axis=1).max() == 0
    np.testing.assert_array_equal(images[:, 0, 0, 0], (groups % (tiles * tiles)) * 8 + sources)
    np.testing.assert_array_equal(np.bincount(sources), [150, 150])
    assert len(np.unique(groups)) == 2 * tiles * tiles


def test_patches_refuse_none():
    with pytest.raises(InputError, match="n = 0"):
        patches([np.zeros((8, 8, 3), np.uint8)], n=0, size=4, generator=np.random.default_rng(0))
