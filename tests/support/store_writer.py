"""A process that writes runs and cells into a store beside others, or holds a run until it is killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from dosimeter.core.result import Metric, Provenance, Result
from dosimeter.study.store import Store


def result(number: int) -> Result:
    return Result(
        method="m",
        title="t",
        verdict="pass",
        summary="s",
        metrics=[Metric(name="x", value=number)],
        provenance=Provenance(seed=number),
    )


def write(url: str, shared: str, starts: float, runs: int, cells: int) -> None:
    """Open the store at the time ``starts``, with others, and write at once."""
    time.sleep(max(0.0, starts - time.time()))
    store = Store(url)
    for number in range(runs):
        run = store.create(name=shared, spec_digest="d", spec_text="text", threads=1, out=Path("out"))
        for cell in range(cells):
            store.save(run.id, f"cell {cell}", result(cell), seconds=cell)
            store.save(shared, f"cell {cell}", result(cell), seconds=number)
    store.close()


def hold(url: str, run: str) -> None:
    """Hold ``run``, say so, and wait to be killed."""
    with Store(url).alone(run):
        sys.stdout.write("held\n")
        sys.stdout.flush()
        time.sleep(60)


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        hold(*sys.argv[2:])
    else:
        write(sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))
