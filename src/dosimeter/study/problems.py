"""What is wrong with an audit spec, one sentence per problem, each with its place in the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

_LINE = re.compile(r"line (\d+): ")
Place = tuple[str | int, ...]


def nearest(name: object, known: Iterable[str]) -> str:
    """``did you mean 'x'?``, or the known names where none is near."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known are {', '.join(names)}" if names else "none are known"


def written(place: Place) -> str:
    """A place as people write it: ``attacks[0].copies``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def lines_of(text: str) -> dict[Place, int]:
    """The line, counted from 1, on which each key or item of a YAML document stands."""
    found: dict[Place, int] = {}

    def walk(node: yaml.Node, place: Place, line: int) -> None:
        found.setdefault(place, line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                walk(value, (*place, str(key.value)), key.start_mark.line)
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                walk(item, (*place, number), item.start_mark.line)

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return {}
    if root is not None:
        walk(root, (), 0)
    return found


def located(place: Place, message: str, lines: dict[Place, int]) -> str:
    """``line 3: attacks[0].copies: message``; the line of the nearest enclosing place that the file has."""
    inside = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in lines), ())
    prefix = f"line {lines[inside]}: " if inside else ""
    return f"{prefix}{written(place)}: {message}" if place else f"{prefix}{message}"


def validation_problems(
    error: ValidationError, model: type[BaseModel], value: Any, lines: dict[Place, int]
) -> list[str]:
    """Every problem in ``error``, which came of validating ``value`` as ``model``. Never shows the value itself."""
    found = []
    for item in error.errors(include_url=False, include_input=False):
        place = _place_in(value, item["loc"], missing=item["type"] in ("missing", "extra_forbidden"))
        message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
        if item["type"] == "extra_forbidden":
            message = f"unknown key; {nearest(item['loc'][-1], _keys_at(model, item['loc'][:-1]))}"
        elif item["type"] == "missing":
            message = "is missing"
        found.append(located(place, message, lines))
    return found


def by_line(problems: list[str]) -> list[str]:
    """In the order of the file; problems without a line come first."""
    return sorted(problems, key=lambda problem: int(match[1]) if (match := _LINE.match(problem)) else 0)


def _place_in(value: Any, loc: Place, *, missing: bool) -> Place:
    """``loc`` without the labels that pydantic adds for unions; the last part of a missing key stays."""
    place: Place = ()
    for number, part in enumerate(loc):
        inside: Any = value if isinstance(value, (dict, list)) else {}
        try:
            value = inside[part]
        except LookupError:
            if not missing or number < len(loc) - 1:
                continue
        place = (*place, part)
    return place


def _keys_at(model: type[BaseModel], loc: Place) -> list[str]:
    """Keys that the model at ``loc`` inside ``model`` knows."""
    models = [model]
    for part in loc:
        fields = [inner.model_fields[part].annotation for inner in models if part in inner.model_fields]
        if fields:
            models = [found for annotation in fields for found in _models_in(annotation)]
        elif any(_kind(inner) == part for inner in models):
            models = [inner for inner in models if _kind(inner) == part]
    return sorted({key for inner in models for key in inner.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _kind(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("kind")
    return None if field is None else field.default
