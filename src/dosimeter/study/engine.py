"""Where cells are worked on. An engine takes jobs and gives results back as they come; more engines can be added.

The local engine works in this process for a single worker, else in processes of its own: they start afresh (spawn), end
with this process, and a crash costs the one cell that caused it.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import wait
from typing import Any, Protocol

from dosimeter.core.errors import InputError
from dosimeter.core.progress import ProgressEvent, emit
from dosimeter.core.result import Result
from dosimeter.study.cell import Bench, CellJob, empty_result, run_cell
from dosimeter.study.materials import Materials
from dosimeter.study.threads import pinned, thread_environment, worker_count
from dosimeter.study.worker import work


class Engine(Protocol):
    """Works on jobs."""

    def run(
        self, bench: Bench, jobs: Iterable[CellJob], materials: Materials
    ) -> Generator[tuple[CellJob, Result]]:
        """Take the next job whenever there is room and yield each with its result, in any order.

        ``materials`` are this process's own; other processes make theirs from ``bench.spec``. Progress of a cell is
        passed on with :func:`core.progress.emit`. Closing the iterator stops all work.
        """


class LocalEngine:
    """Up to ``workers`` processes on this machine."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(
        self, bench: Bench, jobs: Iterable[CellJob], materials: Materials
    ) -> Generator[tuple[CellJob, Result]]:
        if self.workers > 1:
            yield from _in_processes(bench, iter(jobs), self.workers, materials)
            return
        for job in jobs:
            with pinned(bench.threads):
                result = run_cell(bench, job, materials)
            yield job, result


EngineMaker = Callable[[int, int | None], Engine]
"""Makes an engine for a number of cells that are left, with the most workers that were asked for (``None``: no limit)."""


def local_engine(cells: int, jobs: int | None) -> Engine:
    """The engine of this machine, with no more workers than it has CPUs."""
    return LocalEngine(worker_count(cells, jobs))


def engine_named(name: str, *, address: str | None = None) -> EngineMaker:
    """The engine called ``name``.

    Args:
        name: ``local`` or ``ray``.
        address: of a Ray cluster that is there; without it one is started on this machine for the study.

    Raises:
        InputError: no engine of that name, or an address for one that has none.
        MissingExtra: what the engine needs is not installed.
    """
    if name == "ray":
        from dosimeter.study.engine_ray import ray_engine

        return ray_engine(address)
    if name != "local":
        raise InputError(f"there is no engine '{name}'; choose local or ray.")
    if address is not None:
        raise InputError("--address names a Ray cluster; give --engine ray with it.")
    return local_engine


class _Worker:
    """A process, the pipe to it, and the job it works on."""

    def __init__(self, bench: Bench, job: CellJob) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, bench), daemon=True)
        with thread_environment(bench.threads):
            self.process.start()
        theirs.close()
        self.give(job)

    def give(self, job: CellJob) -> None:
        self.job = job
        self.connection.send(job)

    def receive(self, materials: Materials) -> Result | None:
        """The result if the worker is done or dead; ``None`` after passing on progress."""
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            card = materials.card(self.job.place.attack)
            return empty_result(self.job.place, "error", _death(self.process.exitcode), card)
        if isinstance(message, ProgressEvent):
            emit(replace(message, task=f"{self.job.place.cell.label}: {message.task}"))
            return None
        result: Result = message
        return result

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _in_processes(
    bench: Bench, jobs: Iterator[CellJob], most: int, materials: Materials
) -> Generator[tuple[CellJob, Result]]:
    workers: dict[Any, _Worker] = {}
    try:
        while True:
            while len(workers) < most and (job := next(jobs, None)) is not None:
                worker = _Worker(bench, job)
                workers[worker.connection] = worker
            if not workers:
                return
            for ready in wait(list(workers)):
                worker = workers[ready]
                result = worker.receive(materials)
                if result is None:
                    continue
                done = worker.job
                following = next(jobs, None) if worker.process.is_alive() else None
                if following is None:
                    del workers[ready]
                    worker.stop()
                else:
                    worker.give(following)
                yield done, result
    finally:
        for worker in workers.values():
            worker.stop()


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = " Most often memory ran out; try --jobs 1." if name == "SIGKILL" else ""
        return f"the process working on this cell was ended by {name}.{hint}"
    return f"the process working on this cell ended with exit code {exitcode} and no result; see its messages above."
