import gzip
import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from dosimeter import data
from dosimeter.core.errors import InputError

real_data = [
    pytest.mark.real_data,
    pytest.mark.skipif("DOSIMETER_DATA" not in os.environ, reason="DOSIMETER_DATA is not set"),
]
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def jpeg(colour, size=(32, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DOSIMETER_DATA", str(tmp_path))
    for name in ("cifar10", "fashion_mnist", "camvid", "text"):
        (tmp_path / name).mkdir()
    with zipfile.ZipFile(tmp_path / "cifar10/cifar10_jpg.zip", "w") as archive:
        for number, label in enumerate(CIFAR):
            archive.writestr(f"test/{label}/2.jpg", jpeg((number * 20, 0, 0)))
            archive.writestr(f"test/{label}/1.jpg", jpeg((number * 20, 255, 0)))
            archive.writestr(f"train/{label}/1.jpg", jpeg((0, 0, 0)))
    return tmp_path


def test_cifar10_reads_one_split_in_order(folder):
    found = data.load("cifar10", split="test")
    assert found.inputs.shape == (20, 32, 32, 3)
    assert found.labels.tolist() == [number for number in range(10) for _ in range(2)]
    colours = found.inputs[:, 5, 5].astype(int)
    np.testing.assert_allclose(colours[:, 0], found.labels * 20, atol=6)
    np.testing.assert_allclose(colours[::2, 1], 255, atol=6)
    assert len(data.load("cifar10", split="train")) == 10


def test_camvid_groups_are_drives(folder):
    with zipfile.ZipFile(folder / "camvid/camvid_240x180.zip", "w") as archive:
        for name in ("0001TP_1", "0006R0_1", "0001TP_2"):
            archive.writestr(f"val/{name}.jpg", jpeg((0, 0, 0), (24, 18)))
    assert data.load("camvid", split="val").groups.tolist() == [0, 0, 1]


def test_text_sets(folder):
    rows = [
        {"text": f"{split} {i}", "label": i % 2, "split": split}
        for split in ("train", "dev")
        for i in range(4)
    ]
    with gzip.open(folder / "text/sst2.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)))
    found = data.load("sst2", split="dev")
    assert found.inputs == [f"dev {i}" for i in range(4)] and found.labels.tolist() == [0, 1, 0, 1]


def test_broken_files_are_named(folder):
    (folder / "cifar10/cifar10_jpg.zip").write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"cannot read images from .*cifar10_jpg.zip.*Fetch the file again"):
        data.load("cifar10")
    np.savez(folder / "fashion_mnist/fashion_mnist.npz", x_train=np.zeros((2, 28, 28), np.uint8))
    with pytest.raises(InputError, match=r"cannot read x_train and y_train from .*fashion_mnist.npz"):
        data.load("fashion-mnist")
    (folder / "text/ag_news_test.jsonl.gz").write_bytes(gzip.compress(b"{broken")[:-3])
    with pytest.raises(InputError, match=r"cannot read text and label from .*ag_news_test.jsonl.gz"):
        data.load("ag-news", split="test")


def test_images_of_other_kinds_or_sizes_are_refused(folder):
    path = folder / "camvid/camvid_240x180.zip"
    with zipfile.ZipFile(folder / "cifar10/cifar10_jpg.zip", "a") as archive:
        archive.writestr("test/lorry/1.jpg", jpeg((0, 0, 0)))
    with pytest.raises(InputError, match=r"no class of CIFAR-10: lorry"):
        data.load("cifar10", split="test")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(InputError, match=r"holds no .jpg images under train/"):
        data.load("camvid")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train/a_1.jpg", jpeg((0, 0, 0)))
        archive.writestr("train/b_1.jpg", jpeg((0, 0, 0), (16, 16)))
    with pytest.raises(InputError, match=r"cannot read images from .*camvid"):
        data.load("camvid")


@pytest.mark.parametrize(
    ("name", "options", "n", "shape", "classes"),
    [
        pytest.param(*case, marks=real_data, id=f"{case[0]}-{'-'.join(case[1].values())}")
        for case in (
            ("cifar10", {"split": "test"}, 4000, (32, 32, 3), 10),
            ("fashion-mnist", {"split": "test"}, 5000, (28, 28, 3), 10),
            ("image-samples", {"set": "imagenet"}, 20, (224, 224, 3), 1000),
            ("image-samples", {"set": "fashion-mnist"}, 20, (28, 28, 3), 10),
            ("flickr8k", {}, 1000, (128, 128, 3), 0),
            ("camvid", {"split": "val"}, 101, (180, 240, 3), 0),
            ("ag-news", {"split": "test"}, 7600, None, 4),
            ("sst2", {"split": "dev"}, 872, None, 2),
        )
    ],
)
def test_real_sets(name, options, n, shape, classes):
    found = data.load(name, **options)
    assert len(found) == n and len(found.classes) == classes
    if shape is not None:
        assert found.inputs.shape[1:] == shape
    if name == "cifar10":
        assert np.bincount(found.labels).tolist() == [400] * 10
