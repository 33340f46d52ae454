"""The engine that works on a Ray cluster: one actor per worker, on any node, and one that keeps the books.

Cells give the same figures as on the local engine: the same code (checked on every node before its first cell), the
same number of threads, the same seeds. Bill and answers stay in files of the driver's machine (``study.ray_books``);
files that a cell leaves are fetched to the driver's output folder when it ends. A worker that dies costs the one cell
it worked on, and is replaced while cells are left.

A Ray cluster is one circle of trust: whoever can talk to it can run code on all its nodes. Does not own: starting and
finding clusters (``study.ray_cluster``), what happens on a node (``study.ray_worker``).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from dosimeter.core.errors import DosimeterError, InputError
from dosimeter.core.files import write_atomic
from dosimeter.core.progress import ProgressEvent, emit
from dosimeter.core.result import Result
from dosimeter.study.cell import Bench, CellJob, empty_result
from dosimeter.study.engine import Engine, EngineMaker
from dosimeter.study.identity import code_version
from dosimeter.study.materials import Materials
from dosimeter.study.ray_books import Desk, answered
from dosimeter.study.ray_cluster import ClusterError, Connection, connected, import_ray
from dosimeter.study.ray_worker import Brief, LogLine, Ready, Worker
from dosimeter.study.threads import worker_count

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PATIENCE_SECONDS = 30.0
_CLOSE_SECONDS = 5.0

logger = logging.getLogger(__name__)


def ray_engine(address: str | None = None) -> EngineMaker:
    """An engine on the cluster at ``address``; on one started on this machine for the study, without it.

    Raises:
        MissingExtra: Ray is not installed.
    """
    if address is not None:
        import_ray()
        return lambda cells, jobs: RayEngine(min(cells, jobs or cells), address=address)
    _require_ray()
    return lambda cells, jobs: RayEngine(worker_count(cells, jobs))


def _require_ray() -> None:
    """Whether Ray is there, without importing it: what it reads then is set just before a cluster is started."""
    from importlib.util import find_spec

    if find_spec("ray") is None:
        import_ray()


class RayEngine(Engine):
    """Up to ``workers`` actors, each with as many CPUs as a cell has threads; the cluster decides where."""

    def __init__(self, workers: int, *, address: str | None = None) -> None:
        self.workers, self.address = workers, address

    def run(
        self, bench: Bench, jobs: Iterable[CellJob], materials: Materials
    ) -> Generator[tuple[CellJob, Result]]:
        """As every engine; also raises :class:`ClusterError` where not a cell failed but the cluster."""
        leave_out = [bench.home.folder, bench.out, bench.spec.origin.folder / "dosimeter-runs"]
        with connected(
            self.address,
            cpus=self.workers * bench.threads,
            folder=bench.spec.origin.folder,
            leave_out=leave_out,
        ) as connection:
            team = _Team(bench, iter(jobs), materials, self.workers, connection)
            try:
                yield from team.results()
            finally:
                team.stop()


class _Member:
    """A worker, the reference of what it does now, and the job it works on."""

    def __init__(self, handle: Any, name: str, doing: Any, job: CellJob | None = None) -> None:
        self.handle, self.name, self.doing, self.job = handle, name, doing, job
        self.ready: Ready | None = None

    @property
    def host(self) -> str:
        return self.ready.host if self.ready else "unknown"


class _Team:
    """The desk and the workers of one study."""

    def __init__(
        self, bench: Bench, jobs: Iterator[CellJob], materials: Materials, most: int, connection: Connection
    ) -> None:
        self._ray = import_ray()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._bench, self._jobs, self._materials = bench, jobs, materials
        self._check_size()
        node = self._ray.get_runtime_context().get_node_id()
        here = NodeAffinitySchedulingStrategy(node, soft=False)
        self._desk = (
            self._ray.remote(Desk)
            .options(num_cpus=0, scheduling_strategy=here)
            .remote(bench.home, bench.run, bench.spec.budget.queries)
        )
        named = set(_VARIABLE.findall(bench.spec.origin.text))
        environment = {name: os.environ[name] for name in sorted(named) if name in os.environ}
        self._brief = Brief(bench, connection.copied, connection.place, node, environment)
        self._made = 0
        self._members: dict[Any, _Member] = {}
        for _ in range(most):
            self._hire()

    def _check_size(self) -> None:
        """Ray would wait for a node that is large enough, for ever."""
        largest = max(
            (node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]), default=0
        )
        if largest < self._bench.threads:
            raise InputError(
                f"a cell computes with {self._bench.threads} threads, but no node of the Ray cluster has more than "
                f"{largest:g} CPUs. Give fewer --threads."
            )

    def _hire(self, job: CellJob | None = None) -> None:
        self._made += 1
        name = f"worker-{self._made}"
        handle = self._ray.remote(Worker).options(num_cpus=self._bench.threads).remote(self._desk, name)
        member = _Member(handle, name, handle.prepare.remote(self._brief), job)
        self._members[member.doing] = member

    def results(self) -> Iterator[tuple[CellJob, Result]]:
        """Results as they come, until there are no more jobs."""
        told = self._desk.told.remote()
        said_waiting = False
        while self._members:
            done, _ = self._ray.wait([told, *self._members], timeout=_PATIENCE_SECONDS)
            if not done and not said_waiting and not any(member.ready for member in self._members.values()):
                said_waiting = True
                logger.warning(
                    "waiting for the Ray cluster, which has no room: a cell needs %d CPU", self._bench.threads
                )
            for reference in done:
                if reference == told:
                    self._pass_on(answered(told))
                    told = self._desk.told.remote()
                    continue
                member = self._members.pop(reference)
                if member.ready is None:
                    member.ready = self._got_ready(member)
                    self._give(member, member.job or next(self._jobs, None))
                    continue
                job = member.job
                assert job is not None
                result = self._result(member, job)
                self._pass_on(answered(self._desk.told_by_now.remote()))
                yield job, result

    def _got_ready(self, member: _Member) -> Ready:
        try:
            ready: Ready = self._ray.get(member.doing)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, DosimeterError):
                raise cause from None
            raise ClusterError(
                f"no worker could be started on the Ray cluster: {_last_line(error)}. Install the same dosimeter, with "
                "what the spec needs, on every node; what was finished is kept."
            ) from error
        if ready.code != code_version():
            raise ClusterError(
                f"node {ready.host} of the Ray cluster has another dosimeter, or other versions of the libraries that "
                "figures depend on, than this machine. Install the same on every node; what was finished is kept."
            )
        return ready

    def _give(self, member: _Member, job: CellJob | None) -> None:
        if job is None:
            self._dismiss(member)
            return
        member.job = job
        member.doing = member.handle.work.remote(job)
        self._members[member.doing] = member

    def _result(self, member: _Member, job: CellJob) -> Result:
        """What came of ``job``; its worker, or one in its place, has the next job by then."""
        card = self._materials.card(job.place.attack)
        try:
            result: Result
            result, files = self._ray.get(member.doing)
            if result.verdict == "error":
                answered(self._desk.told_by_now.remote())  # not the cell's error if the desk is gone
            self._fetch(member, files)
        except self._ray.exceptions.RayError as error:
            answered(self._desk.forget.remote(member.name))
            self._ray.kill(member.handle)
            if (following := next(self._jobs, None)) is not None:
                self._hire(following)
            return empty_result(job.place, "error", self._death(member, error), card)
        except DosimeterError as error:
            if isinstance(error, ClusterError):
                raise
            result = empty_result(job.place, "error", str(error), card, result.cost)
        self._give(member, next(self._jobs, None))
        return result

    def _fetch(self, member: _Member, files: dict[str, int]) -> None:
        """Bring the files of a cell into the driver's output folder."""
        for name, size in files.items():
            path = Path(os.path.normpath(self._bench.out / name))
            if not path.is_relative_to(self._bench.out / "artifacts"):
                raise ClusterError(
                    f"node {member.host} offers the file '{name}', which is no file of a cell."
                )

            def copy(file: IO[bytes], name: str = name, size: int = size) -> None:
                while (offset := file.tell()) < size:
                    piece = self._ray.get(member.handle.read.remote(name, offset))
                    if not piece:
                        raise ClusterError(f"the file '{name}' on node {member.host} became shorter.")
                    file.write(piece)

            write_atomic(path, copy)
        if files:
            member.handle.clear.remote()

    def _pass_on(self, messages: list[Any]) -> None:
        for message in messages:
            if isinstance(message, ProgressEvent):
                emit(message)
            elif isinstance(message, LogLine):
                logging.getLogger(message.name).log(message.level, "%s", message.text)

    def _death(self, member: _Member, error: Exception) -> str:
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            return (
                f"Ray ended the process working on this cell, because node {member.host} ran out of memory. "
                "Give fewer --jobs."
            )
        return (
            f"the process working on this cell, on node {member.host} of the Ray cluster, ended without a result. Most "
            "often memory ran out; try fewer --jobs."
        )

    def _dismiss(self, member: _Member) -> None:
        try:
            self._ray.get(member.handle.close.remote(), timeout=_CLOSE_SECONDS)
        except self._ray.exceptions.RayError:
            logger.debug("a worker did not end by itself", exc_info=True)
        self._ray.kill(member.handle)

    def stop(self) -> None:
        """End all work at once."""
        if not self._ray.is_initialized():
            return
        for member in self._members.values():
            self._ray.kill(member.handle)
        self._members.clear()
        self._ray.kill(self._desk)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
