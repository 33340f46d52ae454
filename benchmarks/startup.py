"""How long ``dosimeter --help`` and ``dosimeter list`` take, beside an empty interpreter and ``import torch``.

Whole processes, in alternating order, medians over the repeats. Exit code 1 if a command takes longer than 0.3 s.
Run: python benchmarks/startup.py [repeats]
"""

from __future__ import annotations

import platform
import shutil
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIMIT_SECONDS = 0.3
FEWEST_REPEATS = 7


def commands() -> dict[str, list[str]]:
    """What is timed, by name; the yardsticks last."""
    beside = Path(sys.executable).with_name("dosimeter")
    dosimeter = str(beside) if beside.exists() else shutil.which("dosimeter") or "dosimeter"
    return {
        "dosimeter --help": [dosimeter, "--help"],
        "dosimeter list": [dosimeter, "list"],
        "python -c pass": [sys.executable, "-c", "pass"],
        "import torch": [sys.executable, "-c", "import torch"],
    }


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def installed(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def main() -> int:
    repeats = max(FEWEST_REPEATS, int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    timed = commands()
    if "not installed" in installed("torch"):
        del timed["import torch"]
    for command in timed.values():
        seconds(command)  # files into the page cache, bytecode onto disk
    times: dict[str, list[float]] = {name: [] for name in timed}
    for repeat in range(repeats):
        for name in list(timed) if repeat % 2 == 0 else reversed(list(timed)):
            times[name].append(seconds(timed[name]))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{'':18}{'median':>9}{'fastest':>9}{'slowest':>9}{'x empty':>9}{'x torch':>9}")
    for name, values in times.items():
        to_torch = (
            f"{medians[name] / medians['import torch']:9.2f}" if "import torch" in medians else f"{'-':>9}"
        )
        print(
            f"{name:18}{medians[name]:8.3f}s{min(values):8.3f}s{max(values):8.3f}s"
            f"{medians[name] / medians['python -c pass']:9.1f}{to_torch}"
        )
    versions = ", ".join(installed(name) for name in ("dosimeter", "typer", "rich", "pydantic", "torch"))
    print(f"{repeats} repeats; Python {platform.python_version()}, {versions}; {platform.machine()}")
    slow = [name for name in timed if name.startswith("dosimeter") and medians[name] > LIMIT_SECONDS]
    print(f"over {LIMIT_SECONDS} s: {', '.join(slow)}" if slow else f"both commands within {LIMIT_SECONDS} s")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
