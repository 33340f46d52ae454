"""Outcomes to make reports of: a realistic audit with two defences, and one made of everything that breaks pages."""

import numpy as np
import pytest

from dosimeter.core import figures
from dosimeter.core.result import Artifact, Cost, Figure, Metric, Provenance, Result, Table
from dosimeter.study.outcome import Bill, Cell, CellOutcome, PolicyFinding, StudyOutcome

ENCODERS = ("resnet20", "resnet32", "resnet56", "mobilenet-v2", "fashion-cnn", "autoencoder")
OBJECTIVES = tuple(f"photo {number}" for number in range(1, 9))
LONG = "encoder" + "_of_the_longest_unbroken_name" * 12
HOSTILE = (
    "<script>alert(1)</script>",
    "</style><style>body{display:none}</style>",
    "]]> --> {{ 7*7 }} {% raw %}",
    '" onload="alert(1)" \' x=\'',
    "<img src=x onerror=alert(1)>",
    "emoji 😀👩‍👩‍👧 and مرحبا بالعالم",
    "controls \x00\x01\x1b[31m \x7f",
    "override \u202egnp.exe",
    LONG,
)


def encoder_result(*, defended: bool = False, seed: int = 0) -> Result:
    """An encoder inference as the attack would report it: one of six encoders named, or none behind JPEG."""
    generator = np.random.default_rng([seed, defended])
    scores = np.array([0.11, 0.14, 0.12, 0.09, 0.13, 0.10]) + generator.normal(0, 0.012, 6)
    scores[1] = 0.22 if defended else 0.86
    z = (scores - scores.mean()) / scores.std(ddof=1)
    named = not defended
    grid = np.clip(scores[:, None] + generator.normal(0, 0.08, (6, len(OBJECTIVES))), 0, 1)
    grid[4, 2] = np.nan
    metrics = [
        Metric(
            name="identified",
            value=float(named),
            n=6,
            higher_is_better=False,
            description="1 where the service's encoder was named, 0 where not",
            reason="a decision, not an estimate: no interval",
        ),
        Metric(
            name="top-score",
            value=float(scores[1]),
            low=float(scores[1] - 0.0612),
            high=float(scores[1] + 0.0487),
            n=40,
            interval="95% cluster bootstrap over objectives",
            higher_is_better=False,
            description="share of attack samples that the service answers like their objective",
        ),
        Metric(
            name="top-z",
            value=float(z[1]),
            n=6,
            higher_is_better=False,
            reason="six candidates are all there are",
        ),
        Metric(
            name="grubbs-p",
            value=3.214e-05 if named else 0.1874,
            n=6,
            higher_is_better=True,
            reason="an exact test",
        ),
        *(
            Metric(
                name=f"score.{name}",
                value=float(score),
                low=float(max(0, score - 0.05)),
                high=float(min(1, score + 0.05)),
                n=40,
                interval="95% cluster bootstrap over objectives",
            )
            for name, score in zip(ENCODERS, scores)
        ),
        Metric(
            name="score.random-noise",
            value=0.104,
            low=0.06,
            high=0.15,
            n=40,
            control=True,
            interval="95% Wilson",
            description="samples without synthesis: must stay at the base rate",
        ),
        Metric(
            name="planted",
            value=1.0,
            n=1,
            control=True,
            description="a local service on a candidate: must be named",
            reason="one service",
        ),
    ]
    images = [
        {
            "label": label,
            "images": [generator.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(5)],
        }
        for label in ("objective", "resnet20", "resnet32")
    ]
    return Result(
        method="encoder-inference",
        title="Encoder inference",
        verdict="fail" if named else "pass",
        summary=(
            "The service runs on resnet32: its attack samples fool the service in 86% of cases, the next best in 14%."
            if named
            else "No candidate stands out: the encoder behind the service could not be named."
        ),
        metrics=metrics,
        tables=[
            Table(
                name="candidates",
                title="Candidates",
                caption="Ranked by score; z and p over the six candidates.",
                columns=["candidate", "family", "decoy", "score", "z", "Grubbs p", "final loss"],
                rows=[
                    [
                        ENCODERS[i],
                        "resnet" if "res" in ENCODERS[i] else None,
                        bool(i >= 4),
                        float(scores[i]),
                        float(z[i]),
                        3.214e-05 if i == 1 else None,
                        float(generator.uniform(0.01, 0.09)),
                    ]
                    for i in np.argsort(-scores)
                ],
            )
        ],
        figures=[
            figures.interval_bars(
                "scores",
                "Scores of the candidates",
                "Share of attack samples the service answers like their objective, with 95% intervals. "
                "The encoder behind the service stands out.",
                [
                    {
                        "label": name,
                        "value": float(score),
                        "low": max(0.0, score - 0.05),
                        "high": min(1.0, score + 0.05),
                        "group": "decoy" if index >= 4 else "candidate",
                    }
                    for index, (name, score) in enumerate(zip(ENCODERS, scores))
                ],
                x_title="score",
                reference_lines=[{"value": 0.41, "label": "z = 1.7"}],
            ),
            figures.heatmap(
                "objectives",
                "Scores by objective",
                "A named encoder scores on all objectives, not on a lucky one.",
                rows=ENCODERS,
                columns=OBJECTIVES,
                values=grid,
                domain=(0, 1),
            ),
            figures.line(
                "z-over-queries",
                "Decision as queries arrive",
                "z of the leading candidate against queries sent to the service.",
                {
                    "leading": (
                        np.arange(8, 250, 8),
                        2.0 * (1 - np.exp(-np.arange(8, 250, 8) / 60)) * (0.4 + 0.6 * named),
                    ),
                    "second": (np.arange(8, 250, 8), np.full(31, 0.3)),
                },
                x_title="queries",
                y_title="z",
            ),
            figures.image_strip(
                "samples",
                "Attack samples",
                "What the service was shown for the first five objectives: public photographs and their imitations.",
                images,
                columns=["photo 1", "photo 2", "photo 3", "photo 4", "photo 5"],
            ),
        ],
        artifacts=[
            Artifact(
                name="attack samples",
                path=f"artifacts/samples-{seed}.npz",
                digest="sha256:" + "5d" * 32,
                bytes=1_482_113,
                description="reusable against any image service",
            )
        ],
        threat_model="The attacker calls the service and sees labels only. All candidates are public; weights are at hand.",
        limits=[
            "Candidates outside the list cannot be named; a family neighbour may be.",
            "Pre-processing that differs from the service's lowers every score.",
        ],
        cost=Cost(
            queries=248, candidate_queries=288_000, money=0.248, seconds=71.3, peak_memory_bytes=1_310_000_000
        ),
        provenance=Provenance(
            seed=seed,
            hyperparameters={
                "objectives": 8,
                "copies": 5,
                "synthesis": "gradient",
                "candidates": list(ENCODERS),
            },
            target="digits service",
            target_fingerprint="9f" * 32,
            data_digests={"objectives": "sha256:" + "0a" * 32},
            versions={"python": "3.11.9", "numpy": "1.26.4", "torch": "2.13.0", "dosimeter": "0.1.0"},
        ),
    )


