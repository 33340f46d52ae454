"""The life of a local worker process: take a job, work, report progress, give the result back, until the pipe closes."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection, wait

from dosimeter.core.progress import ProgressEvent, listening
from dosimeter.study.cell import Bench, CellJob, run_cell
from dosimeter.study.materials import Materials
from dosimeter.study.threads import pinned

_SECONDS_BETWEEN_EVENTS = 0.1


def work(connection: Connection, bench: Bench) -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means, and ends us
    _end_with_parent()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what is wrong with a picture, its error says
    materials = Materials(bench.spec)
    with pinned(bench.threads), listening(_Reporter(connection)):
        while True:
            try:
                job: CellJob = connection.recv()
            except EOFError:
                return
            connection.send(run_cell(bench, job, materials))


class _Reporter:
    """Sends progress to the parent, of each task at most every tenth of a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last: dict[str, float] = {}

    def __call__(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        if event.finished:
            self._last.pop(event.task, None)
        elif now - self._last.get(event.task, -1.0) < _SECONDS_BETWEEN_EVENTS:
            return
        else:
            self._last[event.task] = now
        self._connection.send(event)


def _end_with_parent() -> None:
    """A killed parent cannot end its workers; without this they would go on asking."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
