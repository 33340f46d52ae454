"""Works on one cell: attack, defended target, oracle, and a result whatever happens."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dosimeter.core.cache import AnswerCache, AnswerKeeper
from dosimeter.core.card import Card
from dosimeter.core.errors import BudgetExceeded, DosimeterError
from dosimeter.core.ledger import Ledger, QueryBill
from dosimeter.core.limits import time_limit
from dosimeter.core.method import Context, library_versions, peak_memory_bytes
from dosimeter.core.oracle import Oracle
from dosimeter.core.result import Cost, Provenance, Result, Verdict
from dosimeter.study.grid import GridCell
from dosimeter.study.home import Home
from dosimeter.study.materials import Materials
from dosimeter.study.spec import StudySpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """What every cell of a run shares; crosses process borders."""

    spec: StudySpec
    home: Home
    run: str
    out: Path
    threads: int

    def artifacts(self, place: GridCell) -> Path:
        """Folder of the files that the attack of ``place`` leaves."""
        return self.out / "artifacts" / place.folder

    @contextmanager
    def books(self) -> Iterator[tuple[QueryBill, AnswerKeeper]]:
        """The bill of the run and the answers of all runs."""
        with (
            closing(Ledger(self.home.ledger(self.run), max_queries=self.spec.budget.queries)) as ledger,
            closing(AnswerCache(self.home.answers)) as cache,
        ):
            yield ledger, cache


@dataclass(frozen=True)
class CellJob:
    """A cell to work on, with the most distinct queries and the most seconds (``None``: no limit) it may take."""

    place: GridCell
    max_queries: int
    seconds: float | None = None


def run_cell(bench: Bench, job: CellJob, materials: Materials) -> Result:
    """The result of one cell. Errors become results: a limit *undetermined*, everything else *error* with a sentence."""
    started = time.perf_counter()
    oracle: Oracle | None = None
    verdict: Verdict = "error"
    cell = job.place.cell
    try:
        if job.seconds is not None and job.seconds <= 0:
            raise _time_is_up(bench)
        # What an earlier run, or a killed sitting of this one, left there is no part of this result.
        shutil.rmtree(bench.artifacts(job.place), ignore_errors=True)
        with bench.books() as (ledger, cache):
            target = materials.defended(job.place.defense, cell.seed)
            oracle = Oracle(target, ledger=ledger, cache=cache, scope=cell.label, max_queries=job.max_queries)
            context = Context(
                seed=cell.seed,
                cache=bench.home.cache,
                artifacts=bench.artifacts(job.place),
                public=materials.public,
            )
            with time_limit(job.seconds):
                return materials.attack(job.place.attack).run(oracle, context=context)
    except BudgetExceeded as error:
        verdict = "undetermined"
        reason = str(_time_is_up(bench) if error.kind == "seconds" else error)
    except DosimeterError as error:
        reason = str(error)
    except Exception as error:
        logger.exception("%s stopped on a bug", cell.label)
        reason = f"a bug: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    cost = Cost(seconds=round(time.perf_counter() - started, 3), peak_memory_bytes=peak_memory_bytes())
    if oracle is not None:
        money = oracle.queries * oracle.price_per_call
        cost = cost.model_copy(update={"queries": oracle.queries, "money": money})
    return empty_result(job.place, verdict, reason, materials.card(job.place.attack), cost)


def _time_is_up(bench: Bench) -> BudgetExceeded:
    """Said in terms of the whole study; a cell's own limit is what the cells before it left."""
    seconds = bench.spec.budget.seconds or 0.0
    return BudgetExceeded("seconds", used=seconds, limit=seconds, wanted=0)


def empty_result(
    place: GridCell, verdict: Verdict, reason: str, card: Card | None = None, cost: Cost | None = None
) -> Result:
    """The result of a cell that measured nothing, and why."""
    word = "did not end" if verdict == "undetermined" else "could not be completed"
    return Result(
        method=place.cell.attack,
        title=card.title if card else place.cell.attack,
        verdict=verdict,
        summary=f"The attack {word}; nothing was measured.",
        reason=reason,
        threat_model=card.threat_model if card else "",
        cost=cost or Cost(),
        provenance=Provenance(seed=place.cell.seed, versions=library_versions()),
    )
