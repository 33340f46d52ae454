import json
from importlib.resources import files
from typing import ClassVar

from pydantic import Field

from dosimeter.core.access import Needs
from dosimeter.core.card import Card
from dosimeter.core.catalogue import build, describe_method
from dosimeter.core.method import Defense


class Blur(Defense):
    """Averages neighbours."""

    card: ClassVar[Card] = Card(
        slug="blur",
        kind="defense",
        title="Blur",
        purpose="Does it help?",
        threat_model="A client.",
        needs=Needs(modalities=("image",), returns=("label",)),
        extras=("torch",),
    )

    width: int = Field(description="pixels")
    sharp: float | None = Field(None, ge=0, description="how sharp it stays")
    colours: tuple[str, ...] = ("red", "green")


def test_the_static_index_is_what_the_methods_say():
    stored = files("dosimeter").joinpath("catalogue.json").read_text(encoding="utf-8")
    assert stored == build(), "catalogue.json is out of date. Run: python -m dosimeter.core.catalogue"


def test_a_method_is_described_by_its_card_and_settings():
    described = json.loads(json.dumps(describe_method(Blur)))
    assert described["card"]["slug"] == "blur"
    assert described["hyperparameters"] == [
        {"name": "width", "type": "int", "default": None, "required": True, "description": "pixels"},
        {
            "name": "sharp",
            "type": "float | None",
            "default": None,
            "required": False,
            "description": "how sharp it stays",
        },
        {
            "name": "colours",
            "type": "tuple[str, ...]",
            "default": ["red", "green"],
            "required": False,
            "description": "",
        },
    ]
