"""Builds ``catalogue.json``, the static index that listing reads: ``python -m dosimeter.core.catalogue``."""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from pydantic_core import to_jsonable_python

from dosimeter.core.files import write_text
from dosimeter.core.method import Method
from dosimeter.core.registry import GROUP


def describe_method(method: type[Method]) -> dict[str, Any]:
    """Card and hyper-parameters (name, type, default, description) of ``method`` as JSON values."""
    parameters = []
    for name, info in method.model_fields.items():
        parameters.append(
            {
                "name": name,
                "type": _type_name(info.annotation),
                "default": None if info.is_required() else to_jsonable_python(info.default),
                "required": info.is_required(),
                "description": info.description or "",
            }
        )
    return {"card": method.card.as_dict(), "hyperparameters": parameters}


def _type_name(annotation: Any) -> str:
    """The type as a person writes it: no module names."""
    plain = isinstance(annotation, type) and not get_args(annotation)
    text = annotation.__name__ if plain else str(annotation)
    named = re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)
    # What pydantic checks beyond the type says nothing to a reader.
    return re.sub(r"Annotated\[(\w+), [^\]]*\]", r"\1", named)


def build() -> str:
    """The text of ``catalogue.json`` for the methods this package declares."""
    points = [point for point in entry_points(group=GROUP) if point.dist and point.dist.name == "dosimeter"]
    index = [describe_method(point.load()) for point in sorted(points, key=lambda point: point.name)]
    return json.dumps(index, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_text(Path(str(files("dosimeter").joinpath("catalogue.json"))), build())
