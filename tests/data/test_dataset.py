import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dosimeter.core.errors import InputError
from dosimeter.core.records import Prompt
from dosimeter.data import Dataset


def table(labels, groups=None, classes=None):
    """Records that carry their own position, so that parts can be traced back."""
    n = len(labels)
    return Dataset(
        name="toy",
        modality="table",
        inputs=np.arange(n, dtype=float)[:, None],
        labels=np.asarray(labels),
        classes=classes or tuple("abcdefghij"),
        groups=None if groups is None else np.asarray(groups),
    )


def positions(part):
    return part.inputs[:, 0].astype(int)


@settings(max_examples=150, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    group_count=st.integers(1, 20),
    fractions=st.lists(st.floats(0.05, 0.5), min_size=1, max_size=3).filter(lambda f: sum(f) <= 1),
    seed=st.integers(0, 5),
)
def test_split_never_tears_groups_and_every_part_has_every_class(labels, group_count, fractions, seed):
    groups = np.random.default_rng(seed).integers(group_count, size=len(labels))
    data = table(labels, groups)
    try:
        parts = data.split(fractions, seed=seed)
    except InputError as error:
        assert "cannot be split" in str(error) and "without tearing a group" in str(error)
        return
    rows = [set(positions(part)) for part in parts]
    assert sum(map(len, rows)) == len(set.union(*rows))
    kept = [set(part.groups) for part in parts]
    assert sum(map(len, kept)) == len(set.union(*kept))
    for part in parts:
        assert set(part.labels) == set(labels)
        np.testing.assert_array_equal(part.labels, np.asarray(labels)[positions(part)])
        np.testing.assert_array_equal(part.groups, groups[positions(part)])


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(20, 60), min_size=1, max_size=4),
    fractions=st.lists(st.floats(0.06, 0.5), min_size=1, max_size=3).filter(lambda f: sum(f) <= 1),
    seed=st.integers(0, 5),
)
def test_split_without_groups_is_stratified_to_one_record(counts, fractions, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = table(labels).split(fractions, seed=seed)
    for part, fraction in zip(parts, fractions):
        found = np.bincount(part.labels, minlength=len(counts))
        assert (np.abs(found - fraction * np.array(counts)) <= 1 + 1e-9).all()
        assert abs(len(part) - fraction * len(labels)) <= 1.5
    if sum(fractions) == 1:
        assert sum(map(len, parts)) == len(labels)


def test_split_with_many_small_groups_is_close_to_its_shares():
    generator = np.random.default_rng(0)
    groups = generator.integers(100, size=1000)
    labels = generator.integers(3, size=1000)
    first, second = table(labels, groups).split([0.7, 0.3], seed=3)
    assert len(first) + len(second) == 1000
    for part, share in ((first, 0.7), (second, 0.3)):
        np.testing.assert_allclose(np.bincount(part.labels) / np.bincount(labels), share, atol=0.03)


def test_split_depends_on_the_seed_and_on_nothing_else():
    data = table(np.arange(60) % 3)
    again = [positions(part) for part in data.split([0.5, 0.5], seed=1)]
    np.random.seed(7)  # noqa: NPY002 - the global state must not matter
    for part, expected in zip(data.split([0.5, 0.5], seed=1), again):
        np.testing.assert_array_equal(positions(part), expected)
    assert set(positions(data.split([0.5, 0.5], seed=2)[0])) != set(again[0])


def test_split_without_labels_needs_no_classes():
    data = Dataset(name="plain", modality="text", inputs=[str(i) for i in range(10)])
    parts = data.split([0.3, 0.3], seed=0)
    assert [len(part) for part in parts] == [3, 3]
    assert isinstance(parts[0].inputs, list)


@pytest.mark.parametrize("fractions", [[], [0.5, 0.6], [0.5, 0.0], [-0.1, 0.5], [float("nan")]])
def test_split_refuses_bad_fractions(fractions):
    with pytest.raises(InputError, match=r"positive and to sum to at most 1"):
        table([0, 1] * 10).split(fractions, seed=0)


def test_split_names_the_class_that_is_too_small():
    with pytest.raises(InputError, match=r"class 'b' has 1 records"):
        table([0] * 10 + [1]).split([0.5, 0.5], seed=0)
    with pytest.raises(InputError, match=r"class 'b' has 1 groups.*tearing"):
        table([0] * 10 + [1] * 4, groups=[*range(10), 99, 99, 99, 99]).split([0.5, 0.5], seed=0)
    with pytest.raises(InputError, match=r"all of it has 1 records"):
        Dataset(name="one", modality="text", inputs=["x"]).split([0.5, 0.5], seed=0)


def test_digest_is_stable_and_sees_every_change():
    data = table([0, 1, 0, 1])
    assert data.digest == table([0, 1, 0, 1]).digest == data.take(range(4)).digest
    assert data.digest == dataclasses.replace(data, name="other", licence="MIT").digest
    changed = data.inputs.copy()
    changed[2, 0] += 1e-9
    others = [
        dataclasses.replace(data, inputs=changed),
        dataclasses.replace(data, labels=np.array([0, 1, 1, 0])),
        dataclasses.replace(data, labels=None, classes=()),
        data.take([0, 1, 2]),
        data.take([1, 0, 2, 3]),
    ]
    assert len({data.digest, *(other.digest for other in others)}) == 6


def test_digest_of_texts_sees_the_borders_between_them():
    first = Dataset(name="t", modality="text", inputs=["ab", "c"])
    second = Dataset(name="t", modality="text", inputs=["a", "bc"])
    assert first.digest != second.digest


def test_digest_of_prompts_sees_the_images():
    def prompts(value):
        image = np.full((2, 2, 3), value, np.uint8)
        return Dataset(name="p", modality="prompt", inputs=[Prompt("what is it?", (image,))])

    assert prompts(1).digest == prompts(1).digest != prompts(2).digest


def test_grey_images_become_rgb():
    data = Dataset(name="grey", modality="image", inputs=np.zeros((2, 4, 4), np.uint8))
    assert data.inputs.shape == (2, 4, 4, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": np.zeros((0, 3))}, "holds no records"),
        ({"inputs": np.full((4, 2), np.nan)}, "8 values are NaN"),
        ({"inputs": np.zeros((5, 2))}, r"labels of data 'bad' to be 5 whole numbers.*\(4,\)"),
        ({"labels": np.array([0.0, 1, 0, 1])}, "whole numbers.*float64"),
        ({"labels": np.array([0, 1, 2, 0])}, r"in 0\.\.1 \(2 classes\), but got 0\.\.2"),
        ({"labels": np.array([0, 1, -1, 0])}, r"but got -1\.\.1"),
        ({"groups": np.arange(3)}, "groups of data 'bad' to be 4 whole numbers"),
        ({"modality": "image"}, r"data 'bad' to be images"),
    ],
)
def test_bad_data_is_refused(fields, message):
    good = {
        "modality": "table",
        "inputs": np.zeros((4, 2)),
        "labels": np.array([0, 1, 0, 1]),
        "classes": ("a", "b"),
    }
    with pytest.raises(InputError, match=message):
        Dataset(name="bad", **(good | fields))
