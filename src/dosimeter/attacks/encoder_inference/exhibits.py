"""Tables and figures of the attack's outcome."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dosimeter.attacks.encoder_inference.attack_sets import AttackSet
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.decision import Decision
from dosimeter.attacks.encoder_inference.inference import Inference
from dosimeter.core.figures import ImageRow, heatmap, image_strip, interval_bars
from dosimeter.core.records import Batch
from dosimeter.core.result import Figure, Table

# Candidates whose samples are shown, in the order given.
_MOST_STRIPS = 24


def candidate_table(decision: Decision, candidates: Sequence[Candidate], sets: Sequence[AttackSet]) -> Table:
    """One row per candidate: score, z and how good its samples are; the one that the rule puts first on top."""
    rows = []
    rank = np.nan_to_num(decision.scores, nan=-1.0) if decision.z is None else decision.z
    for index in np.argsort(-rank, kind="stable"):
        candidate, made = candidates[index], sets[index]
        score = decision.scores[index]
        start = made.start_losses.mean()
        rows.append(
            [
                candidate.name + (" (decoy)" if candidate.decoy else ""),
                candidate.family or None,
                round(float(score), 4) if np.isfinite(score) else None,
                round(float(decision.z[index]), 3) if decision.z is not None else None,
                made.origin,
                round(float(made.losses.mean() / start), 4) if start else None,
                round(float(made.losses.mean() / made.objective_spread), 4)
                if made.objective_spread
                else None,
                made.queries,
            ]
        )
    return Table(
        name="candidates",
        title="Candidates, best first",
        columns=[
            "candidate",
            "family",
            "score",
            "z",
            "samples by",
            "loss / start",
            "loss / spread",
            "candidate calls",
        ],
        rows=rows,
        caption=(
            "Score: how often the service answers a candidate's attack samples like their objectives. Loss: distance of "
            "the samples to their objectives in the candidate's own embedding, over that of random starts and over the "
            "distance between objectives; small is good."
        ),
    )


def objective_tables(inference: Inference, candidates: Sequence[Candidate]) -> list[Table]:
    """Similarities of all candidates on each objective; no table if none was asked."""
    if not inference.rows:
        return []
    base, kept = inference.checks.base_rate, inference.checks.kept
    rows = [
        [objective + 1, round(float(base[objective]), 4), *(round(float(value), 4) for value in row)]
        for objective, row in zip(inference.asked, inference.rows)
    ]
    left_out = [str(j + 1) for j in np.flatnonzero(~kept)]
    caption = "In the order they were asked. Base rate: similarity of plain noise to the objective."
    if left_out:
        caption += f" Left out, because noise gets their answer: {', '.join(left_out)}."
    return [
        Table(
            name="objectives",
            title="Similarity per objective",
            columns=["objective", "base rate", *(candidate.name for candidate in candidates)],
            rows=rows,
            caption=caption,
        )
    ]


def figures(
    decision: Decision,
    inference: Inference,
    candidates: Sequence[Candidate],
    sets: Sequence[AttackSet],
    objectives: Batch,
) -> list[Figure]:
    """Scores with intervals, similarities per objective, and what the samples look like, as far as there are any."""
    made = []
    if decision.z is not None:
        made.append(
            interval_bars(
                "scores",
                "Score of each candidate",
                "The longer the bar, the more the service behaves like this candidate. Lines: 95 % interval over "
                "objectives. Dashed: what inputs made of noise reach.",
                [
                    {
                        "label": candidates[i].name,
                        "value": float(decision.scores[i]),
                        "low": float(decision.low[i]),
                        "high": float(decision.high[i]),
                        "group": "named"
                        if decision.named in (candidates[i].name, candidates[i].kin)
                        else "not named",
                    }
                    for i in np.argsort(-decision.scores, kind="stable")
                ],
                x_title="PEI score",
                reference_lines=[{"value": inference.base_rate, "label": "noise"}],
            )
        )
    if inference.rows:
        made.append(
            heatmap(
                "per-objective",
                "Where the candidates differ",
                "Share of attack samples that the service answers like their objective. A right candidate stands out in most rows.",
                rows=[str(j + 1) for j in inference.asked],
                columns=[candidate.name for candidate in candidates],
                values=inference.per_objective,
                x_title="candidate",
                y_title="objective",
            )
        )
    if isinstance(objectives, np.ndarray):
        made.append(_sample_strip(candidates, sets, objectives))
    return made


def _sample_strip(
    candidates: Sequence[Candidate], sets: Sequence[AttackSet], objectives: np.ndarray
) -> Figure:
    shown = min(3, len(objectives))
    rows: list[ImageRow] = [{"label": "objective", "images": list(objectives[:shown])}]
    for candidate, made in list(zip(candidates, sets))[:_MOST_STRIPS]:
        first_copies = np.asarray(made.samples)[:: len(made.samples) // len(objectives)]
        rows.append({"label": candidate.name, "images": list(first_copies[:shown])})
    return image_strip(
        "samples",
        "Objectives and attack samples",
        "Each sample looks like noise and means, to its candidate alone, the same as the objective above it.",
        rows,
    )
