"""``dosimeter show``: one method's card."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from dosimeter.cli.options import AsJson


def show(
    slug: Annotated[str, typer.Argument(metavar="NAME", help="Name from 'dosimeter list'.")],
    as_json: AsJson = False,
) -> None:
    """Show one method: purpose, needs, settings, tags."""
    from dosimeter.cli.display import print_entry, print_json, print_table, print_text
    from dosimeter.core.taxonomies import by_taxonomy, find_tag

    described = _describe(slug)
    described["tags"] = [find_tag(identifier).as_dict() for identifier in described["card"]["tags"]]
    if as_json:
        print_json(described)
        return
    card = described["card"]
    needs = card["needs"]
    lines = [
        ("Purpose", card["purpose"]),
        ("Adversary", card["threat_model"]),
        (
            "Needs",
            f"{' or '.join(needs['modalities'])} inputs; {' or '.join(needs['returns'])} as answers; "
            f"{needs['grants']} access",
        ),
    ]
    if card["paper"]:
        paper = card["paper"]
        lines.append(("Paper", f"{paper['authors']}: {paper['title']} ({paper['year']}). {paper['url']}"))
    if card["extras"]:
        lines.append(("Install", f"pip install 'dosimeter[{','.join(card['extras'])}]'"))
    lines += [
        (taxonomy.title, "; ".join(tag.title for tag in tags))
        for taxonomy, tags in by_taxonomy(card["tags"]).items()
    ]
    print_text(f"{card['title']} ({card['slug']}, {card['kind']})")
    width = max(len(name) for name, _ in lines) + 2
    for name, text in lines:
        print_entry(name, text, width=width)
    print_table(
        "Hyper-parameters",
        ["name", "type", "default", "what it is"],
        [
            [
                item["name"],
                item["type"],
                "required" if item["required"] else json.dumps(item["default"]),
                item["description"],
            ]
            for item in described["hyperparameters"]
        ],
    )


def _describe(slug: str) -> dict[str, Any]:
    """From the static index; a plug-in is loaded."""
    from dosimeter.core.catalogue import describe_method
    from dosimeter.core.registry import catalogue, find, load

    owner, point = find(slug)
    for entry in catalogue():
        if owner == "dosimeter" and entry.name == point.name and entry.card:
            return {"card": entry.card, "hyperparameters": entry.hyperparameters}
    return describe_method(load(slug))
