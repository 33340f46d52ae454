"""Runs a study from spec to report, so that it can be killed at any moment and started again.

Order that makes it safe: every answer is stored when it arrives, every cell when it ends, the reports are written, and
only then the run is marked as finished. Starting again picks up the newest unfinished run of the same spec.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dosimeter.core.errors import InputError
from dosimeter.core.files import ensure_writable_folder, remove_partials
from dosimeter.core.ledger import Ledger
from dosimeter.core.progress import track
from dosimeter.core.records import content_hash
from dosimeter.core.result import Result, Verdict
from dosimeter.study.cell import Bench, CellJob, empty_result
from dosimeter.study.conclude import conclude
from dosimeter.study.engine import EngineMaker, local_engine
from dosimeter.study.home import Home, InUse
from dosimeter.study.materials import Materials
from dosimeter.study.outcome import CellOutcome, StudyOutcome
from dosimeter.study.plan import Plan, PlannedCell, plan
from dosimeter.study.spec import StudySpec
from dosimeter.study.store import RunRecord, Store, new_identifier
from dosimeter.study.threads import pinned

if TYPE_CHECKING:
    from dosimeter.report.remote import RemoteFolder

_A_DAY = 86_400.0

logger = logging.getLogger(__name__)


def run_study(
    spec: StudySpec,
    *,
    out: Path | None = None,
    home: Home | None = None,
    store: Store | None = None,
    engine: EngineMaker = local_engine,
    jobs: int | None = None,
    threads: int = 1,
    fresh: bool = False,
    materials: Materials | None = None,
    artifacts: RemoteFolder | None = None,
) -> StudyOutcome:
    """Run ``spec``, or finish the unfinished run of it, and write its reports.

    Args:
        out: folder of the reports; ``dosimeter-runs/<run>`` if not given. With it, only a run into the same folder is resumed.
        home: state folder.
        store: where runs are kept; in ``home`` if not given.
        engine: makes the engine; changes no figure.
        jobs: most workers; changes no figure.
        threads: that a cell computes with. One is fastest where tensors are small, and more change the last digits; a run
            that computed with another number is not resumed.
        fresh: begin anew even if there is an unfinished run.
        artifacts: where reports and files of cells are put beside ``out``, in a folder called like the run.
        materials: of ``spec``, where they are there already; those without a spec need ``jobs=1``.

    Raises:
        SpecError, InputError: nothing can run; nothing was asked.
        StoreError: the store failed; what was finished is kept.
        UploadError: nothing could be put into ``artifacts``; the run is finished and kept.
    """
    if artifacts is not None:
        artifacts.check()
    home = home or Home.default()
    ensure_writable_folder(home.folder, flag="--home")
    reports = out or Path("dosimeter-runs")
    made = not reports.exists()
    ensure_writable_folder(reports)
    remove_partials(home.cache, older_than_seconds=_A_DAY)
    store = store or Store(home.store_url)
    with ExitStack() as held:
        if made:
            held.callback(_remove_if_empty, reports)
        run = None if fresh else _resume(spec, out, threads, home, store, held)
        folder = run.out if run else out
        if folder is not None:
            held.enter_context(home.alone(f"out-{content_hash(str(folder.absolute()))}"))
            remove_partials(ensure_writable_folder(folder))
        materials = materials or Materials(spec)
        held.callback(materials.close)
        with pinned(threads):
            planned = plan(spec, materials)
        _refuse_if_nothing_runs(planned)
        for note in planned.notes:
            logger.warning("%s", note)
        if run is None:
            identifier = new_identifier()
            _hold(identifier, home, store, held)  # before it is there for others to find
            run = store.create(
                identifier=identifier,
                name=spec.name,
                spec_digest=_resumed_as(spec, home),
                spec_text=spec.origin.text,
                threads=threads,
                out=out,
            )
        return _Sitting(planned, run, home, store, engine, jobs, materials).finish(artifacts)


def _resume(
    spec: StudySpec, out: Path | None, threads: int, home: Home, store: Store, held: ExitStack
) -> RunRecord | None:
    """The newest unfinished run that no other process is working on, locked; ``None`` if there is none."""
    for run in store.unfinished(_resumed_as(spec, home), out):
        if run.threads != threads:
            continue
        try:
            _hold(run.id, home, store, held)
        except InUse:
            continue
        logger.info("resuming run %s of %s; --fresh begins anew", run.id, run.started)
        return run
    return None


def _resumed_as(spec: StudySpec, home: Home) -> str:
    """What a run must have in common with this start to be resumed: the study, and the folder with its bill and answers."""
    return content_hash(spec.digest, home.identity())


def _hold(run: str, home: Home, store: Store, held: ExitStack) -> None:
    """Keep everybody else from working on ``run``: who shares the state folder, and who shares the store."""
    with ExitStack() as both:
        both.enter_context(home.alone(f"run-{run}"))
        both.enter_context(store.alone(run))
        held.push(both.pop_all())


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _refuse_if_nothing_runs(planned: Plan) -> None:
    if all(cell.status == "cannot run" for cell in planned.cells):
        reasons = list(dict.fromkeys(cell.reason or "" for cell in planned.cells))
        only = planned.cells[0].error
        raise (
            only
            if len(reasons) == 1 and only
            else InputError("no cell can run:\n" + "\n".join(f"  - {r}" for r in reasons))
        )


class _Sitting:
    """One stretch of work on a run, from whatever is stored to its end."""

    def __init__(
        self,
        planned: Plan,
        run: RunRecord,
        home: Home,
        store: Store,
        engine: EngineMaker,
        jobs: int | None,
        materials: Materials,
    ) -> None:
        self.planned, self.run, self.home, self.store = planned, run, home, store
        self.engine, self.jobs, self.materials = engine, jobs, materials
        self.began = time.monotonic()
        self.results = store.results(run.id)

    @property
    def seconds(self) -> float:
        """Time worked on the run so far, over all sittings."""
        return self.run.seconds + time.monotonic() - self.began

    def finish(self, artifacts: RemoteFolder | None) -> StudyOutcome:
        from dosimeter.report.write import write_reports

        self._work()
        ledger = Ledger(self.home.ledger(self.run.id))
        outcome = conclude(
            self.planned,
            [CellOutcome(cell=cell.cell, result=self.results[_key(cell)]) for cell in self.planned.cells],
            run=self.run.id,
            started=self.run.started,
            seconds=self.seconds,
            sent=ledger.used,
            lost=ledger.lost,
        )
        ledger.close()
        reports = write_reports(outcome, self.run.out)
        if artifacts is not None:
            self._send(outcome, reports, artifacts)
        self.store.finish(self.run.id, outcome)
        return outcome

    def _send(self, outcome: StudyOutcome, reports: list[Path], artifacts: RemoteFolder) -> None:
        """Before the run is marked as finished, so that a killed one is resumed and sends; after a failure it is finished."""
        from dosimeter.report.keep import send
        from dosimeter.report.remote import UploadError

        try:
            send(outcome, reports, self.run.out, artifacts)
        except UploadError:
            self.store.finish(self.run.id, outcome)
            raise

    def _work(self) -> None:
        bench = Bench(self.planned.spec, self.home, self.run.id, self.run.out, self.run.threads)
        keys = {cell.place: _key(cell) for cell in self.planned.cells}
        for cell in self.planned.cells:
            if cell.status != "run" and keys[cell.place] not in self.results:
                verdict: Verdict = "undetermined" if cell.status == "over budget" else "error"
                card = self.materials.card(cell.place.attack)
                self._keep(keys[cell.place], empty_result(cell.place, verdict, cell.reason or "", card))
        left = [cell for cell in self.planned.cells if keys[cell.place] not in self.results]
        with track("cells", len(keys)) as bar:
            bar.advance(len(keys) - len(left))
            if not left:
                return
            engine = self.engine(len(left), self.jobs)
            # Closed at once where a result cannot be kept: what nobody will hear of must not be asked for.
            with closing(engine.run(bench, self._jobs(left), self.materials)) as done:
                for job, result in done:
                    self._keep(keys[job.place], result)
                    bar.advance()

    def _jobs(self, cells: list[PlannedCell]) -> Iterator[CellJob]:
        """Made when an engine asks for the next one, so that each knows the time that is left by then."""
        limit = self.planned.spec.budget.seconds
        for cell in cells:
            left = None if limit is None else limit - self.seconds
            yield CellJob(cell.place, max_queries=cell.estimate.queries if cell.estimate else 0, seconds=left)

    def _keep(self, key: str, result: Result) -> None:
        self.store.save(self.run.id, key, result, seconds=self.seconds)
        self.results[key] = result


def _key(cell: PlannedCell) -> str:
    """Identity of a cell within its run; a target that changed makes its cells other cells."""
    return content_hash(cell.cell.label, cell.fingerprint)
