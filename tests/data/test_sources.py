import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

from dosimeter import data
from dosimeter.core.errors import InputError


@pytest.fixture
def no_folder(monkeypatch):
    monkeypatch.delenv("DOSIMETER_DATA", raising=False)


def test_digits_are_those_of_scikit_learn():
    found, reference = data.load("digits"), load_digits()
    assert found.inputs.shape == (1797, 8, 8, 3) and found.inputs.dtype == np.uint8
    np.testing.assert_allclose(found.inputs[..., 0] / 255 * 16, reference.images, atol=0.04)
    np.testing.assert_array_equal(found.labels, reference.target)
    assert found.inputs.max() == 255 and found.classes[7] == "7"
    assert data.load("digits", size=16).inputs.shape == (1797, 16, 16, 3)


def test_breast_cancer_is_the_table_of_scikit_learn():
    found, reference = data.load("breast-cancer"), load_breast_cancer()
    np.testing.assert_array_equal(found.inputs, reference.data)
    assert found.classes == ("malignant", "benign")


def test_photographs_depend_on_the_seed_and_split_by_tile():
    found = data.load("photographs", n=400, size=16, seed=1)
    assert found.inputs.shape == (400, 16, 16, 3)
    assert found.digest == data.load("photographs", n=400, size=16, seed=1).digest
    assert found.digest != data.load("photographs", n=400, size=16, seed=2).digest
    first, second = found.split([0.5, 0.5], seed=0)
    assert not set(first.groups) & set(second.groups)
    assert set(first.labels) == set(second.labels) == {0, 1}
    assert 150 < len(first) < 250


@pytest.mark.parametrize("options", [{"n": 0}, {"size": 0}])
def test_photographs_refuse_nothing(options):
    with pytest.raises(InputError, match="at least 1"):
        data.load("photographs", **options)


def test_unknown_names_come_with_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"no data set or file '.*/digit'. Did you mean digits"):
        data.load(tmp_path / "digit")
    with pytest.raises(InputError, match=r"no data set or file 'cifar-10'. Did you mean cifar10"):
        data.load("cifar-10")
    with pytest.raises(InputError, match=r"Names are: digits, breast-cancer"):
        data.load("qqqq")


def test_unknown_options_are_named():
    with pytest.raises(InputError, match=r"'digits' has no option 'split'; it has size"):
        data.load("digits", split="test")
    with pytest.raises(InputError, match=r"'breast-cancer' has no option 'seed'; it has none"):
        data.load("breast-cancer", seed=1)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar10/cifar10_jpg.zip"),
        ("fashion-mnist", "fashion_mnist/fashion_mnist.npz"),
        ("ag-news", "text/ag_news_train.jsonl.gz"),
        ("sst2", "text/sst2.jsonl.gz"),
    ],
)
def test_missing_public_data_says_how_to_get_it(no_folder, monkeypatch, tmp_path, name, file):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        InputError, match=rf"DOSIMETER_DATA is not set.*holds {file}, or run 'pip install datasets'"
    ):
        data.load(name)
    monkeypatch.setenv("DOSIMETER_DATA", str(tmp_path))
    with pytest.raises(InputError, match=rf"{file} is not in {tmp_path}"):
        data.load(name)
    monkeypatch.setenv("DOSIMETER_DATA", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"DOSIMETER_DATA is set to '.*absent', which is not a folder"):
        data.load(name)


@pytest.mark.parametrize("name", ["image-samples", "flickr8k", "camvid"])
def test_sets_without_public_loader_say_which_file_is_missing(no_folder, name):
    with pytest.raises(InputError, match=rf"data '{name}' is not here: DOSIMETER_DATA is not set"):
        data.load(name)


def test_split_and_set_are_checked_before_anything_is_read(no_folder):
    with pytest.raises(InputError, match="split of data 'cifar10' to be train or test, but got 'dev'"):
        data.load("cifar10", split="dev")
    with pytest.raises(InputError, match="set of data 'image-samples' to be imagenet or"):
        data.load("image-samples", set="svhn")
    with pytest.raises(InputError, match=r"no test labels\. Use split='dev'"):
        data.load("sst2", split="test")


def test_public_loader_is_used_where_the_folder_has_nothing(no_folder, monkeypatch):
    asked = []

    def load_dataset(repository, split):
        asked.append((repository, split))
        if "cifar10" in repository:
            return {"img": [Image.new("RGB", (32, 32), (9, 8, 7))] * 2, "label": [3, 1]}
        if "fashion" in repository:
            return {"image": [Image.new("L", (28, 28), 5)] * 2, "label": [9, 0]}
        return {"text": ["one", "two"], "sentence": ["good", "bad"], "label": [1, 0]}

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    cifar = data.load("cifar10", split="test")
    assert cifar.inputs[0, 0, 0].tolist() == [9, 8, 7] and cifar.labels.tolist() == [3, 1]
    assert data.load("fashion-mnist").inputs.shape == (2, 28, 28, 3)
    assert data.load("ag-news", split="test").inputs == ["one", "two"]
    assert data.load("sst2", split="dev").inputs == ["good", "bad"]
    assert asked == [
        ("uoft-cs/cifar10", "test"),
        ("zalando-datasets/fashion_mnist", "train"),
        ("fancyzhx/ag_news", "test"),
        ("stanfordnlp/sst2", "validation"),
    ]

    def offline(repository, split):
        raise ConnectionError("no route to host\nsecond line")

    module.load_dataset = offline
    with pytest.raises(InputError, match=r"Hugging Face hub failed: ConnectionError: no route to host\.$"):
        data.load("cifar10")


def test_image_files(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "some.npz", x=images, y=np.array([0, 1, 0, 1, 0, 1]))
    found = data.load(tmp_path / "some.npz")
    np.testing.assert_array_equal(found.inputs, images)
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1] and found.modality == "image"
    assert len(data.load(str(tmp_path / "some.npz"), limit=4, size=4)) == 4
    with pytest.raises(InputError, match="no option 'label'; it has limit, size"):
        data.load(tmp_path / "some.npz", label="y")


def test_text_files_with_groups(tmp_path):
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "author": f"p{i // 2}"} for i in range(8)]
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = data.load(path, text="text", label="label", group="author")
    assert found.inputs[3] == "text 3" and found.classes == ("a", "b")
    assert found.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(InputError, match="no column 'writer' to group by; it has"):
        data.load(path, text="text", group="writer")


def test_tables_with_groups(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("age,ward,sick\n30,1,0\n40,1,1\n50,2,0\n", encoding="utf-8")
    found = data.load(path, label="sick", group="ward")
    np.testing.assert_array_equal(found.inputs, [[30], [40], [50]])
    assert found.labels.tolist() == [0, 1, 0] and found.groups.tolist() == [0, 0, 1]
    with pytest.raises(InputError, match="no column 'clinic' to group by; it has age, ward"):
        data.load(path, label="sick", group="clinic")


def test_files_of_unknown_kind_are_refused(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"model.pkl to be an image folder or a file ending in .npz"):
        data.load(path)


def test_importing_data_loads_nothing_heavy():
    code = "import sys, dosimeter.data; print([m for m in ('torch', 'sklearn', 'PIL', 'numpy') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
