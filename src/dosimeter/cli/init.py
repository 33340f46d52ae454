"""``dosimeter init``: an audit spec to fill in."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.core.errors import InputError

_NAMES = ("audit.yaml", "my_models.py")


def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write.")] = Path()) -> None:
    """Write a commented audit spec for your own model."""
    from dosimeter.cli.display import print_text
    from dosimeter.core.files import ensure_writable_folder, write_text

    ensure_writable_folder(folder, flag=None)
    there = [name for name in _NAMES if (folder / name).exists()]
    if there:
        raise InputError(
            f"{folder / there[0]} is there already and is not overwritten. Choose another folder."
        )
    for name in _NAMES:
        text = files("dosimeter.cli").joinpath("templates", f"{name}.txt").read_text(encoding="utf-8")
        print_text(f"wrote {write_text(folder / name, text)}")
    print_text(f"Next: put your model into {_NAMES[1]}, then run: dosimeter plan {folder / _NAMES[0]}")