def audit_outcome() -> StudyOutcome:
    """The encoder inference without defence and behind JPEG, under a policy that one of the two breaks."""
    plain, jpeg = Cell(attack="encoder-inference"), Cell(attack="encoder-inference", defense="jpeg")
    cells = [
        CellOutcome(cell=plain, result=encoder_result()),
        CellOutcome(cell=jpeg, result=encoder_result(defended=True)),
    ]
    findings = [
        PolicyFinding(
            metric=f"encoder-inference.{name}", relation=relation, bound=bound, cell=done.cell,
            measured=done.result.metric(name), verdict=verdict,
            reason="the interval reaches over the bound" if verdict == "undetermined" else None,
        )
        for name, relation, bound, done, verdict in [
            ("identified", "==", 0, cells[0], "fail"),
            ("identified", "==", 0, cells[1], "pass"),
            ("top-score", "<=", 0.25, cells[0], "fail"),
            ("top-score", "<=", 0.25, cells[1], "undetermined"),
        ]
    ]  # fmt: skip
    return StudyOutcome(
        run="20260314-102205-7f3a",
        name="Digits service",
        verdict="fail",
        summary="The encoder behind the service was named: it is resnet32. Behind JPEG compression it was not.",
        target="digits service",
        target_access="takes images, returns labels, grants queries",
        spec="name: digits service\ntarget: {kind: http, url: http://127.0.0.1:8000/classify, authorized: true}\n"
        "attacks: [encoder-inference]\ndefenses: [none, jpeg]\npolicy:\n  encoder-inference.identified: '== 0'\n",
        command="dosimeter audit digits.yaml --out report",
        started="2026-03-14T10:22:05+00:00",
        cells=cells,
        findings=findings,
        bill=Bill(queries=496, lost=2, limit=20_000, money=0.496, seconds=154.2),
        next_step="Put the service behind JPEG compression, which costs 0.4 points of accuracy, and audit it again.",
    )


