"""A small attack for self-tests: asks random words batch by batch and reports the mean label."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from dosimeter.core.access import Needs
from dosimeter.core.card import Card
from dosimeter.core.files import write_text
from dosimeter.core.method import Attack, Context, Estimate, Findings
from dosimeter.core.oracle import Oracle
from dosimeter.core.progress import track
from dosimeter.core.records import content_hash
from dosimeter.core.result import Artifact, Metric, Table
from dosimeter.core.target import Target

LETTERS = 8


class Probe(Attack):
    """Asks ``batches`` batches of ``batch_size`` random words; everything follows from the seed."""

    card: ClassVar[Card] = Card(
        slug="selftest-probe",
        kind="attack",
        title="Self-test probe",
        purpose="Does the tool keep its promises while an attack runs?",
        threat_model="None; it learns nothing.",
        needs=Needs(modalities=("text",), returns=("label",)),
    )

    batches: int = Field(10, ge=1, description="calls of the oracle")
    batch_size: int = Field(16, ge=1, description="words in each")

    def words(self, context: Context) -> list[list[str]]:
        """The words of every batch."""
        letters = context.rng("words").integers(0, 26, size=(self.batches, self.batch_size, LETTERS))
        return [["".join(chr(97 + letter) for letter in word) for word in batch] for batch in letters]

    def attack(self, oracle: Oracle, context: Context) -> Findings:
        batches = self.words(context)
        labels = []
        with track("probing", len(batches)) as bar:
            for batch in batches:
                labels.append(np.asarray(oracle(batch)))
                bar.advance(left=None if oracle.remaining is None else f"{oracle.remaining} queries left")
        answers = np.concatenate(labels)
        artifacts = []
        if context.artifacts is not None:
            text = "\n".join(map(str, answers)) + "\n"
            path = write_text(context.artifacts / "labels.txt", text)
            inside = "/".join(path.parts[-3:])
            artifacts = [Artifact(name="labels", path=inside, digest=content_hash(text), bytes=len(text))]
        return Findings(
            verdict="pass",
            summary=f"{len(answers)} words were answered.",
            metrics=[Metric(name="mean", value=float(answers.mean()), n=len(answers))],
            tables=[
                Table(
                    name="batches",
                    title="Batches",
                    columns=["batch", "mean"],
                    rows=[[number, float(part.mean())] for number, part in enumerate(labels)],
                )
            ],
            artifacts=artifacts,
        )

    def estimate(self, target: Target, context: Context) -> Estimate:
        return Estimate(queries=self.batches * self.batch_size, seconds=0.1 * self.batches)
