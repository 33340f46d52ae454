"""Methods by name: our own and those of other packages, found through the entry-point group ``dosimeter.methods``.

Listing reads ``catalogue.json``, a static index of our own methods (``python -m dosimeter.core.catalogue`` rebuilds
it), so that no framework is imported to see what there is. A method of another package goes by ``package/slug``, or
by ``slug`` alone where that is not ambiguous.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from dosimeter.core.errors import InputError

if TYPE_CHECKING:
    from dosimeter.core.method import Method

GROUP = "dosimeter.methods"


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue. ``card`` and ``hyperparameters`` are empty for a plug-in that was not loaded."""

    name: str
    kind: str
    title: str
    purpose: str
    package: str
    card: dict[str, Any]
    hyperparameters: list[dict[str, Any]]


def catalogue() -> list[Entry]:
    """Every method that can be used here, ours first, without importing any of them."""
    index = json.loads(files("dosimeter").joinpath("catalogue.json").read_text(encoding="utf-8"))
    ours = [
        Entry(
            name=item["card"]["slug"],
            kind=item["card"]["kind"],
            title=item["card"]["title"],
            purpose=item["card"]["purpose"],
            package="dosimeter",
            card=item["card"],
            hyperparameters=item["hyperparameters"],
        )
        for item in index
    ]
    others = [
        Entry(
            name=f"{package}/{point.name}",
            kind="plug-in",
            title=point.name,
            purpose=f"from package {package}; 'dosimeter show {package}/{point.name}' loads it",
            package=package,
            card={},
            hyperparameters=[],
        )
        for package, point in _points()
        if package != "dosimeter"
    ]
    return ours + sorted(others, key=lambda entry: entry.name)


def find(name: str) -> tuple[str, EntryPoint]:
    """The package and the entry point of the method called ``name``; imports nothing.

    Raises:
        InputError: no such method (with the nearest names), or one that several packages have.
    """
    package, _, slug = name.rpartition("/")
    matches = [
        (owner, point)
        for owner, point in _points()
        if point.name == slug and (not package or owner == package)
    ]
    ours = [match for match in matches if match[0] == "dosimeter"]
    if not package and ours:
        matches = ours
    if not matches:
        known = [entry.name for entry in catalogue()]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "'dosimeter list' shows what there is."
        raise InputError(f"there is no method '{name}'. {hint}")
    if len(matches) > 1:
        raise InputError(
            f"'{name}' is in several packages; say which: {', '.join(f'{owner}/{slug}' for owner, _ in matches)}."
        )
    return matches[0]


def load(name: str) -> type[Method]:
    """The class of the method called ``name``.

    Raises:
        InputError: no such method (with the nearest names), an ambiguous one, or a plug-in that does not import or is
            no method.
    """
    from dosimeter.core.method import Method

    owner, point = find(name)
    try:
        method = point.load()
    except Exception as error:
        if owner == "dosimeter":
            raise
        raise InputError(
            f"plug-in '{owner}/{point.name}' ({point.value}) does not load: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise InputError(
            f"plug-in '{owner}/{point.name}' ({point.value}) is no method: it must be a subclass of Attack or Defense."
        )
    return method


def _points() -> list[tuple[str, EntryPoint]]:
    found = {
        (point.dist.name if point.dist else "unknown", point.name): point
        for point in entry_points(group=GROUP)
    }
    return [(package, point) for (package, _), point in found.items()]
