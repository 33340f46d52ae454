import dataclasses
import json

import pytest

from dosimeter.core.access import Needs
from dosimeter.core.card import Card, Paper

CARD = Card(
    slug="an-attack",
    kind="attack",
    title="An attack",
    purpose="Does it leak?",
    threat_model="A client.",
    needs=Needs(modalities=("text",), returns=("label",)),
    paper=Paper(title="On leaks", authors="A. Author", year=2024, url="https://example.org"),
    tags=("AML.T0024",),
)


def test_a_card_is_data():
    shown = json.loads(json.dumps(CARD.as_dict()))
    assert shown["needs"] == {"modalities": ["text"], "returns": ["label"], "grants": "query"}
    assert shown["paper"]["year"] == 2024
    assert shown["tags"] == ["AML.T0024"]
    assert shown["extras"] == []


def test_a_card_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CARD.slug = "another"  # type: ignore[misc]
