"""A method's card: what it is for, where it comes from, what it assumes - as data, readable without running it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dosimeter.core.access import Needs

Kind = Literal["attack", "defense", "recipe", "protocol"]


@dataclass(frozen=True)
class Paper:
    """The publication a method implements."""

    title: str
    authors: str
    year: int
    url: str


@dataclass(frozen=True)
class Card:
    """What a catalogue shows of a method.

    Attributes:
        slug: its one name, in the spec, on the command line, in files.
        purpose: the question it answers, one sentence.
        threat_model: who the adversary is and what they have.
        needs: access it requires from the target.
        extras: optional dependencies it may need (``pip install 'dosimeter[extra]'``).
        tags: identifiers in public taxonomies, such as ``AML.T0024.002``; ``core.taxonomies`` has their names.
    """

    slug: str
    kind: Kind
    title: str
    purpose: str
    threat_model: str
    needs: Needs
    paper: Paper | None = None
    extras: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The card as JSON values."""
        return asdict(self)
