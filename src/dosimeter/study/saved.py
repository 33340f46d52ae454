"""Finished audits by name: a run of the store, or a ``report.json`` that was kept elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from dosimeter.core.errors import InputError
from dosimeter.study.outcome import StudyOutcome
from dosimeter.study.store import Store

_MOST_BYTES = 1_000_000_000


def saved_outcome(name: str, open_store: Callable[[], Store]) -> StudyOutcome:
    """What ``name`` ended with: a ``report.json``, a folder that holds one, or a run as :meth:`Store.find` takes it.

    Raises:
        InputError: no such report or run, or the file is no report.
    """
    path = Path(name)
    if path.is_dir() and (path / "report.json").exists():
        path = path / "report.json"
    if path.is_file():
        return read_report(path)
    if path.suffix == ".json" or len(path.parts) > 1:
        raise InputError(f"there is no report {name}. Give a report.json, a folder with one, or a run.")
    store = open_store()
    try:
        return store.outcome(store.find(name).id)
    finally:
        store.close()


def read_report(path: Path) -> StudyOutcome:
    """The outcome in a ``report.json``.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} is larger than {_MOST_BYTES:,} bytes; a report.json never is.")
        return StudyOutcome.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path} is no report of this version of Dosimeter: {where + ': ' if where else ''}{first['msg']}. Give the "
            "report.json that 'dosimeter audit' wrote; 'dosimeter report RUN' writes it again."
        ) from None
