import json
import re
from importlib.resources import files

import pytest

from dosimeter.core.registry import catalogue
from dosimeter.core.taxonomies import OTHER, by_taxonomy, find_tag, known_tags

FORM = {
    "mitre-atlas": r"AML\.(TA|T|M)\d{4}(\.\d{3})?",
    "owasp-llm": r"LLM(0[1-9]|10):2025",
    "owasp-ml": r"ML(0[1-9]|10):2023",
    "nist-ai-100-2": r"NISTAML\.0\d{1,2}",
}


def test_every_card_names_entries_that_there_are():
    unknown = {
        entry.name: [name for name in entry.card["tags"] if name not in known_tags()]
        for entry in catalogue()
        if entry.card and not set(entry.card["tags"]) <= set(known_tags())
    }
    assert unknown == {}, "tags are identifiers in core/taxonomies.json, such as AML.T0024.002"


def test_every_attack_has_a_tag_that_is_no_mitigation():
    for entry in catalogue():
        if entry.kind == "attack" and entry.card:
            assert any(not name.startswith("AML.M") for name in entry.card["tags"]), entry.name


@pytest.mark.parametrize("key", FORM)
def test_identifiers_have_the_form_of_their_taxonomy_and_addresses_are_whole(key):
    own = [tag for tag in known_tags().values() if tag.taxonomy.key == key]
    assert own
    for tag in own:
        assert re.fullmatch(FORM[key], tag.id), tag
        assert tag.name == tag.name.strip() != ""
        assert re.fullmatch(r"https://[\w.-]+/[\w./:-]*", tag.url), tag
        if key == "mitre-atlas":
            assert tag.url.endswith(f"/{tag.id}")
    assert own[0].taxonomy.version
    assert own[0].taxonomy.url.startswith("https://")


def test_no_identifier_stands_in_two_taxonomies():
    document = json.loads(files("dosimeter.core").joinpath("taxonomies.json").read_text(encoding="utf-8"))
    identifiers = [tag["id"] for taxonomy in document for tag in taxonomy["tags"]]
    assert len(identifiers) == len(set(identifiers)) == len(known_tags())
    assert [taxonomy["key"] for taxonomy in document] == list(FORM)


@pytest.mark.parametrize(
    ("identifier", "title"),
    [
        ("AML.T0024.000", "AML.T0024.000 Exfiltration via AI Inference API: Infer Training Data Membership"),
        ("AML.M0004", "AML.M0004 Restrict Number of AI Model Queries"),
        ("LLM02:2025", "LLM02:2025 Sensitive Information Disclosure"),
        ("ML05:2023", "ML05:2023 Model Theft"),
        ("NISTAML.033", "NISTAML.033 Membership Inference"),
    ],
)
def test_titles(identifier, title):
    assert find_tag(identifier).title == title


def test_both_lists_of_ten_are_whole():
    for key, pattern in (("owasp-llm", "LLM{:02}:2025"), ("owasp-ml", "ML{:02}:2023")):
        own = [tag.id for tag in known_tags().values() if tag.taxonomy.key == key]
        assert own == [pattern.format(number) for number in range(1, 11)]


def test_tags_are_grouped_in_the_order_of_the_file_and_unknown_ones_last():
    grouped = by_taxonomy(["X-1", "NISTAML.031", "AML.T0040", "AML.T0014", "AML.T0040"])
    assert [[tag.id for tag in tags] for tags in grouped.values()] == [
        ["AML.T0014", "AML.T0040"],
        ["NISTAML.031"],
        ["X-1"],
    ]
    assert list(grouped)[-1] is OTHER
    assert find_tag("X-1").title == "X-1"
    assert OTHER.title == "Other tags"
    assert by_taxonomy([]) == {}
