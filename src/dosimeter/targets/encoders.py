"""Encoders that a method works with itself, as candidates, judges or students: targets that return embeddings.

Importing this module imports neither a framework nor an HTTP client. Does not own: what a method does with them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from dosimeter.core.errors import InputError, MissingExtra, TargetError
from dosimeter.core.problems import Place, Problem, SettingsError, validation_problems
from dosimeter.core.records import Batch, check_answers
from dosimeter.core.target import Target


def embed(encoder: Target, batch: Batch, *, what: str) -> np.ndarray:
    """(n, d) embeddings of ``batch``, evaluated now: nothing is kept, counted or paid for.

    Args:
        what: the encoder in words, for errors, as in ``candidate 'resnet'``.

    Raises:
        TargetError: embeddings of unequal shape, or no valid embeddings.
    """
    places, parts = zip(*encoder.stream(batch, before_send=lambda _: None))
    try:
        arrived = np.concatenate([np.asarray(part) for part in parts])
    except ValueError as error:
        raise TargetError(f"{what} returned embeddings of unequal shape: {error}.") from error
    embeddings = np.asarray(check_answers(encoder.name, "embedding", arrived, len(batch), None))
    return embeddings[np.argsort(np.concatenate(places))]


def encoder_from_spec(
    place: Place, settings: dict[str, Any], folder: Path, *, trust: bool, name: str = ""
) -> Target:
    """The embedding target that ``settings`` (the keys of an audit spec's target) describe.

    Args:
        place: where ``settings`` stand among the settings of the method.
        name: of the encoder, for people.

    Raises:
        SettingsError: every problem with ``settings``.
    """
    from dosimeter.targets.spec import TargetSpec, build_target

    adapter: TypeAdapter[Any] = TypeAdapter(TargetSpec)
    settings = {"returns": "embedding", **settings}
    try:
        return build_target(adapter.validate_python(settings), folder, trust=trust)
    except ValidationError as error:
        problems = validation_problems(error, TargetSpec, settings)
    except MissingExtra:
        raise
    except SettingsError as error:
        problems = error.problems
    except InputError as error:
        problems = [Problem((), str(error))]
    raise SettingsError([replace(problem, place=(*place, *problem.place), note=name) for problem in problems])
