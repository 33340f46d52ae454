"""``dosimeter selftest loaders``: hostile files against every loader, with controls that show the watch is awake.

A hostile file must be refused with one printable line: no code run, memory bounded, no hang, no other exception. A
sound file must load. The controls do what no loader may - unpickle, fill the memory, hang, crash, raise - and must be
noticed, or the rest shows nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dosimeter.core.errors import InputError
from dosimeter.core.progress import track
from dosimeter.selftest.report import SelftestCase, SelftestReport

if TYPE_CHECKING:
    from dosimeter.selftest.crafting import Case
    from dosimeter.selftest.sandbox import Observation, Sandbox

# Torch takes seconds to import, so what needs it has a process of its own, and controls that kill theirs another.
_TORCH_LOADERS = ("weights", "weights with trust")
_MODULES = {
    True: ["numpy", "safetensors.torch", "torch"],
    False: [
        "numpy",
        "PIL.Image",
        "yaml",
        "pyarrow.parquet",
        "pyarrow.compute",
        "dosimeter.loading.images",
        "dosimeter.loading.tables",
    ],
}


def run() -> SelftestReport:
    """Try every case, in child processes with limits; about 20 seconds.

    Raises:
        InputError: on a system without resource limits for processes (Windows).
    """
    if os.name != "posix":
        raise InputError(
            "the self-test 'loaders' needs limits on processes, which this system lacks. Run it on Linux or macOS."
        )
    cases = corpus()
    return SelftestReport("loaders", observe_all(cases))


def corpus() -> list[Case]:
    """Every case: controls, then weights, arrays, images, text, tables and YAML."""
    from dosimeter.selftest import corpus_arrays, corpus_images, corpus_text, corpus_weights

    return [
        *controls(),
        *corpus_weights.cases(),
        *corpus_arrays.cases(),
        *corpus_images.cases(),
        *corpus_text.cases(),
    ]


def controls() -> list[Case]:
    """What the watch must notice."""
    from dosimeter.selftest.corpus_weights import checkpoint
    from dosimeter.selftest.crafting import Case, exec_pickle, system_pickle

    def shell(_: Path, canary: Path) -> bytes:
        return system_pickle(canary)

    return [
        Case(
            "control-shell.pickle",
            "the pickle of the corpus, unpickled",
            "plain pickle.load",
            shell,
            "ran code",
        ),
        Case(
            "control-exec.pickle",
            "the other pickle, unpickled",
            "plain pickle.load",
            exec_pickle(),
            "ran code",
        ),
        Case(
            "control-trust.pt",
            "loaded with trust=True",
            "weights with trust",
            checkpoint(exec_pickle()),
            "ran code",
        ),
        Case("control-memory", "fills 700 MiB", "fills memory", b"", "exhausted memory"),
        Case("control-allocation", "asks for 8 GiB", "asks for too much memory", b"", "exhausted memory"),
        Case("control-hang", "never ends", "hangs", b"", "hung", seconds=1.0),
        Case("control-crash", "kills its process", "crashes", b"", "crashed"),
        Case("control-traceback", "raises another error", "raises", b"", "left a traceback"),
    ]


def observe_all(cases: list[Case]) -> list[SelftestCase]:
    """Make, load and judge every case, in order."""
    from dosimeter.selftest.sandbox import Sandbox

    judged = []
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="dosimeter-selftest-") as folder:
        sandboxes = {
            torch: stack.enter_context(closing(Sandbox(modules))) for torch, modules in _MODULES.items()
        }
        progress = stack.enter_context(track("trying hostile files", len(cases)))
        for case in cases:
            sandbox = sandboxes[case.loader in _TORCH_LOADERS]
            judged.append(judge(case, _observe(case, sandbox, Path(folder))))
            progress.advance()
    return judged


def _observe(case: Case, sandbox: Sandbox, folder: Path) -> Observation:
    from dosimeter.selftest.sandbox import CANARY_FILE

    home = folder / "case"
    path = home / "input" / case.name
    path.parent.mkdir(parents=True)
    try:
        case.make(path, home / CANARY_FILE)
        seen = sandbox.observe(case.loader, path, seconds=case.seconds)
        return replace(seen, detail=seen.detail.replace(f"{path.parent}/", ""))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def judge(case: Case, seen: Observation) -> SelftestCase:
    """Compare what was seen with what should happen. What an absent extra keeps from running is not held against it."""
    ok = seen.outcome in (case.expect, "not run")
    detail = seen.detail if ok else f"expected: {case.expect}; {seen.detail}"
    return SelftestCase(f"{case.loader}: {case.name}", case.what, seen.outcome, ok, detail)
