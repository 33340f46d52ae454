"""The two follow-ups as attacks of their own: what it costs a provider that the encoder is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_serializer

from dosimeter.attacks.encoder_inference.candidates import Candidate, candidates_from_spec
from dosimeter.attacks.encoder_inference.citation import PEI
from dosimeter.core.access import Needs
from dosimeter.core.card import Card
from dosimeter.core.errors import InputError
from dosimeter.core.figures import interval_bars
from dosimeter.core.method import Attack, Context, Estimate, Findings
from dosimeter.core.oracle import Oracle
from dosimeter.core.problems import SettingsError
from dosimeter.core.record_scores import RecordScores
from dosimeter.core.records import as_uint8_images, content_hash
from dosimeter.core.result import Metric
from dosimeter.core.seeding import derive_seed
from dosimeter.core.target import Target
from dosimeter.stats.intervals import cluster_bootstrap, proportion_interval

_NEEDS = Needs(modalities=("image",), returns=("label", "scores"))


class _WithEncoders(Attack):
    """What both follow-ups share: the revealed encoder first, others to compare it with behind it."""

    encoders: tuple[Candidate, ...] = Field(
        min_length=1, description="the revealed encoder first, then others to compare with; all grant weights"
    )

    @field_serializer("encoders")
    def _describe_encoders(self, encoders: tuple[Candidate, ...]) -> list[dict[str, Any]]:
        return [encoder.describe() for encoder in encoders]

    @classmethod
    def from_spec(cls, settings: dict[str, Any], folder: Path, *, trust: bool = False) -> Self:
        try:
            encoders = candidates_from_spec(settings.get("encoders"), folder, trust=trust, key="encoders")
        except SettingsError as error:
            return cls.checked(settings, error.problems)
        return cls.checked({**settings, "encoders": encoders}, [])

    def _local(self) -> list[Any]:
        """The encoders as torch targets.

        Raises:
            InputError: one of them does not grant weights.
        """
        for encoder in self.encoders:
            if encoder.access != "weights" or not hasattr(encoder.target, "forward"):
                raise InputError(
                    f"{self.card.slug} needs the weights of encoder '{encoder.name}', which is only queried."
                )
        return [encoder.target for encoder in self.encoders]

    def _public(self, context: Context, needed: int) -> np.ndarray:
        have = 0 if context.public is None else len(context.public)
        if have < needed:
            raise InputError(f"{self.card.slug} needs {needed} public images, but data.public holds {have}.")
        return as_uint8_images(context.public, what="data.public")


class AssistedStealing(_WithEncoders):
    """Copy a service by training a head on the revealed encoder, and compare with copies made without it."""

    card: ClassVar[Card] = Card(
        slug="assisted-stealing",
        kind="attack",
        title="Stealing with the revealed encoder",
        purpose="How much better a copy of this service does an outsider get for knowing its encoder?",
        threat_model=(
            "An outsider who knows which public encoder the service runs on, has its weights and unlabelled images that "
            "need not be like the service's data, and may ask the service once for each of them."
        ),
        needs=_NEEDS,
        paper=PEI,
        extras=("torch",),
        tags=("AML.T0024.002", "ML05:2023", "NISTAML.031"),
    )

    queries: int = Field(2000, ge=10, description="surrogate images, from data.public")
    held_out: int = Field(
        500, ge=20, description="further images of data.public, to compare copy and service on"
    )
    loss: Literal["hard-label", "logit-label"] = Field("hard-label", description="what the copy learns from")
    steps: int = Field(10_000, ge=1, description="updates of each copy")
    hidden: int = Field(512, ge=1, description="width of the head")

    def estimate(self, target: Target, context: Context) -> Estimate:
        del target
        self._public(context, self.queries + self.held_out)
        return Estimate(
            queries=self.queries + self.held_out, candidate_queries=self.queries * len(self.encoders)
        )

    def attack(self, oracle: Oracle, context: Context) -> Findings:
        from dosimeter.attacks.encoder_inference.followups import (
            Stealing,
            steal_from_scratch,
            steal_with_encoder,
        )
        from dosimeter.models.networks import SmallResNet

        encoders = self._local()
        images = self._public(context, self.queries + self.held_out)
        order = context.rng("surrogate").permutation(len(images))[: self.queries + self.held_out]
        surrogate, test = images[order[: self.queries]], images[order[self.queries :]]
        settings = Stealing(loss=self.loss, steps=self.steps, hidden=self.hidden)
        truth = oracle.labels(test)
        hits: dict[str, np.ndarray] = {}
        for encoder, module in zip(self.encoders, encoders):
            copy = steal_with_encoder(oracle, surrogate, module, settings, seed=context.seed)
            hits[encoder.name] = copy.labels(test) == truth
        scratch = SmallResNet(seed=derive_seed(context.seed, "from-scratch"))
        copy = steal_from_scratch(oracle, surrogate, scratch, settings, seed=context.seed)
        hits["from scratch"] = copy.labels(test) == truth
        copy = steal_with_encoder(oracle, surrogate, encoders[0], settings, seed=context.seed, permuted=True)
        control = copy.labels(test) == truth
        return self._findings(hits, control, truth, test, content_hash(images))

    def _findings(
        self,
        hits: dict[str, np.ndarray],
        control: np.ndarray,
        truth: np.ndarray,
        test: np.ndarray,
        digest: str,
    ) -> Findings:
        revealed = self.encoders[0].name
        difference = hits[revealed].astype(float) - hits["from scratch"]
        low, high = cluster_bootstrap(difference[:, None], np.random.default_rng(0))
        metrics = [
            _share(f"agreement.{name}", hit, "copies agree with the service") for name, hit in hits.items()
        ]
        metrics.append(
            Metric(
                name="gain",
                value=float(difference.mean()),
                low=float(low[0]),
                high=float(high[0]),
                n=len(difference),
                interval="percentile bootstrap over held-out images, paired, 95%",
                higher_is_better=False,
                description="agreement of the copy on the revealed encoder minus that of the copy from scratch",
            )
        )
        most_common = float(np.bincount(truth).max() / len(truth))
        metrics.append(
            _share("control.permuted-labels", control, "a copy trained on shuffled answers", control=True)
        )
        metrics.append(
            Metric(
                name="majority-share",
                value=most_common,
                n=len(truth),
                reason="a property of the held-out images",
                description="agreement of always giving the service's most common label",
            )
        )
        figure = interval_bars(
            "agreement",
            "Agreement with the service",
            "Share of held-out images that each copy labels like the service. Dashed: always the most common label.",
            [_bar(metric) for metric in metrics[: len(hits)]],
            x_title="agreement",
            reference_lines=[{"value": most_common, "label": "most common label"}],
        )
        control_low = metrics[-2].low or 0.0
        if control_low > most_common:
            verdict, reason = (
                "undetermined",
                "a copy trained on shuffled answers agrees with the service more than chance",
            )
        else:
            verdict, reason = ("fail" if low[0] > 0 else "pass"), None
        summary = (
            f"With {self.queries} queries a copy on '{revealed}' agrees with the service on "
            f"{hits[revealed].mean():.0%} of images, one from scratch on {hits['from scratch'].mean():.0%}."
        )
        per_image = {f"agreement.{name}": hit for name, hit in hits.items()}
        per_image |= {"gain": difference, "control.permuted-labels": control}
        return Findings(
            verdict=verdict,  # type: ignore[arg-type]
            summary=summary,
            reason=reason,
            metrics=metrics,
            records=[RecordScores.of(test, per_image)],
            figures=[figure],
            limits=["Agreement is measured on public images, not on what the service's users send."],
            candidate_queries=(self.queries + self.held_out) * len(self.encoders),
            data_digests={"public": digest},
        )


class AssistedEvasion(_WithEncoders):
    """Make images on the revealed encoder alone that the service takes for a chosen one."""

    card: ClassVar[Card] = Card(
        slug="assisted-evasion",
        kind="attack",
        title="Adversarial images from the revealed encoder",
        purpose="Can an outsider who knows the encoder make noise that this service takes for a chosen image?",
        threat_model=(
            "An outsider who knows which public encoder the service runs on and has its weights. The images are made "
            "without asking the service; it is asked only to see whether they work."
        ),
        needs=_NEEDS,
        paper=PEI,
        extras=("torch",),
        tags=("AML.T0043.000", "AML.T0043.002", "ML01:2023", "NISTAML.022"),
    )

    goals: int = Field(
        5, ge=1, description="images of data.public to imitate, of different labels where there are such"
    )
    count: int = Field(16, ge=1, description="adversarial images per goal and encoder")
    steps: int = Field(2000, ge=1, description="updates of each image")
    step_size: float = Field(0.01, gt=0, description="change of every pixel per update, in the 0..1 range")
    size: int | None = Field(
        None, ge=4, description="side of the images; the revealed encoder's input if not given"
    )

    def estimate(self, target: Target, context: Context) -> Estimate:
        del target
        images = self._public(context, self.goals)
        made = self.goals * self.count
        return Estimate(
            queries=len(images) + made * (len(self.encoders) + 1),
            candidate_queries=made * self.steps * len(self.encoders),
        )

    def attack(self, oracle: Oracle, context: Context) -> Findings:
        from dosimeter.attacks.encoder_inference.followups import Mimicry, mimic

        encoders = self._local()
        images = self._public(context, self.goals)
        size = self.size or encoders[0].preprocessing.size or images.shape[1]
        settings = Mimicry(count=self.count, size=size, steps=self.steps, step_size=self.step_size)
        goals = _of_different_labels(oracle.labels(images), self.goals)
        expected = oracle.labels(images[goals])
        metrics = []
        # Images that imitate one goal stand or fall together, so the goal is the record.
        per_goal: dict[str, np.ndarray] = {}
        for encoder, module in zip(self.encoders, encoders):
            made = [
                mimic(module, images[j], settings, seed=derive_seed(context.seed, "goal", int(j)))
                for j in goals
            ]
            hits = self._hits(oracle, made, expected)
            metrics.append(_share(f"success.{encoder.name}", hits, "images read as the goal"))
            per_goal[f"success.{encoder.name}"] = hits.reshape(len(goals), -1).mean(axis=1)
        noise = [
            context.rng("noise", int(j)).integers(256, size=(self.count, size, size, 3), dtype=np.uint8)
            for j in goals
        ]
        control = _share(
            "control.noise", self._hits(oracle, noise, expected), "noise read as the goal", control=True
        )
        revealed, chance = metrics[0], control
        succeeded = (revealed.low or 0.0) > (chance.high or 0.0)
        figure = interval_bars(
            "success",
            "Adversarial images read as their goal",
            "Share of images that the service labels like the image they imitate. Dashed: plain noise.",
            [_bar(metric) for metric in metrics],
            x_title="share",
            reference_lines=[{"value": chance.value or 0.0, "label": "noise"}],
        )
        return Findings(
            verdict="fail" if succeeded else "pass",
            summary=(
                f"{revealed.value:.0%} of the images made on '{self.encoders[0].name}' are read as the image they imitate; "
                f"of plain noise {chance.value:.0%}."
            ),
            metrics=[*metrics, control],
            records=[RecordScores.of(images[goals], per_goal)],
            figures=[figure],
            limits=["Images are compared by the service's label alone, not by how they look to a person."],
            candidate_queries=len(goals) * self.count * self.steps * len(encoders),
            data_digests={"public": content_hash(images)},
        )

    @staticmethod
    def _hits(oracle: Oracle, made: list[np.ndarray], expected: np.ndarray) -> np.ndarray:
        labels = oracle.labels(np.concatenate(made)).reshape(len(made), -1)
        hits: np.ndarray = (labels == expected[:, None]).ravel()
        return hits


def _of_different_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of ``count`` records: the first of each label in turn, then the next of each."""
    turn = np.array([int((labels[:place] == label).sum()) for place, label in enumerate(labels)])
    return np.lexsort((np.arange(len(labels)), turn))[:count]


def _share(name: str, hits: np.ndarray, description: str, *, control: bool = False) -> Metric:
    interval = proportion_interval(int(hits.sum()), len(hits))
    return Metric(
        name=name,
        value=float(hits.mean()),
        low=interval.low,
        high=interval.high,
        n=len(hits),
        interval=interval.method,
        higher_is_better=None if control else False,
        control=control,
        description=f"share: {description}",
    )


def _bar(metric: Metric) -> Any:
    return {
        "label": metric.name.partition(".")[2],
        "value": metric.value,
        "low": metric.low,
        "high": metric.high,
    }
