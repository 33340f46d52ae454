"""Size and time of the report of a million scores per group, beside Altair's own page of the same distribution.

Ours: the full report (histogram, distribution, ROC curve, table of every record). The peer: one histogram as
``altair.Chart.to_html(inline=True)``, the usual way to hand a chart on, which embeds every value and draws it in the
reader's browser. Both are made in this process, in alternating order, after checking that they show the same counts.

    python benchmarks/report_size.py [--repeats 5] [--records 1000000]

Ends with 1 if the report has 3 MB or more, or takes 3 s or longer.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import altair
import numpy as np
import pyarrow
from numpy.typing import NDArray

from dosimeter.core import figures
from dosimeter.core.result import Figure, Metric, Provenance, Result, Table
from dosimeter.report.html import render_html
from dosimeter.study.outcome import Bill, Cell, CellOutcome, StudyOutcome

_BINS = 60
_MOST_BYTES, _MOST_SECONDS = 3_000_000, 3.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()

    generator = np.random.default_rng(0)
    members, others = generator.normal(0.4, 1, options.records), generator.normal(0, 1, options.records)
    table = Table(
        name="scores",
        title="Scores of all records",
        columns=["record", "score"],
        rows=[[index, score] for index, score in enumerate(members.tolist())],
    )
    drawn = draw_figures(members, others)
    check_same_counts(drawn[0], members)
    outcome = report_outcome(drawn, table)
    contestants: dict[str, Callable[[], str]] = {
        "figures and report": lambda: render_html(report_outcome(draw_figures(members, others), table)),
        "report alone": lambda: render_html(outcome),
        "altair to_html, inline": lambda: altair_page(members, others),
    }
    sizes = {name: len(make().encode()) for name, make in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(options.repeats):
        for name in list(contestants) if repeat % 2 == 0 else list(reversed(contestants)):
            started = time.perf_counter()
            contestants[name]()
            seconds[name].append(time.perf_counter() - started)

    print(f"{options.records:,} scores of members and as many of others")
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    for name, taken in seconds.items():
        print(
            f"  {name:<24} {sizes[name] / 1e6:8.3f} MB  {medians[name]:6.2f} s  "
            f"(spread {min(taken):.2f}..{max(taken):.2f}, n={len(taken)})"
        )
    ours, peer = "figures and report", "altair to_html, inline"
    print(
        f"  {sizes[peer] / sizes[ours]:.0f} times smaller and {medians[peer] / medians[ours]:.1f} times faster than the peer"
    )
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("dosimeter", "altair", "vl-convert-python", "jinja2", "numpy")
    )
    print(
        f"python {platform.python_version()}, {versions}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    return int(sizes[ours] >= _MOST_BYTES or medians[ours] >= _MOST_SECONDS)


def draw_figures(members: NDArray[np.float64], others: NDArray[np.float64]) -> list[Figure]:
    samples = {"members": members, "others": others}
    scores = np.concatenate([members, others])
    is_member = np.repeat([True, False], [len(members), len(others)])[np.argsort(-scores)]
    true_positives = np.cumsum(is_member) / len(members)
    false_positives = np.cumsum(~is_member) / len(others)
    return [
        figures.histogram(
            "histogram", "Scores", "Share of records per score.", samples, x_title="score", bins=_BINS
        ),
        figures.ecdf(
            "ecdf", "Distribution", "Share of records at or below a score.", samples, x_title="score"
        ),
        figures.line(
            "roc",
            "ROC curve",
            "Members found against others accused.",
            {"attack": (false_positives, true_positives)},
            x_title="false-positive rate",
            y_title="true-positive rate",
            x_scale="log",
            y_scale="log",
            diagonal=True,
        ),
    ]


def report_outcome(drawn: list[Figure], table: Table) -> StudyOutcome:
    result = Result.model_construct(
        method="membership",
        title="Membership",
        verdict="fail",
        summary="Members are told from others better than by chance.",
        metrics=[Metric(name="records", value=float(len(table.rows)))],
        tables=[table],
        figures=drawn,
        provenance=Provenance(seed=0),
    )
    return StudyOutcome.model_construct(
        run="benchmark",
        name="A million scores",
        verdict="fail",
        summary=result.summary,
        target="target",
        target_access="returns scores",
        spec="",
        command="",
        started="2026-01-01T00:00:00Z",
        cells=[CellOutcome.model_construct(cell=Cell(attack="membership"), result=result)],
        bill=Bill(queries=0),
    )


def altair_page(members: NDArray[np.float64], others: NDArray[np.float64]) -> str:
    scores = np.concatenate([members, others])
    groups = np.repeat(["members", "others"], [len(members), len(others)])
    chart = altair.Chart(pyarrow.table({"score": scores, "group": groups}))
    histogram = chart.mark_bar(opacity=0.5).encode(
        x=altair.X("score:Q", bin=altair.Bin(maxbins=_BINS)), y="count()", color="group:N"
    )
    with altair.data_transformers.enable("default", max_rows=None):
        return str(histogram.to_html(inline=True))


def check_same_counts(histogram: Figure, members: NDArray[np.float64]) -> None:
    """The shares of our figure are those of the values that the peer embeds."""
    rows = [row for row in histogram.spec["data"]["values"] if row["curve"] == "members"]
    edges = np.array([row["x"] for row in rows])
    shares = np.array([row["y"] for row in rows])
    inside = np.searchsorted(np.sort(members), edges[:_BINS])
    expected = np.diff(np.append(inside, len(members))) / len(members)
    np.testing.assert_allclose(shares[:_BINS], expected, atol=1e-5)


if __name__ == "__main__":
    raise SystemExit(main())
