"""Which code made a figure: a run is only resumed by the code that began it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from dosimeter.core.method import library_versions
from dosimeter.core.records import content_hash


@cache
def code_version() -> str:
    """A hash of this package's sources and of the versions of the libraries that figures depend on."""
    root = Path(str(files("dosimeter")))
    sources = sorted(root.rglob("*.py"))
    return content_hash(
        library_versions(),
        *(part for path in sources for part in (str(path.relative_to(root)), path.read_bytes())),
    )
