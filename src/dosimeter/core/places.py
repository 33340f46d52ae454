"""Where in a YAML spec a problem stands: the line of the file, in front of what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable

import yaml

from dosimeter.core.problems import Place, Problem

_LINE = re.compile(r"line (\d+): ")


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


def located(problem: Problem, lines: dict[Place, int]) -> str:
    """``line 3: attacks[0].copies: message``; the line of the nearest enclosing place that the file has."""
    place = problem.place
    inside = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in lines), ())
    return f"line {lines[inside]}: {problem}" if inside else str(problem)


def by_line(problems: Iterable[str]) -> list[str]:
    """In the order of the file; problems without a line come first."""
    return sorted(problems, key=lambda problem: int(match[1]) if (match := _LINE.match(problem)) else 0)
