"""``dosimeter reproduce``: check the relations that a paper states."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dosimeter.cli.options import AsJson
from dosimeter.core.errors import InputError

if TYPE_CHECKING:
    from dosimeter.core.claim import Claim, Reproduction


class SizeName(StrEnum):
    """How much work a reproduction may be."""

    quick = "quick"
    full = "full"


def reproduce(
    slugs: Annotated[list[str] | None, typer.Argument(metavar="SLUG", help="Systems to reproduce.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every system.")] = False,
    size: Annotated[
        SizeName, typer.Option(help="quick: minutes, no network. full: real data.")
    ] = SizeName.quick,
    seed: Annotated[int, typer.Option(min=0, help="All randomness derives from it.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for claims.json and files worth keeping.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check what a paper states, controls included."""
    from dosimeter.cli.display import print_json, reporting
    from dosimeter.core.files import ensure_writable_folder
    from dosimeter.core.reproduction import available, find

    if everything == bool(slugs):
        raise InputError(
            "name the systems to reproduce, or give --all, but not both. "
            f"There are: {', '.join(module.SLUG for module in available())}."
        )
    if out is not None:
        ensure_writable_folder(out)
    done = []
    for module in available() if everything else [find(slug) for slug in slugs or ()]:
        with reporting():
            done.append(
                module.run(size=size.value, seed=seed, out=None if out is None else out / module.SLUG)
            )
        if out is not None:
            _write(done[-1], out / module.SLUG)
        if not as_json:
            _print(done[-1])
    if as_json:
        documents = [reproduction.as_dict() for reproduction in done]
        print_json(documents[0] if len(documents) == 1 and not everything else documents)
    return max((reproduction.exit_code for reproduction in done), default=0)


def _write(reproduction: Reproduction, folder: Path) -> None:
    """Claims and tables as JSON, figures as SVG files that any browser opens."""
    from dosimeter.core.files import write_text
    from dosimeter.report.figures import drawn_alone

    write_text(folder / "claims.json", json.dumps(reproduction.as_dict(), indent=1) + "\n")
    for figure in reproduction.figures:
        write_text(folder / f"{figure.name}.svg", drawn_alone(figure))


def _print(reproduction: Reproduction) -> None:
    from dosimeter.cli.display import print_table, print_text
    from dosimeter.report.wording import cell_text, seconds_text

    print_table(
        f"{reproduction.slug}, {reproduction.size}, seed {reproduction.seed}, {seconds_text(reproduction.seconds)}",
        ["claim", "holds", "measured", "bound", "kind", "statement"],
        [
            [
                claim.name,
                "yes" if claim.holds else "open" if claim.open else "NO",
                _measured(claim),
                f"{claim.relation} {claim.bound:g}",
                "control" if claim.control else "relation",
                claim.statement,
            ]
            for claim in reproduction.claims
        ],
    )
    for table in reproduction.tables:
        rows = [[cell_text(cell) for cell in row] for row in table.rows]
        print_table(table.title, table.columns, rows)
        if table.caption:
            print_text(table.caption)
    for claim in reproduction.claims:
        if claim.open and not claim.holds:
            print_text(f"Open    {claim.name}: {claim.open}")
    held = sum(claim.holds for claim in reproduction.claims)
    print_text(f"{held} of {len(reproduction.claims)} claims hold.")
    if not any(claim.control for claim in reproduction.claims):
        print_text("No control among the claims: nothing is shown by them.")


def _measured(claim: Claim) -> str:
    if claim.low is None or claim.high is None:
        return f"{claim.value:.4g}"
    return f"{claim.value:.4g} [{claim.low:.4g}, {claim.high:.4g}]"
