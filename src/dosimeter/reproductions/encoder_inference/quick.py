"""Six encoders trained on digits and photographs, twelve services on them: every relation within 90 seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dosimeter.attacks.encoder_inference.attack import EncoderInference
from dosimeter.attacks.encoder_inference.attack_sets import make_attack_set
from dosimeter.attacks.encoder_inference.candidates import Candidate
from dosimeter.attacks.encoder_inference.followups import (
    Mimicry,
    Stealing,
    mimic,
    steal_from_scratch,
    steal_with_encoder,
)
from dosimeter.attacks.encoder_inference.presentation import Prepared
from dosimeter.attacks.encoder_inference.synthesis import Gradient, ZerothOrder
from dosimeter.core.claim import Claim
from dosimeter.core.method import Context
from dosimeter.core.oracle import Oracle
from dosimeter.core.seeding import derive_seed
from dosimeter.data import load
from dosimeter.defenses.inputs import JpegInputs
from dosimeter.models import example
from dosimeter.models.networks import SmallConvNet, SmallDepthwiseNet, SmallResNet
from dosimeter.reproductions.encoder_inference import relations
from dosimeter.reproductions.encoder_inference.relations import Service
from dosimeter.targets.torch import Preprocessing, TorchTarget

SURROGATE_QUERIES = 2000
_AT_SEED_1 = (
    "holds at seeds 0 and 2, not at seed 1: out of set 3 of 12 by z and 2 of 12 at family-wise error 5 %, noise 4 of 12. "
    "By chance two or more of twelve are accused in 12 % of cases at that error; z passes 1.7 in 12 % of cases per service."
)


def measure(seed: int, cache: Path) -> list[Claim]:
    """Every claim at quick size, controls last; ``cache`` keeps attack sets between runs."""
    context = Context(seed=seed, cache=cache)
    modules = {name: example.encoder(name, seed) for name in example.ENCODERS}
    candidates = [
        Candidate(name, _embedding(name, m), family=example.FAMILIES.get(name, ""))
        for name, m in modules.items()
    ]
    services = [
        Service(f"{task} on {name}", _classifier(module, task, seed), hidden=name)
        for task in example.TASKS
        for name, module in modules.items()
    ]
    attack = EncoderInference(
        candidates=tuple(candidates), copies=4, synthesis=Gradient(canvas=32, steps=150)
    )
    prepared = attack.prepare(context)
    in_set = relations.attack_services(
        attack, prepared, services, context, task="hidden encoder among candidates"
    )
    removed = relations.attack_without_hidden(attack, services, context, task="hidden encoder removed")
    untrained = relations.attack_services(
        attack, prepared, _untrained_services(seed), context, task="untrained encoders"
    )
    zeroth = make_attack_set(
        candidates[0],
        prepared.objectives,
        4,
        ZerothOrder(canvas=16, directions=30, steps=60),
        seed=seed,
        cache=cache,
    )
    noise = relations.noise_claims(in_set, context)
    return [
        *relations.in_set_claims(in_set),
        *(replace(claim, open=_AT_SEED_1) for claim in relations.out_of_set_claims(removed)),
        relations.loss_claim(
            "loss-gradient", "gradient synthesis: loss over its start, worst candidate", prepared.sets, 0.1
        ),
        relations.loss_claim(
            "loss-zeroth-order", "zeroth-order synthesis: loss over its start", [zeroth], 0.5
        ),
        *_stealing_claims(modules, seed),
        *_mimicry_claims(modules, seed),
        *_defence_claims(attack, services[: len(modules)], context),
        _sequential_claim(attack, prepared, services, context),
        relations.untrained_claim(untrained),
        *(replace(claim, open=_AT_SEED_1) for claim in noise[:1]),
        *noise[1:],
        relations.shuffled_claim(in_set, context),
    ]


def _preprocessing() -> Preprocessing:
    return Preprocessing(**example.preprocessing())  # type: ignore[arg-type]


def _embedding(name: str, module: torch.nn.Module) -> TorchTarget:
    return TorchTarget(module, name=name, returns="embedding", preprocessing=_preprocessing())


def _classifier(encoder: torch.nn.Module, task: str, seed: int) -> TorchTarget:
    module = example.on_encoder(encoder, task, seed)  # type: ignore[arg-type]
    return TorchTarget(
        module, name=f"{task} service", returns="label", preprocessing=_preprocessing(), grants="query"
    )


def _untrained_services(seed: int) -> list[Service]:
    kinds = (SmallConvNet, SmallResNet, SmallDepthwiseNet)
    services = []
    for task in example.TASKS:
        for number in range(6):
            module = kinds[number % 3](seed=derive_seed(seed, "untrained-service", number))
            services.append(Service(f"{task} on untrained {number}", _classifier(module.eval(), task, seed)))
    return services


def _stealing_claims(modules: dict[str, torch.nn.Module], seed: int) -> list[Claim]:
    """Relation 5: with the revealed encoder, the same queries give a better copy than with a wrong one or with none.

    The services read digits, the surrogate images are photographs: the thief has none of the service's data.
    """
    settings = Stealing(steps=600, hidden=128)
    surrogate = np.asarray(
        load("photographs", n=SURROGATE_QUERIES, size=32, seed=derive_seed(seed, "surrogate")).inputs
    )
    images, _ = example.task_data("digit", test=True)
    test = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    arms: dict[str, list[float]] = {"correct": [], "wrong": [], "scratch": []}
    for hidden, wrong in (("conv-a", "depthwise"), ("autoencoder", "conv-b")):
        oracle = Oracle(_classifier(modules[hidden], "digit", seed))
        for arm, name in (("correct", hidden), ("wrong", wrong)):
            stolen = steal_with_encoder(
                oracle, surrogate, _embedding(name, modules[name]), settings, seed=seed
            )
            arms[arm].append(stolen.agreement(oracle, test))
        network = SmallConvNet(seed=derive_seed(seed, "scratch"))
        stolen = steal_from_scratch(oracle, surrogate, network, settings, seed=seed)
        arms["scratch"].append(stolen.agreement(oracle, test))
    correct, wrong, scratch = (np.array(arms[arm]) for arm in ("correct", "wrong", "scratch"))
    return [
        Claim(
            "stealing-over-wrong",
            f"agreement of a copy stolen with {SURROGATE_QUERIES} queries: right encoder minus wrong one (2 services)",
            float((correct - wrong).mean()),
            ">=",
            0.05,
            low=float((correct - wrong).min()),
            high=float((correct - wrong).max()),
        ),
        Claim(
            "stealing-over-scratch",
            f"the same: right encoder ({correct.mean():.2f}) minus a network from scratch ({scratch.mean():.2f})",
            float((correct - scratch).mean()),
            ">=",
            0.10,
            low=float((correct - scratch).min()),
            high=float((correct - scratch).max()),
        ),
    ]


def _mimicry_claims(modules: dict[str, torch.nn.Module], seed: int) -> list[Claim]:
    """Follow-up B: noise that the revealed encoder takes for a digit is read as that digit; the wrong encoder's is not."""
    settings = Mimicry(count=4, size=32, steps=120)
    images, labels = example.task_data("digit", test=True)
    oracle = Oracle(_classifier(modules["resnet"], "digit", seed))
    rates = {}
    for arm in ("resnet", "conv-a"):
        encoder = _embedding(arm, modules[arm])
        hits = []
        for digit in range(5):
            index = int((labels == digit).nonzero()[0])
            goal = (images[index] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            made = mimic(encoder, goal, settings, seed=derive_seed(seed, "mimicry", digit))
            hits.append(float((oracle.labels(made) == oracle.labels(goal[None])[0]).mean()))
        rates[arm] = hits
    return [
        Claim(
            "mimicry",
            "adversarial images made on the right encoder that the service reads as the target digit, share",
            float(np.mean(rates["resnet"])),
            ">=",
            # The paper's images reproduce the target behaviour; four in five is our reading of "transfer".
            0.8,
            low=min(rates["resnet"]),
            high=max(rates["resnet"]),
        ),
        Claim(
            "mimicry-wrong-encoder",
            "the same, made on a wrong encoder",
            float(np.mean(rates["conv-a"])),
            "<=",
            0.4,
            low=min(rates["conv-a"]),
            high=max(rates["conv-a"]),
            control=True,
        ),
    ]


def _defence_claims(attack: EncoderInference, services: Sequence[Service], context: Context) -> list[Claim]:
    """JPEG re-encoding hides the encoder, enlarging the samples first undoes it, unless the service resizes first."""
    small = attack.model_copy(update={"synthesis": Gradient(canvas=16, steps=100)})
    enlarging = small.model_copy(update={"upscale": 2})
    prepared = small.prepare(context)
    jpeg_first = JpegInputs(quality=75, order="jpeg-first")
    resize_first = JpegInputs(quality=75, resize=16, order="resize-first")

    def own_scores(using: EncoderInference, defense: JpegInputs | None) -> np.ndarray:
        behind = [
            Service(
                s.name, s.target if defense is None else defense.wrap(s.target, seed=context.seed), s.hidden
            )
            for s in services
        ]
        measured = relations.attack_services(using, prepared, behind, context, task="JPEG re-encoding")
        return np.array(relations.agreements(measured)[0])

    plain, defended, countered = (
        own_scores(small, None),
        own_scores(small, jpeg_first),
        own_scores(enlarging, jpeg_first),
    )
    late = own_scores(enlarging, resize_first) - own_scores(small, resize_first)
    # The paper reports directions, not sizes: the bounds ask for a change that a person would act on.
    return [
        relations.mean_claim(
            "jpeg-lowers",
            "score of the hidden encoder without JPEG minus with it, mean of 6 services",
            plain - defended,
            ">=",
            0.2,
        ),
        relations.mean_claim(
            "counter-recovers",
            "score behind JPEG: samples enlarged twofold minus as they are",
            countered - defended,
            ">=",
            0.1,
        ),
        relations.mean_claim(
            "counter-too-late",
            "the same where the service resizes before JPEG",
            late,
            "<=",
            0.1,
            control=True,
        ),
    ]


def _sequential_claim(
    attack: EncoderInference, prepared: Prepared, services: Sequence[Service], context: Context
) -> Claim:
    """Beyond the paper: looking five times at the same family-wise error, the most telling objectives first."""
    sequential = attack.model_copy(update={"looks": 5})
    asked, total, named = 0, 0, 0
    for service in services:
        found = sequential.investigate(Oracle(service.target), context, prepared)
        asked += len(found.inference.rows)
        total += int(found.inference.checks.kept.sum())
        named += found.decision.named == service.hidden
    return Claim(
        "sequential",
        f"share of attack queries that a sequential run sends ({named} of {len(services)} services named rightly)",
        asked / total,
        "<=",
        # A saving of a third is the least that would pay for the error spent on four more looks.
        0.67,
    )
