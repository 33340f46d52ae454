"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dosimeter.core.errors import InputError

if TYPE_CHECKING:
    from dosimeter.report.remote import RemoteFolder
    from dosimeter.study.home import Home
    from dosimeter.study.spec import StudySpec
    from dosimeter.study.store import Store

Spec = Annotated[
    Path | None, typer.Argument(metavar="SPEC.yaml", help="Audit spec; the embedded example if not given.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Read weight files that can run code; only if you trust their author.")
]
HomeFolder = Annotated[
    Path | None, typer.Option("--home", envvar="DOSIMETER_HOME", help="State folder (default: .dosimeter).")
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="DOSIMETER_STORE",
        help="Database URL of the runs (default: SQLite in the state folder).",
    ),
]


SummaryFile = Annotated[
    Path | None,
    typer.Option("--summary", help="Add the result as Markdown to this file, as CI services show it."),
]


def add_summary(path: Path | None, make: Callable[[], str]) -> None:
    """Add what ``make`` gives to the file ``path``, if there is one.

    Raises:
        InputError: it cannot be written.
    """
    if path is None:
        return
    from dosimeter.report.step_summary import append_summary

    try:
        append_summary(path, make())
    except OSError as error:
        raise InputError(
            f"cannot write the summary to {path}: {error.strerror}. Name another file with --summary."
        ) from error


Artifacts = Annotated[
    str | None,
    typer.Option(
        "--artifacts",
        envvar="DOSIMETER_ARTIFACTS",
        help="URL (s3://, file://, ...) where reports and files of the run are put too, below its name.",
    ),
]


def read_spec(path: Path | None, trust: bool) -> StudySpec:
    """The spec at ``path``, or the embedded example."""
    from dosimeter.study import example
    from dosimeter.study.spec import load_spec

    return example.spec() if path is None else load_spec(path, trust=trust)


def open_home(folder: Path | None) -> Home:
    """The state folder ``folder``, or the default one."""
    from dosimeter.study.home import Home

    return Home.default() if folder is None else Home(folder.absolute())


def open_store(home: Home, url: str | None) -> Store:
    """The store of runs at ``url``, or the SQLite file of ``home``."""
    from dosimeter.core.files import ensure_writable_folder
    from dosimeter.study.store import Store

    if url is None:
        ensure_writable_folder(home.folder, flag="--home")
    return Store(url or home.store_url)


def open_artifacts(url: str | None) -> RemoteFolder | None:
    """The place at ``url``; ``None`` if none is given."""
    if url is None:
        return None
    from dosimeter.report.remote import RemoteFolder

    return RemoteFolder(url)


def open_store_to_read(home: Home, url: str | None) -> Store:
    """As :func:`open_store`, but nothing is made where nothing is.

    Raises:
        InputError: there is no store.
    """
    if url is None and not home.store_file.exists():
        raise InputError(
            f"there are no runs in {home.folder} yet; 'dosimeter audit' makes one, and --home or --store names "
            "another place."
        )
    return open_store(home, url)
