"""How many threads a cell computes with: fixed for a run, so that resuming it changes no last digit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(cells: int, jobs: int | None) -> int:
    """Processes for a study of ``cells`` cells, at most ``jobs``."""
    return max(1, min(cells, usable_cpus(), jobs or cells))


@contextmanager
def thread_environment(threads: int) -> Iterator[None]:
    """Libraries loaded inside the block, also by processes started there, use ``threads`` threads."""
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update({name: str(threads) for name in _VARIABLES})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Everything in the block computes with ``threads`` threads, whether its library is loaded by now or not."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with thread_environment(threads), threadpool_limits(threads):
        torch = sys.modules.get("torch")
        before = torch.get_num_threads() if torch else None
        if torch:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch = sys.modules.get("torch")
            if torch and before is not None:
                torch.set_num_threads(before)
