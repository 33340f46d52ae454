"""What the Ray engine costs per cell, against the local engine with as many workers.

Two kinds of cells: *nothing* asks nothing and returns at once; *small* asks 160 words in ten calls of a function and
leaves a file. Both engines work on the same cells, one after the other in alternating order, and must give the same
figures. A cell's time is counted from the first result to the last, so that starting workers, which is shown beside it,
is not in it; the Ray cluster itself is started once, before.

The thresholds are there to notice a change for the worse: so many milliseconds more per cell that asks nothing, and
per call of the oracle in one that asks, beyond that.

    python benchmarks/ray_overhead.py [--repeats 5] [--cells 60] [--workers 2] [--most-ms 50] [--most-ms-per-call 25]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from dosimeter.core.access import Needs
from dosimeter.core.card import Card
from dosimeter.core.method import Attack, Context, Estimate, Findings
from dosimeter.core.oracle import Oracle
from dosimeter.core.result import Metric, Result
from dosimeter.core.target import CallableTarget, Target
from dosimeter.study.cell import Bench, CellJob
from dosimeter.study.engine import Engine, LocalEngine
from dosimeter.study.engine_ray import RayEngine
from dosimeter.study.grid import grid
from dosimeter.study.home import Home
from dosimeter.study.materials import Materials
from dosimeter.study.ray_cluster import connected
from dosimeter.study.spec import load_spec

CELLS = {"nothing": "benchmark-nothing", "small": "selftest-probe"}
CALLS = 10
SPEC = """\
name: overhead
target: {{kind: torch, factory: "ray_overhead:service", returns: label}}
attacks: [{attack}]
seeds: {seeds}
"""


class Nothing(Attack):
    """Asks nothing and returns at once."""

    card: ClassVar[Card] = Card(
        slug="benchmark-nothing",
        kind="attack",
        title="Nothing",
        purpose="What does a cell cost?",
        threat_model="None.",
        needs=Needs(modalities=("text",), returns=("label",)),
    )

    def attack(self, oracle: Oracle, context: Context) -> Findings:
        return Findings(verdict="pass", summary="Nothing.", metrics=[Metric(name="seed", value=context.seed)])

    def estimate(self, target: Target, context: Context) -> Estimate:
        return Estimate(queries=0)


def service() -> Target:
    """Labels words by their length and first letter."""
    return CallableTarget(
        lambda words: [(len(word) + ord(word[0])) % 7 for word in words],
        modality="text",
        returns="label",
        name="words",
        fingerprint="words",
    )


def install(folder: Path) -> None:
    """Make the attacks known to this process and to those it starts."""
    metadata = folder / "benchmark-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: benchmark\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(
        "[dosimeter.methods]\nbenchmark-nothing = ray_overhead:Nothing\n"
        "selftest-probe = dosimeter.selftest.probe:Probe\n"
    )
    added = [str(folder), str(Path(__file__).parent)]
    sys.path[:0] = added
    os.environ["PYTHONPATH"] = os.pathsep.join([*added, *filter(None, [os.environ.get("PYTHONPATH")])])


def run(engine: Engine, folder: Path, attack: str, cells: int) -> tuple[float, float, list[list[Metric]]]:
    """Seconds to the first result, seconds per further cell, and the figures by seed."""
    folder.mkdir(parents=True)
    path = folder / "audit.yaml"
    path.write_text(SPEC.format(attack=attack, seeds=list(range(cells))))
    spec = load_spec(path)
    materials = Materials(spec)
    bench = Bench(spec, Home(folder / "home"), "run", folder / "out", threads=1)
    jobs = [CellJob(place, max_queries=1000) for place in grid(spec)]
    started = time.perf_counter()
    times: list[float] = []
    found: dict[int, Result] = {}
    for job, result in engine.run(bench, jobs, materials):
        times.append(time.perf_counter() - started)
        found[job.place.cell.seed] = result
    assert all(result.verdict == "pass" for result in found.values()), next(iter(found.values())).reason
    return times[0], (times[-1] - times[0]) / (cells - 1), [found[seed].metrics for seed in range(cells)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--most-ms", type=float, default=50.0, help="more per cell than local")
    parser.add_argument("--most-ms-per-call", type=float, default=25.0, help="more per call of the oracle")
    options = parser.parse_args()
    overhead = {}
    with tempfile.TemporaryDirectory(prefix="dosimeter-bench-") as name:
        folder = Path(name)
        install(folder)
        began = time.perf_counter()
        with connected(None, cpus=options.workers, folder=folder, leave_out=[]):
            cluster = time.perf_counter() - began
            engines: dict[str, Engine] = {
                "local": LocalEngine(options.workers),
                "ray": RayEngine(options.workers),
            }
            for kind, attack in CELLS.items():
                first: dict[str, list[float]] = {name: [] for name in engines}
                each: dict[str, list[float]] = {name: [] for name in engines}
                for repeat in range(options.repeats):
                    figures = {}
                    for engine in list(engines)[:: 1 if repeat % 2 else -1]:
                        place = folder / kind / f"{engine}-{repeat}"
                        start, cell, figures[engine] = run(engines[engine], place, attack, options.cells)
                        first[engine].append(start)
                        each[engine].append(1000 * cell)
                    assert figures["local"] == figures["ray"], "the engines do not give the same figures"
                more = [ray - local for ray, local in zip(each["ray"], each["local"])]
                overhead[kind] = statistics.median(more)
                for engine in engines:
                    print(
                        f"{kind:8} {engine:6} {statistics.median(each[engine]):8.1f} ms per cell "
                        f"({min(each[engine]):.1f} to {max(each[engine]):.1f}), first result after "
                        f"{statistics.median(first[engine]):.1f} s"
                    )
                print(
                    f"{kind:8} overhead {statistics.median(more):6.1f} ms per cell ({min(more):.1f} to {max(more):.1f})"
                )
    print(
        f"{options.repeats} repeats of {options.cells} cells, {options.workers} workers; the cluster started in "
        f"{cluster:.1f} s"
    )
    print(
        f"Python {platform.python_version()}, ray {version('ray')}, dosimeter {version('dosimeter')}, "
        f"{os.cpu_count()} CPUs"
    )
    per_call = (overhead["small"] - overhead["nothing"]) / CALLS
    good = overhead["nothing"] <= options.most_ms and per_call <= options.most_ms_per_call
    print(
        f"{per_call:.1f} ms per call of the oracle; at most {options.most_ms:g} ms more per cell and "
        f"{options.most_ms_per_call:g} ms per call: {'yes' if good else 'NO'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
