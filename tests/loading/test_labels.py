import numpy as np
import pytest

from dosimeter.core.errors import InputError
from dosimeter.loading.labels import encode_labels


@pytest.mark.parametrize(
    ("values", "labels", "classes"),
    [
        ([2, 0, 2], [2, 0, 2], ("0", "1", "2")),
        (["2", " 0", "2"], [2, 0, 2], ("0", "1", "2")),
        ([1.0, 0.0], [1, 0], ("0", "1")),
        (np.array([1, 0], dtype=np.uint8), [1, 0], ("0", "1")),
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        (["1", "a"], [0, 1], ("1", "a")),
        ([True, False], [1, 0], ("False", "True")),
        ([], [], ()),
    ],
)
def test_numbers_stay_and_names_are_numbered(values, labels, classes):
    found, names = encode_labels("f", values)
    assert found.dtype == np.int64
    assert found.tolist() == labels
    assert names == classes


def test_given_names_name_the_numbers():
    found, names = encode_labels("f", [2, 0], ["x", "y", "z"])
    assert (found.tolist(), names) == ([2, 0], ("x", "y", "z"))
    found, names = encode_labels("f", ["z", "x"], ["x", "y", "z"])
    assert (found.tolist(), names) == ([2, 0], ("x", "y", "z"))
    with pytest.raises(InputError, match="the label 'w' in f is none of its classes: x, y"):
        encode_labels("f", ["w"], ["x", "y"])
    with pytest.raises(InputError, match=r"class number in 0\.\.1 as its label, but got 2"):
        encode_labels("f", [2], ["x", "y"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, None], "record 2 of f to have a class as its label, but got None"),
        ([""], "but got ''"),
        ([float("nan")], "but got nan"),
        ([[1], 2], r"but got \[1\]"),
        ([0, -1], "but got -1"),
        ([0.5], "but got 0.5"),
        ([float("inf")], "but got inf"),
        (["9" * 5000], "but got inf"),
        ([10**400], "class number in 0..999999"),
        (np.zeros((2, 2)), r"one label per record in f, but the labels have shape \(2, 2\)"),
    ],
)
def test_what_is_no_class_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        encode_labels("f", values)
