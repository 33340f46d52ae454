import zipfile

import numpy as np
import pytest
from PIL import Image

from dosimeter.core.errors import InputError
from dosimeter.core.progress import listening
from dosimeter.loading.images import load_images

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for row, name in enumerate(
        ["cat/1.png", "cat/2.png", "cat/3.png", "cat/4.PNG", "dog/1.bmp", "dog/x/2.png"]
    ):
        path = tmp_path / "images" / name.replace("x/", "")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[row]).save(path)
    (tmp_path / "images" / "readme.txt").write_text("text")
    (tmp_path / "images" / ".hidden.png").write_bytes(b"noise")
    return tmp_path / "images"


def test_folders_are_classes(folder):
    loaded = load_images(folder)
    np.testing.assert_array_equal(loaded.images, PIXELS)
    assert loaded.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert loaded.labels.dtype == np.int64
    assert loaded.classes == ("cat", "dog")
    assert loaded.files == ("cat/1.png", "cat/2.png", "cat/3.png", "cat/4.PNG", "dog/1.bmp", "dog/2.png")


def test_an_archive_is_read_like_its_folder(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, f"top/{path.relative_to(folder)}")
        file.writestr("__MACOSX/top/cat/._1.png", b"noise")
    loaded, expected = load_images(tmp_path / "images.zip"), load_images(folder)
    np.testing.assert_array_equal(loaded.images, expected.images)
    assert loaded.classes == expected.classes
    assert loaded.labels.tolist() == expected.labels.tolist()


def test_a_limit_keeps_the_share_of_every_class(folder):
    loaded = load_images(folder, limit=3)
    assert loaded.files == ("cat/1.png", "cat/3.png", "dog/1.bmp")
    assert loaded.classes == ("cat", "dog")
    assert len(load_images(folder, limit=100).images) == 6


def test_one_folder_has_no_labels(folder):
    loaded = load_images(folder / "cat")
    assert loaded.labels is None
    assert loaded.classes == ()


def test_a_size_brings_the_central_square_there(tmp_path):
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 200
    Image.fromarray(wide).save(tmp_path / "a.png")
    Image.fromarray(np.full((40, 20, 3), 200, dtype=np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"a\.png is 30 x 10, b\.png is 20 x 40\. Give a size"):
        load_images(tmp_path)
    loaded = load_images(tmp_path, size=5)
    np.testing.assert_array_equal(loaded.images, np.full((2, 5, 5, 3), 200))


def test_grey_palette_and_transparent_pictures_become_rgb(tmp_path):
    grey = Image.fromarray(np.full((4, 4), 9, dtype=np.uint8))
    grey.save(tmp_path / "a.png")
    grey.convert("P").save(tmp_path / "b.gif")
    grey.convert("RGBA").save(tmp_path / "c.webp", lossless=True)
    np.testing.assert_array_equal(load_images(tmp_path).images, np.full((3, 4, 4, 3), 9))


def test_arrays(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=PIXELS, y=np.arange(6) % 3, classes=np.array(["a", "b", "c"]))
    loaded = load_images(path, limit=2)
    np.testing.assert_array_equal(loaded.images, PIXELS[[0, 3]])
    assert (loaded.labels.tolist(), loaded.classes) == ([0, 0], ("a", "b", "c"))
    np.savez(path, other=np.moveaxis(PIXELS, -1, 1) / 255, labels=np.array(list("abcabc")))
    loaded = load_images(path)
    np.testing.assert_array_equal(loaded.images, PIXELS)
    assert (loaded.labels.tolist(), loaded.classes) == ([0, 1, 2, 0, 1, 2], ("a", "b", "c"))
    np.savez(path, images=PIXELS[..., 0])
    loaded = load_images(path, size=4)
    assert loaded.images.shape == (6, 4, 4, 3)
    assert loaded.labels is None


def test_reading_is_reported(folder):
    events = []
    with listening(events.append):
        load_images(folder)
    assert (events[-1].done, events[-1].total, events[-1].finished) == (6, 6, True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": PIXELS * 1.0}, "expected float 'x' of .* in 0..1"),
        ({"x": PIXELS, "y": np.arange(5)}, "6 images and labels of shape"),
        ({"a": np.arange(3)}, r"images under 'x' or 'images', or a 4-d array, but it holds a \(3,\)"),
        ({"x": PIXELS[:0]}, "empty array"),
    ],
)
def test_unusable_arrays_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load_images(tmp_path / "a.npz")


def test_unusable_calls_are_named(tmp_path):
    with pytest.raises(InputError, match="found no images"):
        load_images(tmp_path)
    with pytest.raises(InputError, match="expected limit to be at least 1, but got 0"):
        load_images(tmp_path, limit=0)
    with pytest.raises(InputError, match="there is no file"):
        load_images(tmp_path / "a.npz")
    Image.new("I;16", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: its pixels \(I;16\) have more than 8 bits"):
        load_images(tmp_path)
    with pytest.raises(
        InputError, match=r"a folder of images, a \.zip of them or a \.npz file, but it ends in '\.png'"
    ):
        load_images(tmp_path / "a.png")
