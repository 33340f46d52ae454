"""How lopsided are the answers of a service? The smallest useful attack, as an example of a plug-in."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from dosimeter import Attack, Card, Context, Findings, InputError, Metric, Needs, Oracle, RecordScores, Target
from dosimeter.core.method import Estimate
from dosimeter.core.records import Batch, take
from dosimeter.core.result import Table
from dosimeter.stats.intervals import proportion_interval


class LabelSkew(Attack):
    """Asks the service about public inputs and measures the share of its most frequent label.

    A share far above that of the other labels tells an outsider about the data the model was trained on.
    """

    card: ClassVar[Card] = Card(
        slug="label-skew",
        kind="attack",
        title="Label skew",
        purpose="How much more often than others does the service give one label?",
        threat_model="An outsider who may send ordinary requests and has public inputs.",
        needs=Needs(modalities=("image", "text", "table"), returns=("label", "scores")),
    )

    inputs: int | None = Field(None, ge=1, description="public inputs to ask; all if not given")

    def attack(self, oracle: Oracle, context: Context) -> Findings:
        inputs = self._inputs(context)
        labels = oracle.labels(inputs)
        names, counts = np.unique(labels, return_counts=True)
        most = int(counts.max())
        interval = proportion_interval(most, len(labels))
        skew = Metric(
            name="skew",
            value=most / len(labels),
            low=interval.low,
            high=interval.high,
            interval=interval.method,
            n=len(labels),
            higher_is_better=False,
            description="share of the most frequent label",
        )
        rows = [[int(name), int(count)] for name, count in zip(names, counts)]
        return Findings(
            verdict="pass",
            summary=f"The most frequent label is {most} of {len(labels)} answers.",
            metrics=[skew],
            records=[RecordScores.of(inputs, {"skew": labels == names[counts.argmax()]})],
            tables=[Table(name="labels", title="Answers", columns=["label", "answers"], rows=rows)],
        )

    def estimate(self, target: Target, context: Context) -> Estimate:
        return Estimate(queries=len(self._inputs(context)), seconds=0.001 * len(self._inputs(context)))

    def _inputs(self, context: Context) -> Batch:
        if context.public is None:
            raise InputError("label-skew asks public inputs; give them as data.public in the spec.")
        count = min(self.inputs or len(context.public), len(context.public))
        return take(context.public, context.rng("inputs").permutation(len(context.public))[:count])
