"""Finds reproductions: each module of ``dosimeter.reproductions`` that has a ``SLUG`` and a ``run``."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from pathlib import Path
from typing import Any, Literal, Protocol

from dosimeter.core.claim import Reproduction
from dosimeter.core.errors import InputError, MissingExtra

_PACKAGE = "dosimeter.reproductions"


class ReproductionModule(Protocol):
    """What a reproduction's module offers."""

    SLUG: str

    def run(self, size: Literal["quick", "full"], seed: int, out: Path | None) -> Reproduction:
        """Measure every claim; files worth keeping go to ``out``."""


def available() -> list[ReproductionModule]:
    """Every reproduction, by name."""
    modules = [_load(name) for name in _names()]
    return [module for module in modules if hasattr(module, "SLUG")]


def find(slug: str) -> ReproductionModule:
    """The reproduction of the system ``slug``.

    Raises:
        InputError: there is none; the nearest names are given.
    """
    name = slug.replace("-", "_")
    module = _load(name) if name in _names() else None
    if module is None or not hasattr(module, "SLUG"):
        known = [found.SLUG for found in available()]
        near = difflib.get_close_matches(slug, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
        raise InputError(f"there is no reproduction '{slug}'. {hint}")
    found: ReproductionModule = module
    return found


def _names() -> list[str]:
    return sorted(info.name for info in pkgutil.iter_modules(importlib.import_module(_PACKAGE).__path__))


def _load(name: str) -> Any:
    try:
        return importlib.import_module(f"{_PACKAGE}.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtra(f"reproduction '{name.replace('_', '-')}'", "torch") from error
