"""PEI, pre-trained encoder inference: which public encoder hides behind a service?

Source: S. Fu, X. Sun, K. Qing, T. Zheng, D. Wang, "Pre-trained Encoder Inference: Revealing Upstream Encoders In
Downstream Machine Learning Services", arXiv 2408.02814, and its released code. Deviations: the decision is Grubbs'
test with a stated family-wise error by default (``rule: z`` gives the paper's), on scores freed of what samples reach
on services that are not built on their candidate, and with a margin over the runner-up (see ``decision``); controls
run first and can withhold a verdict; objectives that the service puts where noise falls are dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_serializer, field_validator

from dosimeter.attacks.encoder_inference import objectives as built_in
from dosimeter.attacks.encoder_inference.attack_sets import (
    AttackSet,
    check_settings,
    default_settings,
    make_attack_set,
    most_queries,
    settings_from_spec,
)
from dosimeter.attacks.encoder_inference.beam import CLASSIFICATION, CharacterBeam
from dosimeter.attacks.encoder_inference.candidates import (
    Candidate,
    candidates_from_spec,
    check_candidates,
    encoder_from_spec,
)
from dosimeter.attacks.encoder_inference.citation import PEI
from dosimeter.attacks.encoder_inference.controls import run_controls
from dosimeter.attacks.encoder_inference.counter import upscale
from dosimeter.attacks.encoder_inference.decision import Decision, decide, undecidable
from dosimeter.attacks.encoder_inference.decoys import make_decoys
from dosimeter.attacks.encoder_inference.inference import (
    NOISE_PROBES,
    Checks,
    Inference,
    ask,
    check_service,
    compares_labels,
    looks_schedule,
)
from dosimeter.attacks.encoder_inference.presentation import Investigation, Prepared, present
from dosimeter.attacks.encoder_inference.reference import Reference
from dosimeter.attacks.encoder_inference.similarity import Similarity, choose_similarity
from dosimeter.attacks.encoder_inference.timing import synthesis_seconds
from dosimeter.core.access import Needs
from dosimeter.core.card import Card
from dosimeter.core.errors import BudgetExceeded, InputError
from dosimeter.core.method import Attack, Context, Estimate, Findings
from dosimeter.core.oracle import Oracle
from dosimeter.core.problems import Problem, SettingsError
from dosimeter.core.records import Batch, check_batch
from dosimeter.core.target import Target
from dosimeter.stats.outliers import largest_z

if TYPE_CHECKING:
    from dosimeter.attacks.encoder_inference.attack_sets import Synthesiser


class EncoderInference(Attack):
    """Name the encoder behind a service among candidates, or say that none stands out."""

    card: ClassVar[Card] = Card(
        slug="encoder-inference",
        kind="attack",
        title="Encoder inference (PEI)",
        purpose="Which publicly available encoder does this service run on?",
        threat_model=(
            "An outsider who may send ordinary requests to the service and sees its answers (labels are enough), can "
            "query or download the candidate encoders, and knows neither the service's head nor its training data."
        ),
        needs=Needs(modalities=("image", "text", "prompt"), returns=("label", "scores", "text", "image")),
        paper=PEI,
        extras=("torch", "text"),
        tags=("AML.T0014", "AML.T0040", "NISTAML.031"),
    )

    candidates: tuple[Candidate, ...] = Field(
        description="encoders the service may be built on; at least 5 with decoys"
    )
    objective_count: int | None = Field(
        None,
        ge=2,
        description="M1, objective inputs; 10 images or 20 texts if not given, or all of data.public",
    )
    copies: int = Field(5, ge=1, description="M2, attack samples per candidate and objective")
    synthesis: Any = Field(
        "auto",
        description="auto, gradient, zeroth-order, beam, or a mapping with 'kind' and its settings; recorded candidates "
        "always give their nearest recorded inputs",
    )
    overlap: bool = Field(False, description="compare score vectors by total variation instead of by label")
    judge: Target | None = Field(
        None, description="encoder outside the candidate set that compares images or free texts"
    )
    classes: tuple[str, ...] = Field(
        (), description="names to look for in the answers of a service that returns text"
    )
    scorer: Any = Field(
        None, exclude=True, description="function of two lists of texts, giving similarities in 0..1"
    )
    rule: Literal["grubbs", "z"] = Field(
        "grubbs", description="grubbs: stated family-wise error; z: the paper's threshold"
    )
    alpha: float = Field(
        0.05, ge=0.001, lt=0.5, description="family-wise error of the grubbs rule, all looks together"
    )
    tau: float = Field(1.7, gt=0, description="threshold of the z rule")
    looks: int = Field(1, ge=1, le=20, description="times the test may stop early; 1 sends everything")
    decoys: int = Field(0, ge=0, le=20, description="random encoders added to give the scores a scale")
    upscale: int = Field(
        1, ge=1, le=8, description="enlarge attack images bicubically before sending (against JPEG)"
    )
    allow_unequal_preprocessing: bool = Field(False, description="accept candidates that resize differently")

    @field_serializer("candidates")
    def _describe_candidates(self, candidates: tuple[Candidate, ...]) -> list[dict[str, Any]]:
        return [candidate.describe() for candidate in candidates]

    @field_serializer("judge")
    def _describe_judge(self, judge: Target | None) -> str | None:
        return None if judge is None else judge.fingerprint

    @field_serializer("synthesis")
    def _describe_synthesis(self, synthesis: Any) -> Any:
        return synthesis if isinstance(synthesis, str) else synthesis.model_dump()

    @field_validator("synthesis", mode="before")
    @classmethod
    def _named_synthesis(cls, value: Any) -> Any:
        return settings_from_spec(value)

    @classmethod
    def from_spec(cls, settings: dict[str, Any], folder: Path, *, trust: bool = False) -> Self:
        built, problems = dict(settings), []
        try:
            built["candidates"] = candidates_from_spec(settings.get("candidates"), folder, trust=trust)
        except SettingsError as error:
            problems += error.problems
        judge = settings.get("judge")
        try:
            if isinstance(judge, dict):
                built["judge"] = encoder_from_spec(("judge",), judge, folder, trust=trust)
            elif judge is not None:
                problems.append(Problem(("judge",), "should be the keys of a target that returns embedding"))
        except SettingsError as error:
            problems += error.problems
        return cls.checked(built, problems)

    def attack(self, oracle: Oracle, context: Context) -> Findings:
        return present(self, self.investigate(oracle, context))

    def prepare(self, context: Context) -> Prepared:
        """Everything that does not need the service: reusable against any service of the candidates' modality."""
        candidates = self._everyone(context.seed)
        objectives = self._objectives(candidates, context)
        sets = [
            make_attack_set(
                candidate,
                objectives,
                self.copies,
                self._settings(candidate),
                seed=context.seed,
                cache=context.cache,
            )
            for candidate in candidates
        ]
        controls = run_controls(
            candidates,
            [candidate.embedder(context.cache) for candidate in candidates],
            [self._sent(attack_set) for attack_set in sets],
            objectives,
            lambda table, reference: self._judge(table, candidates, context, reference),
            seed=context.seed,
        )
        return Prepared(candidates, objectives, sets, controls)

    def investigate(
        self, oracle: Oracle, context: Context, prepared: Prepared | None = None
    ) -> Investigation:
        """Everything the attack learns, before it is put into words: for code that goes on from here.

        Args:
            prepared: what :meth:`prepare` of this attack gave for the same context; made here if not given.

        Raises:
            BudgetExceeded: the service would have to be asked more than may be; nothing was made or asked.
            InputError, TargetError: as named.
        """
        candidates = self._everyone(context.seed) if prepared is None else prepared.candidates
        objectives = self._objectives(candidates, context) if prepared is None else prepared.objectives
        similarity = self._similarity(oracle, candidates)
        self._check_budget(oracle, self._service_queries(len(objectives), len(candidates), similarity))
        if compares_labels(similarity):
            # A service that cannot be asked is noticed before the samples are made; asked again later, it costs nothing.
            oracle(objectives)
        prepared = prepared or self.prepare(context)
        samples = [self._sent(attack_set) for attack_set in prepared.sets]
        noise = _noise(samples[0], self._settings(candidates[0]), context.seed)
        checks = check_service(oracle, similarity, objectives, noise)
        inference, decision = self._infer(oracle, context, prepared, samples, similarity, checks)
        return Investigation(prepared, inference, decision)

    def _sent(self, attack_set: AttackSet) -> Batch:
        samples = attack_set.samples
        return upscale(samples, self.upscale) if isinstance(samples, np.ndarray) else samples

    def estimate(self, target: Target, context: Context) -> Estimate:
        candidates = self._everyone(context.seed)
        objectives = self._objectives(candidates, context)
        similarity = self._similarity(Oracle(target), candidates)
        m = len(objectives)
        settings = [self._settings(candidate) for candidate in candidates]
        made = sum(most_queries(chosen, m, self.copies) for chosen in settings)
        return Estimate(
            seconds=synthesis_seconds(candidates, settings, m, self.copies),
            queries=self._service_queries(m, len(candidates), similarity),
            candidate_queries=made + len(candidates) * m * (1 + len(candidates) * self.copies),
        )

    def _everyone(self, seed: int) -> tuple[Candidate, ...]:
        """The candidates and the decoys, checked together."""
        everyone = (*self.candidates, *make_decoys(self.decoys, self.candidates, seed=seed))
        check_candidates(everyone, allow_unequal_preprocessing=self.allow_unequal_preprocessing)
        for candidate in everyone:
            check_settings(candidate, self._settings(candidate))
        if self.rule == "z" and self.tau >= largest_z(len(everyone)):
            raise InputError(
                f"no score among {len(everyone)} candidates can lie {self.tau:g} standard deviations above their mean (at most "
                f"{largest_z(len(everyone)):.2f}). Add candidates or decoys, or lower tau."
            )
        return everyone

    def _objectives(self, candidates: tuple[Candidate, ...], context: Context) -> Batch:
        modality = candidates[0].target.modality
        if context.public is not None:
            public = check_batch(modality, context.public, what="data.public")
            wanted = len(public) if self.objective_count is None else self.objective_count
            if not 2 <= wanted <= len(public):
                raise InputError(
                    f"encoder-inference needs {max(2, wanted)} objective inputs, but data.public holds {len(public)}. "
                    "Add inputs, or lower objective_count (2 at least)."
                )
            return public[:wanted]
        if modality == "text":
            return built_in.text_objectives(self.objective_count or 20)
        return built_in.image_objectives(self.objective_count or 10, _input_size(candidates), context.seed)

    def _settings(self, candidate: Candidate) -> Synthesiser:
        if self.synthesis == "auto" or candidate.access == "precomputed":
            return default_settings(candidate)
        return self.synthesis

    def _similarity(self, oracle: Oracle, candidates: tuple[Candidate, ...]) -> Similarity:
        takes = candidates[0].target.modality
        if oracle.modality != ("prompt" if oracle.modality == "prompt" and takes == "image" else takes):
            raise InputError(
                f"target '{oracle.name}' takes {oracle.modality}, but the candidates embed {takes}; the same inputs must go "
                "to both."
            )
        return choose_similarity(
            oracle,
            judge=self.judge,
            classes=self.classes,
            scorer=self.scorer,
            overlap=self.overlap,
            candidate_fingerprints={candidate.target.fingerprint for candidate in candidates},
        )

    def _service_queries(self, m: int, n: int, similarity: Similarity) -> int:
        """The paper's M1 (1 + N M2), and for the checks the objectives once more and the noise."""
        samples = m * n * self.copies + NOISE_PROBES
        return samples * similarity.queries_per_sample + 2 * m * max(1, similarity.queries_per_objective)

    @staticmethod
    def _check_budget(oracle: Oracle, needed: int) -> None:
        # Not what remains: a run that starts again needs as much, but finds it in the cache.
        if oracle.allowance is not None and oracle.queries + needed > oracle.allowance:
            raise BudgetExceeded("queries", used=oracle.queries, limit=oracle.allowance, wanted=needed)

    def _judge(
        self,
        table: np.ndarray,
        candidates: tuple[Candidate, ...],
        context: Context,
        reference: Reference | None,
        *,
        looks: int = 1,
        asked: list[int] | None = None,
    ) -> Decision:
        return decide(
            table,
            candidates,
            rule=self.rule,
            alpha=self.alpha / looks,
            tau=self.tau,
            generator=context.rng("bootstrap"),
            reference=reference,
            asked=asked,
        )

    def _infer(
        self,
        oracle: Oracle,
        context: Context,
        prepared: Prepared,
        samples: list[Batch],
        similarity: Similarity,
        checks: Checks,
    ) -> tuple[Inference, Decision]:
        """Ask look by look, the most telling objectives first, until somebody is named or everything was asked."""
        candidates, controls = prepared.candidates, prepared.controls
        inference = Inference(checks)
        if checks.problem is not None:
            return inference, undecidable(checks.problem, len(candidates))
        order = [int(j) for j in np.argsort(-controls.discrimination, kind="stable") if checks.kept[j]]
        # Reference services answer labels: what they say about agreement does not carry over to other similarities.
        reference = controls.reference if compares_labels(similarity) else None
        schedule = looks_schedule(len(order), self.looks)
        decision = undecidable(
            "fewer than 2 objectives got readable answers for every candidate", len(candidates)
        )
        for start, until in zip([0, *schedule], schedule):
            ask(inference, oracle, similarity, prepared.objectives, samples, order[start:until])
            if len(inference.rows) < 2:
                continue
            decision = self._judge(
                inference.per_objective,
                candidates,
                context,
                reference,
                looks=len(schedule),
                asked=inference.asked,
            )
            if decision.kind in ("identified", "family"):
                break
        return inference, decision


def _noise(samples: Batch, settings: Synthesiser, seed: int) -> Batch:
    """Inputs of the shape of ``samples`` that mean nothing."""
    if isinstance(samples, np.ndarray):
        return built_in.random_starts("image", NOISE_PROBES, seed=seed, size=samples.shape[1])
    beam = settings if isinstance(settings, CharacterBeam) else CLASSIFICATION
    return built_in.random_starts("text", NOISE_PROBES, seed=seed, beam=beam)


def _input_size(candidates: tuple[Candidate, ...]) -> int:
    """The side objectives are cut to: the largest size that a candidate resizes to, 64 if none says."""
    sizes = [getattr(getattr(c.target, "preprocessing", None), "size", None) for c in candidates]
    return max((size for size in sizes if size), default=64)
