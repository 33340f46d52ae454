"""Tasks of a spec by name and path; every problem said at once."""

from pathlib import Path

import numpy as np
import pytest

from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.attacks.encoder_stealing.tasks import as_large_as, tasks_from_spec
from dosimeter.core.problems import SettingsError
from dosimeter.core.records import content_hash
from dosimeter.data import load
from dosimeter.data.images import resize


def saved(folder, name, n=60, labelled=True):
    generator = np.random.default_rng(0)
    arrays = {"inputs": generator.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)}
    if labelled:
        arrays["labels"] = np.arange(n) % 3
    np.savez(folder / name, **arrays)


def test_a_name_is_split_into_disjoint_halves():
    (task,) = tasks_from_spec(["digits"], Path())
    assert (task.name, task.classes) == ("digits", 10)
    parts = [{content_hash(record) for record in part.inputs} for part in (task.train, task.test)]
    assert not parts[0] & parts[1] and abs(len(task.train) - len(task.test)) <= 10
    (again,) = tasks_from_spec([{"data": "digits"}], Path())
    assert (again.train.digest, again.test.digest) == (task.train.digest, task.test.digest)


def test_numbers_of_records_are_limits_and_classes_stay_in_proportion(tmp_path):
    (task,) = tasks_from_spec([{"data": "digits", "train_records": 100, "test_records": 50, "name": "d"}], tmp_path)  # fmt: skip
    assert (task.name, len(task.train), len(task.test)) == ("d", 100, 50)
    assert np.bincount(task.train.labels).min() >= 8
    (whole,) = tasks_from_spec(["digits"], tmp_path)
    rest = {content_hash(record) for record in whole.test.inputs}
    assert all(content_hash(record) in rest for record in task.test.inputs), (
        "test records that were train records"
    )


def test_a_path_is_relative_to_the_spec(tmp_path):
    saved(tmp_path, "mine.npz")
    (task,) = tasks_from_spec(["mine.npz"], tmp_path)
    assert (task.name, len(task.train), len(task.test), task.classes) == ("mine", 30, 30, 3)


@pytest.mark.parametrize("given", [None, [], "digits", {"data": "digits"}, 3])
def test_what_is_no_list_of_tasks(given, tmp_path):
    with pytest.raises(SettingsError, match=r"tasks: must be a list of labelled data sets"):
        tasks_from_spec(given, tmp_path)


def test_every_problem_of_every_item_is_said(tmp_path):
    saved(tmp_path, "bare.npz", labelled=False)
    items = ["digits", "bare.npz", {"data": "digits", "train_record": 5}, "absent.npz", {"name": "x"}, 7,
             {"data": "digits", "test_records": 1}, {"data": "digits", "name": "digits"}]  # fmt: skip
    with pytest.raises(SettingsError) as caught:
        tasks_from_spec(items, tmp_path)
    said = {problem.place: problem.message for problem in caught.value.problems}
    assert "has no labels; a task needs a label per record" in said["tasks", 1]
    assert "unknown key; did you mean 'train_records'?" in said["tasks", 2, "train_record"]
    assert "absent.npz" in said["tasks", 3]
    assert said["tasks", 4, "data"] == "is missing"
    assert ("tasks", 5) in said
    assert "greater than or equal to 2" in said["tasks", 6, "test_records"]
    assert "two tasks are called 'digits'" in said["tasks",]


def test_images_at_the_size_that_the_service_is_asked_with():
    train, test = load("digits", size=8).split([0.5, 0.5], seed=0)
    task = Task("digits", train, test)
    larger = as_large_as(task, np.zeros((2, 12, 16, 3), np.uint8))
    assert larger.test.inputs.shape[1:] == (12, 16, 3)
    np.testing.assert_array_equal(larger.train.inputs, resize(np.asarray(train.inputs), (12, 16)))
    np.testing.assert_array_equal(larger.test.labels, test.labels)
    same = as_large_as(task, np.zeros((2, 8, 8, 3), np.uint8))
    assert same.test.digest == test.digest
    assert as_large_as(task, ["a text"]) is task and as_large_as(task, []) is task
