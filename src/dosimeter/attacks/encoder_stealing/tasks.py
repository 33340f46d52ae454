"""Labelled tasks by name or path, for settings of an audit spec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.core.errors import InputError
from dosimeter.core.problems import Problem, SettingsError, validation_problems
from dosimeter.core.records import Batch
from dosimeter.data import known_names, load
from dosimeter.data.dataset import Dataset
from dosimeter.data.images import resize

_WITH_SPLITS = {"cifar10": "test", "fashion-mnist": "test", "ag-news": "test", "sst2": "dev"}


class TaskSettings(BaseModel):
    """One task of a spec; a plain name or path stands for ``{data: it}``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field(description="labelled data by name, or a path relative to the spec")
    name: str | None = Field(None, description="shown to people; the name of the data if not given")
    train_records: int = Field(2000, ge=2, description="at most so many to train heads on")
    test_records: int = Field(2000, ge=2, description="at most so many to test them on")


def tasks_from_spec(items: Any, folder: Path) -> tuple[Task, ...]:
    """The tasks that the setting ``tasks`` of a spec describes.

    Raises:
        SettingsError: every problem with any item: unknown keys, data that is missing or has no labels.
    """
    if not isinstance(items, list) or not items:
        raise SettingsError([Problem(("tasks",), "must be a list of labelled data sets, by name or path")])
    found, problems = [], []
    for number, item in enumerate(items):
        value = {"data": item} if isinstance(item, str) else item
        try:
            found.append(_task(TaskSettings.model_validate(value), folder))
        except ValidationError as error:
            problems += [
                Problem(("tasks", number, *problem.place), problem.message)
                for problem in validation_problems(error, TaskSettings, value)
            ]
        except InputError as error:
            problems.append(Problem(("tasks", number), str(error)))
    names = [task.name for task in found]
    problems += [
        Problem(("tasks",), f"two tasks are called '{name}'; give one of them a 'name'")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise SettingsError(problems)
    return tuple(found)


def as_large_as(task: Task, pool: Batch) -> Task:
    """A task of images at the size of the images of ``pool``, with which the service is asked; others as they are."""
    if not isinstance(pool, np.ndarray) or pool.ndim != 4:
        return task
    height, width = pool.shape[1:3]
    train, test = (
        replace(part, inputs=resize(cast("np.ndarray", part.inputs), (height, width)))
        for part in (task.train, task.test)
    )
    return Task(task.name, train, test)


def _task(settings: TaskSettings, folder: Path) -> Task:
    if settings.data in _WITH_SPLITS:
        train = load(settings.data, split="train")
        test = load(settings.data, split=_WITH_SPLITS[settings.data])
    else:
        path = settings.data if settings.data in known_names() else folder / settings.data
        whole = load(path)
        if whole.labels is None:
            raise InputError(f"data '{settings.data}' has no labels; a task needs a label per record.")
        train, test = whole.split([0.5, 0.5], seed=0)
    return Task(
        settings.name or Path(settings.data).stem,
        _at_most(train, settings.train_records),
        _at_most(test, settings.test_records),
    )


def _at_most(data: Dataset, count: int) -> Dataset:
    if len(data) <= count:
        return data
    # All classes in proportion, whatever order the data came in.
    return data.split([count / len(data)], seed=0)[0]
