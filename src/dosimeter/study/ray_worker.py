"""The life of a worker of the Ray engine: a Ray actor, on whatever node, that works on one cell after the other.

It keeps a folder of its own for the files that a cell leaves, which the driver fetches piece by piece, and a cache for
intermediate work: that of the state folder on the driver's machine, one under the user's own cache folder elsewhere.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dosimeter.core.cache import AnswerKeeper
from dosimeter.core.errors import InputError
from dosimeter.core.files import ensure_writable_folder
from dosimeter.core.ledger import QueryBill
from dosimeter.core.progress import ProgressEvent, listening
from dosimeter.core.result import Result
from dosimeter.study.cell import Bench, CellJob, run_cell
from dosimeter.study.home import Home
from dosimeter.study.identity import code_version
from dosimeter.study.materials import Materials
from dosimeter.study.ray_books import Line, RemoteAnswers, RemoteLedger, answered
from dosimeter.study.threads import pinned

PIECE_BYTES = 4 * 2**20
_SECONDS_BETWEEN_EVENTS = 0.1
_A_DAY = 86_400.0
_PREFIX = "dosimeter-cell-"


@dataclass(frozen=True)
class RemoteBench(Bench):
    """A bench whose bill and answers are on another machine."""

    desk: Any = None
    worker: str = ""

    @contextmanager
    def books(self) -> Iterator[tuple[QueryBill, AnswerKeeper]]:
        """The proxies of bill and answers."""
        line = Line(self.desk, self.worker)
        yield RemoteLedger(line, self.spec.budget.queries), RemoteAnswers(line)


@dataclass(frozen=True)
class LogLine:
    """A record of a worker's log, for the driver's."""

    name: str
    level: int
    text: str


@dataclass(frozen=True)
class Brief:
    """What a worker is told before its first cell.

    Attributes:
        bench: the driver's, with the driver's paths.
        copied: the spec's folder was copied to the node, as the current folder of its workers.
        place: folder that goes with the cluster, for what workers keep for a while; the system's if ``None``.
        node: Ray's name of the driver's node.
        environment: variables that the spec names. Handed over in a call, which Ray keeps nowhere.
    """

    bench: Bench
    copied: bool
    place: Path | None
    node: str
    environment: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Ready:
    """What a worker says of itself: the code it runs, and the name of its machine."""

    code: str
    host: str


class Worker:
    """A Ray actor; ``name`` tells it from all others of the study."""

    def __init__(self, desk: Any, name: str) -> None:
        self._desk, self._name = desk, name
        self._label = ""
        self._last: dict[str, float] = {}
        self._told: Any = None

    def prepare(self, brief: Brief) -> Ready:
        """Get ready for cells.

        Raises:
            InputError: the folder of the spec is not on this node.
        """
        import ray

        self._scratch = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=brief.place))
        if brief.place is None:
            _remove_old(self._scratch.parent, keep=self._scratch)
        os.environ.update(brief.environment)
        bench = brief.bench
        origin = bench.spec.origin
        if brief.copied:
            folder = Path.cwd()
            # Ray puts the folder first; what is installed must not be shadowed by a file beside the spec.
            sys.path[:] = [entry for entry in sys.path if Path(entry).absolute() != folder]
        elif (folder := origin.folder).is_dir():
            os.chdir(folder)
        else:
            raise InputError(
                f"node {socket.gethostname()} has no folder {folder}, where the spec lies. Let Dosimeter connect with "
                "--address, which copies it to the nodes, or put it there."
            )
        here = ray.get_runtime_context().get_node_id() == brief.node
        self._bench = RemoteBench(
            spec=bench.spec.with_origin(replace(origin, folder=folder)),
            home=bench.home if here else Home(_own_cache()),
            run=bench.run,
            out=self._scratch,
            threads=bench.threads,
            desk=self._desk,
            worker=self._name,
        )
        self._materials = Materials(self._bench.spec)
        _log_to(self._tell)
        return Ready(code_version(), socket.gethostname())

    def work(self, job: CellJob) -> tuple[Result, dict[str, int]]:
        """The result of ``job``, and the files that it left, by their path from the output folder, with their sizes."""
        self._label = job.place.cell.label
        with pinned(self._bench.threads), listening(self._report):
            result = run_cell(self._bench, job, self._materials)
        kept = self._bench.artifacts(job.place)
        files = {
            path.relative_to(self._scratch).as_posix(): path.stat().st_size
            for path in sorted(kept.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        if self._told is not None:
            answered(self._told)  # all that was told before has arrived by then
        return result, files

    def read(self, name: str, offset: int) -> bytes:
        """A piece of the file ``name`` that the last cell left."""
        with (self._scratch / name).open("rb") as file:
            file.seek(offset)
            return file.read(PIECE_BYTES)

    def clear(self) -> None:
        """Remove the files of the last cell."""
        shutil.rmtree(self._scratch / "artifacts", ignore_errors=True)

    def close(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _tell(self, message: Any) -> None:
        self._told = self._desk.tell.remote(message)

    def _report(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        if event.finished:
            self._last.pop(event.task, None)
        elif now - self._last.get(event.task, -1.0) < _SECONDS_BETWEEN_EVENTS:
            return
        else:
            self._last[event.task] = now
        self._tell(replace(event, task=f"{self._label}: {event.task}"))


def _own_cache() -> Path:
    """Where a node keeps intermediate work between runs."""
    named = os.environ.get("XDG_CACHE_HOME")
    base = Path(named) if named else Path.home() / ".cache"
    return ensure_writable_folder(base / "dosimeter", flag=None)


def _remove_old(folder: Path, *, keep: Path) -> None:
    """What workers left that were killed long ago."""
    for path in folder.glob(f"{_PREFIX}*"):
        try:
            old = path.stat().st_mtime < time.time() - _A_DAY and path.owner() == keep.owner()
        except (OSError, KeyError):
            continue
        if old and path != keep:
            shutil.rmtree(path, ignore_errors=True)


def _log_to(tell: Any) -> None:
    """Warnings and errors of this process go to the driver's log."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if record.exc_info:
                text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
            tell(LogLine(record.name, record.levelno, text))

    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what is wrong with a picture, its error says
    logging.getLogger().addHandler(Handler(logging.WARNING))
