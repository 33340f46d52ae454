"""``dosimeter list``: the catalogue."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dosimeter.cli.options import AsJson


class KindName(StrEnum):
    """Kinds of method."""

    attack = "attack"
    defense = "defense"
    recipe = "recipe"
    protocol = "protocol"
    plug_in = "plug-in"


def list_methods(
    kind: Annotated[KindName | None, typer.Option(help="Only this kind.")] = None, as_json: AsJson = False
) -> None:
    """List attacks, defences and other methods."""
    from dosimeter.cli.display import print_json, print_table, print_text
    from dosimeter.core.registry import catalogue

    entries = [entry for entry in catalogue() if kind is None or entry.kind == kind.value]
    if as_json:
        fields = ("name", "kind", "title", "purpose", "package")
        print_json([{field: getattr(entry, field) for field in fields} for entry in entries])
        return
    if not entries:
        print_text(f"No methods of the kind {kind.value if kind else 'any'} are installed.")
        return
    print_table(
        "",
        ["name", "kind", "what it answers"],
        [[entry.name, entry.kind, entry.purpose] for entry in entries],
    )
    print_text("'dosimeter show NAME' describes one; a spec names them under 'attacks' and 'defenses'.")