def hostile_outcome() -> StudyOutcome:
    """Every text is hostile, every list is once empty and once odd, every verdict appears."""
    spec = {
        "data": {"values": [{"name": text, "value": index} for index, text in enumerate(HOSTILE)]},
        "mark": "bar",
        "encoding": {
            "y": {"field": "name", "type": "nominal"},
            "x": {"field": "value", "type": "quantitative"},
        },
    }
    everything = "\n".join(HOSTILE)
    results = [
        Result(
            method=HOSTILE[0], title=HOSTILE[0], verdict="fail", summary=everything, threat_model=everything,
            limits=list(HOSTILE),
            metrics=[
                Metric(name=text, value=index / 7, unit=text, interval=text, description=text, low=-1e-9)
                for index, text in enumerate(HOSTILE)
            ],
            tables=[
                Table(name=text, title=text, caption=text, columns=[text, "x"],
                      rows=[[text, float("nan")], [None, {"a": [text]}], [True, -12345678.9], [text * 60, 10**30]])
                for text in HOSTILE
            ],
            figures=[
                Figure(name="bars", title=HOSTILE[0], caption=everything, spec=spec),
                Figure(name="wide", title="wide", caption=HOSTILE[3], spec={**spec, "width": "container", "background": "white"}),
                Figure(name="remote", title="remote", caption=HOSTILE[4],
                       spec={**spec, "data": {"url": "http://127.0.0.1:9/<script>"}}),
                Figure(name="nonsense", title="nonsense", caption="", spec={"mark": HOSTILE[0]}),
            ],
            artifacts=[Artifact(name=text, path="javascript:" + text, digest=text, bytes=0) for text in HOSTILE],
            provenance=Provenance(seed=2**40, hyperparameters=dict.fromkeys(HOSTILE, everything), target=HOSTILE[0],
                                  target_fingerprint=LONG, data_digests=dict.fromkeys(HOSTILE, LONG),
                                  versions=dict.fromkeys(HOSTILE, HOSTILE[0])),
        ),
        Result(
            method="membership", title="Membership", verdict="undetermined", summary="Too little data.",
            reason="12 members are too few",
            metrics=[Metric(name="tpr@0.1%fpr", value=None, reason="12 records cannot resolve 0.1%"),
                     Metric(name="auc", value=0.5, low=0.3, high=0.7, n=12, interval="DeLong, 95%", control=True)],
            tables=[Table(name="empty", title="Empty", columns=["a"], rows=[]), Table(name="bare", title="Bare", columns=[], rows=[])],
            provenance=Provenance(seed=1),
        ),
        Result(method="broken", title="Broken", verdict="error", summary="It did not finish.",
               reason="service answered HTML: <html><body>502</body>", provenance=Provenance(seed=0)),
    ]  # fmt: skip
    cells = [
        CellOutcome(cell=Cell(attack=result.method, defense=text, seed=result.provenance.seed), result=result)
        for result, text in zip(results, HOSTILE)
    ]
    return StudyOutcome(
        run=HOSTILE[1], name=HOSTILE[8], verdict="error", summary=everything, target=HOSTILE[5], target_access=HOSTILE[3],
        spec=everything, command=everything, started="yesterday <b>", cells=cells, next_step=HOSTILE[4],
        bill=Bill(queries=10**12),
        findings=[
            PolicyFinding(metric=HOSTILE[3], relation="<", bound=1e-7, cell=Cell(attack="not run"), measured=None,
                          verdict="error", reason=everything),
            PolicyFinding(metric="membership.auc", relation="<=", bound=0.6, cell=cells[1].cell,
                          measured=results[1].metrics[1], verdict="undetermined", reason=HOSTILE[0]),
        ],
    )  # fmt: skip


def empty_outcome() -> StudyOutcome:
    return StudyOutcome(
        run="r", name="empty", verdict="undetermined", summary="", target="", target_access="", spec="", command="",
        started="", cells=[], bill=Bill(queries=0),
    )  # fmt: skip


@pytest.fixture(scope="session")
def outcome() -> StudyOutcome:
    return audit_outcome()


@pytest.fixture(scope="session")
def hostile() -> StudyOutcome:
    return hostile_outcome()


@pytest.fixture(scope="session")
def empty() -> StudyOutcome:
    return empty_outcome()
