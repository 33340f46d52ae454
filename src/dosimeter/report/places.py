"""Where a check stands in the text of the audit spec."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml

from dosimeter.core.places import lines_of
from dosimeter.core.problems import Place
from dosimeter.study.outcome import StudyOutcome

#: Name of a spec that was made in Python, not read from a file.
NO_FILE = "audit-spec.yaml"


@dataclass(frozen=True)
class SpecText:
    """The spec of an outcome: its file and the lines, counted from 1, of what it names; 1 where it does not name it."""

    file: str
    text: str
    _lines: dict[Place, int] = field(repr=False)

    @classmethod
    def of(cls, outcome: StudyOutcome) -> SpecText:
        """The spec of ``outcome``."""
        return cls(outcome.spec_file or NO_FILE, outcome.spec, lines_of(outcome.spec))

    def policy_line(self, metric: str) -> int:
        """The line of the policy about ``slug.metric``."""
        return self._line("policy", metric)

    def attack_line(self, slug: str) -> int:
        """The line of an attack."""
        return self._line("attacks", self._index("attacks", slug))

    def defense_line(self, label: str) -> int | None:
        """The line of a defence by its label, as in ``jpeg-inputs(quality=30)``; ``None`` for no defence."""
        if label == "none":
            return None
        place = ("defenses", self._index("defenses", label))
        return self._lines.get(place)

    def line_text(self, line: int) -> str:
        """What stands on a line, without its indentation."""
        return self._texts[line - 1].strip() if line <= len(self._texts) else ""

    def _line(self, *place: str | int | None) -> int:
        """Of the nearest enclosing place that the text has."""
        ends = range(len(place), 0, -1)
        return next((self._lines[place[:end]] for end in ends if place[:end] in self._lines), 1)  # type: ignore[index]

    def _index(self, part: str, label: str) -> int | None:
        """The number of the method called ``label`` among the attacks or defences."""
        return self._numbers.get((part, label))

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], int]:
        try:
            document = yaml.safe_load(self.text)
        except (yaml.YAMLError, RecursionError, ValueError):
            return {}
        found: dict[tuple[str, str], int] = {}
        for part in ("attacks", "defenses"):
            items = document.get(part) if isinstance(document, dict) else None
            for number, item in enumerate(items if isinstance(items, list) else []):
                for label in _labels(item):
                    found.setdefault((part, label), number)
        return found

    @cached_property
    def _texts(self) -> list[str]:
        return self.text.splitlines()


def _labels(item: Any) -> tuple[str, ...]:
    """What a method of a spec goes by: its slug, and with its settings."""
    from pydantic import ValidationError

    from dosimeter.core.method_spec import MethodSpec

    try:
        method = MethodSpec.model_validate(item)
    except ValidationError:
        # A plug-in that was there when the study ran and is not here: its slug still leads to the line.
        if isinstance(item, dict):
            item = item.get("slug", next(iter(item), ""))
        return (str(item),)
    return method.label, method.slug
