"""What is wrong with something that a user wrote, each problem with its place, so that all of it is said at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dosimeter.core.errors import InputError

Place = tuple[str | int, ...]
"""Keys and positions that lead from the whole to a part, as in ``("attacks", 0, "copies")``."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: where, from the outermost key inwards; empty for the whole.
        message: what, as the rest of a sentence after the place.
        note: says in words what the place is, shown in parentheses.
    """

    place: Place
    message: str
    note: str = ""

    def __str__(self) -> str:
        where = written(self.place) + (f" ({self.note})" if self.note else "")
        return f"{where}: {self.message}" if where else self.message


class SettingsError(InputError):
    """Settings that cannot be used; every one of them is in ``problems``. What is wrong with several items is said once."""

    def __init__(self, problems: Sequence[Problem], *, of: str = "") -> None:
        alike: dict[tuple[object, ...], list[Problem]] = {}
        for problem in problems:
            keys = tuple(part for part in problem.place if isinstance(part, str))
            alike.setdefault((problem.message, *keys), []).append(problem)
        self.problems = [
            replace(first, note=f"{first.note} and {len(others)} more".strip()) if others else first
            for first, *others in alike.values()
        ]
        super().__init__(f"{of}: " * bool(of) + "; ".join(map(str, self.problems)))


def nearest(name: object, known: Iterable[str]) -> str:
    """``did you mean 'x'?``, or the known names where none is near."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.6)
    if near:
        best = max(near, key=lambda found: _likeness(str(name), found))
        return f"did you mean '{best}'?"
    return f"known are {', '.join(names)}" if names else "none are known"


def _likeness(one: str, other: str) -> tuple[float, int]:
    """How much of both is the same, and how many letters they begin with in common."""
    same_start = next((n for n, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    return difflib.SequenceMatcher(None, one, other).ratio(), same_start


def written(place: Place) -> str:
    """A place as people write it: ``attacks[0].copies``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def validation_problems(error: ValidationError, annotation: Any, value: Any) -> list[Problem]:
    """Every problem in ``error``, which came of validating ``value`` as ``annotation``. Never shows the value itself."""
    return [
        _problem(item, annotation, value) for item in error.errors(include_url=False, include_input=False)
    ]


def _problem(item: ErrorDetails, annotation: Any, value: Any) -> Problem:
    kind, loc = item["type"], item["loc"]
    place = _place_in(value, loc, missing=kind in ("missing", "extra_forbidden"))
    if kind == "extra_forbidden":
        keys = {key for model in _models_at(annotation, loc[:-1]) for key in model.model_fields}
        return Problem(place, f"unknown key; {nearest(loc[-1], sorted(keys))}")
    if kind == "missing":
        return Problem(place, "is missing")
    if kind.startswith("union_tag_"):
        key, given = item["ctx"]["discriminator"].strip("'"), item["ctx"].get("tag")
        known = [_default(model, key) for model in _models_at(annotation, loc)]
        said = "is missing" if given is None else f"'{given}' is not known"
        return Problem((*place, key), f"{said}; {nearest(given, known)}")
    return Problem(place, item["msg"].removeprefix("Value error, ").removeprefix("Input "))


def _place_in(value: Any, loc: Place, *, missing: bool) -> Place:
    """``loc`` without the labels that pydantic adds for unions; the last part of a missing key stays."""
    place: Place = ()
    for number, part in enumerate(loc):
        inside: Any = value if isinstance(value, (dict, list, tuple)) else {}
        try:
            value = inside[part]
        except (LookupError, TypeError):
            if not missing or number < len(loc) - 1:
                continue
        place = (*place, part)
    return place


def _models_at(annotation: Any, loc: Place) -> list[type[BaseModel]]:
    """Models that may stand at ``loc`` inside ``annotation``."""
    models = list(_models_in(annotation))
    for part in loc:
        fields = [inner.model_fields[part].annotation for inner in models if part in inner.model_fields]
        if fields:
            models = [found for annotation in fields for found in _models_in(annotation)]
        else:
            models = [inner for inner in models if _default(inner, "kind") == part] or models
    return models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _default(model: type[BaseModel], key: str) -> Any:
    field = model.model_fields.get(key)
    return None if field is None else field.default
