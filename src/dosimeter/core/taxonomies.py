"""Public taxonomies of attacks and mitigations, as data: identifier, name, address and edition of each entry.

Cards name entries by identifier alone; what is shown of one comes from here. ``taxonomies.json`` holds the entries that
methods of this project may need, not the whole of each taxonomy. Source of each entry: its own ``url``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Taxonomy:
    """A published list of attacks or mitigations. ``key`` is its short name in file formats."""

    key: str
    name: str
    version: str
    publisher: str
    url: str

    @property
    def title(self) -> str:
        """Name and edition, as in ``MITRE ATLAS 5.6.0``."""
        return f"{self.name} {self.version}".rstrip()


@dataclass(frozen=True)
class Tag:
    """One entry of a taxonomy. ``name`` is the published one; a part of another entry is named after it too."""

    id: str
    name: str
    url: str
    taxonomy: Taxonomy

    @property
    def title(self) -> str:
        """Identifier and name, as in ``AML.T0014 Discover AI Model Family``."""
        return f"{self.id} {self.name}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """The entry and its taxonomy as JSON values."""
        return asdict(self)


#: Where identifiers go that no taxonomy here has; the cards of other packages may use their own.
OTHER = Taxonomy(key="other", name="Other tags", version="", publisher="", url="")


@cache
def known_tags() -> dict[str, Tag]:
    """Every entry by its identifier, in the order of the file."""
    text = files("dosimeter.core").joinpath("taxonomies.json").read_text(encoding="utf-8")
    found: dict[str, Tag] = {}
    for item in json.loads(text):
        entries = item.pop("tags")
        taxonomy = Taxonomy(**item)
        names = {entry["id"]: entry["name"] for entry in entries}
        for entry in entries:
            above = names.get(_above(entry["id"]))
            name = f"{above}: {entry['name']}" if above else entry["name"]
            found[entry["id"]] = Tag(entry["id"], name, entry["url"], taxonomy)
    return found


def _above(identifier: str) -> str:
    """``AML.T0024`` of ``AML.T0024.001``; the other taxonomies have no such parts."""
    return identifier.rpartition(".")[0] if identifier.count(".") == 2 else ""


def find_tag(identifier: str) -> Tag:
    """The entry called ``identifier``; under :data:`OTHER` and without a name if no taxonomy here has it."""
    return known_tags().get(identifier) or Tag(identifier, "", "", OTHER)


def by_taxonomy(identifiers: Iterable[str]) -> dict[Taxonomy, list[Tag]]:
    """The entries of ``identifiers``, each once, under their taxonomies; both in the order of the file, unknown ones last."""
    order = {identifier: number for number, identifier in enumerate(known_tags())}
    grouped: dict[Taxonomy, list[Tag]] = {}
    for identifier in sorted(
        dict.fromkeys(identifiers), key=lambda name: (order.get(name, len(order)), name)
    ):
        tag = find_tag(identifier)
        grouped.setdefault(tag.taxonomy, []).append(tag)
    return grouped
