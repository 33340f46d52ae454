"""Target A of the specification: SimCLR on 10,000 unlabelled Fashion-MNIST images, 128 dimensions, and everything asked of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from dosimeter.attacks.encoder_stealing.purchase import buy
from dosimeter.attacks.encoder_stealing.rivals import from_scratch
from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.attacks.encoder_stealing.selection import k_center
from dosimeter.attacks.encoder_stealing.surrogates import surrogate
from dosimeter.attacks.encoder_stealing.training import Recipe, StolenEncoder, steal
from dosimeter.attacks.encoder_stealing.views import ImageViews
from dosimeter.core.claim import Claim
from dosimeter.core.method import Defense
from dosimeter.core.oracle import Oracle
from dosimeter.core.seeding import derive_seed, rng
from dosimeter.core.target import Target
from dosimeter.data import load
from dosimeter.data.images import resize
from dosimeter.defenses.feature_poisoning import FeaturePoisoning
from dosimeter.defenses.features import FeatureNoise, FeatureRounding, TopKFeatures
from dosimeter.models.heads import HeadRecipe
from dosimeter.models.networks import SmallConvNet
from dosimeter.models.simclr import fit_simclr
from dosimeter.reproductions.encoder_stealing import relations
from dosimeter.reproductions.encoder_stealing.arms import Arm, make
from dosimeter.reproductions.encoder_stealing.defended import (
    arms_against,
    defence_claims,
    defence_table,
    defences,
    tolls,
    tradeoff,
)
from dosimeter.reproductions.encoder_stealing.relations import RANDOM, UNTRAINED, Measured
from dosimeter.targets.torch import Preprocessing, TorchTarget

SIZE, WIDTH = 28, 128
QUERIES, COMPARED, SEEDS = 5000, 500, 3
BUDGETS = (250, 500, 1000, 2500)
RECIPE = Recipe(steps=400, schedule="cosine")
PLAIN = RECIPE.model_copy(update={"augmentation_weight": 0.0})
# The specification's cap: 60 epochs over 2,000 labels at a learning rate of 1e-3.
HEADS = HeadRecipe(learning_rate=1e-3, epochs=60)
_PROVIDER, _LABELLED, _TESTED, _HELD = 10_000, 2000, 2000, 1000


def measure(seed: int, cache: Path) -> Measured:
    """Claims, tables and figures for the encoder of Fashion-MNIST."""
    order = rng(seed, "fashion").permutation(20_000)
    train = load("fashion-mnist", split="train")
    images = np.asarray(train.inputs)
    provider, inside = images[order[:_PROVIDER]], images[order[_PROVIDER : _PROVIDER + QUERIES]]
    labelled = train.take(order[_PROVIDER + QUERIES : _PROVIDER + QUERIES + _LABELLED])
    tested = load("fashion-mnist", split="test")
    tasks = (Task("fashion", labelled, tested.take(range(_TESTED))), _digits(seed))
    held = np.asarray(tested.take(range(_TESTED, _TESTED + _HELD)).inputs)
    grey = resize(
        np.asarray(
            load("cifar10", split="train").take(rng(seed, "cifar").permutation(12_000)[:QUERIES]).inputs
        ),
        SIZE,
    )
    outside = np.repeat(np.rint(grey.mean(-1, keepdims=True)).astype(np.uint8), 3, axis=-1)

    service = _service(provider, seed, cache)
    oracle = Oracle(service)
    whole = buy(oracle, inside)
    start = derive_seed(seed, "stolen")
    defended = defences(
        service, inside[:2500], seed=seed, more=_more_defences(provider[:2000], service, seed)
    )
    shuffle = rng(seed, "subsets")
    arms = [
        Arm("stolen", whole, RECIPE, start),
        Arm("no augmentation", whole, PLAIN, start),
        *(
            Arm(f"{n} queries", whole.take(shuffle.permutation(QUERIES)[:n]), RECIPE, start)
            for n in BUDGETS
            if n != COMPARED
        ),
    ]
    for number in range(SEEDS):
        part = whole.take(shuffle.permutation(QUERIES)[:COMPARED])
        begun = derive_seed(seed, "compared", number)
        also = f", {number}" if number else ""
        arms += [
            Arm(f"{COMPARED} queries{also}", part, RECIPE, begun),
            Arm(f"{COMPARED} queries, no augmentation{also}", part, PLAIN, begun),
        ]
    views = ImageViews(SIZE)
    eye = StolenEncoder(surrogate("small-conv", width=WIDTH, seed=derive_seed(seed, "eye")).eval(), views)
    spread = k_center(eye.embed(inside), COMPARED)
    arms += [
        Arm(f"{COMPARED} queries, k-center", whole.take(spread), RECIPE, derive_seed(seed, "compared", 0)),
        Arm("out-of-domain", buy(oracle, outside), RECIPE, start),
        Arm("from-scratch", whole, RECIPE, start, train=partial(from_scratch, recipe=RECIPE), note="simclr"),
        Arm("permuted", whole.permuted(shuffle), RECIPE, start),
        Arm(RANDOM, whole.random(shuffle), RECIPE, start),
        Arm(UNTRAINED, whole, None, derive_seed(seed, "untrained")),
        *arms_against(defended, RECIPE, start),
    ]
    judged_by = relations.batches_of(tasks, held)
    made = make(
        arms,
        judged_by,  # type: ignore[arg-type]
        views,
        architecture="small-resnet",
        length=0,
        cache=cache,
        task="stealing the encoder of Fashion-MNIST",
    )
    answers = {name: np.asarray(oracle(batch)) for name, batch in judged_by.items()}  # type: ignore[arg-type]
    judged = relations.judge(made, answers, tasks, HEADS, seed=seed)
    costs = tolls(defended, judged, tasks, HEADS, seed=seed)
    curve = {**{n: f"{n} queries" for n in BUDGETS}, QUERIES: "stolen"}
    return Measured(
        claims=[
            *relations.in_domain_claims(judged, "stolen"),
            *relations.augmentation_claims(judged, COMPARED, SEEDS, QUERIES, 1),
            relations.budget_claim(judged, COMPARED, QUERIES, SEEDS, 1),
            *relations.scratch_claims(judged, "stolen", "from-scratch"),
            _selection_claim(judged),
            *defence_claims(costs, judged),
            *relations.control_claims(judged, "permuted", None),
        ],
        tables=[
            *relations.copies_tables(judged, "Copies of the Fashion-MNIST encoder", "fashion-copies"),
            relations.budget_table(judged, {0: UNTRAINED, **curve}, "fashion-budget"),
            defence_table(costs, judged),
        ],
        figures=[
            relations.budget_figure(judged, curve, "fashion-budget", "What calls bring: Fashion-MNIST"),
            tradeoff(costs, defended, "fashion-defences"),
        ],
    )


def _digits(seed: int) -> Task:
    train, test = load("digits", size=SIZE).split([0.5, 0.5], seed=seed)
    return Task("digits", train, test)


def _service(images: np.ndarray, seed: int, cache: Path) -> TorchTarget:
    """The provider's encoder: four convolutions, 128 dimensions, SimCLR for some 20 epochs."""
    from safetensors.torch import load_file, save

    from dosimeter.core.files import write_atomic

    encoder = SmallConvNet((32, 64, 128, 128), embedding_dim=WIDTH, seed=derive_seed(seed, "provider"))
    path = cache / f"fashion-simclr-{seed}.safetensors"
    if path.exists():
        encoder.load_state_dict(load_file(path))
    else:
        views = ImageViews(SIZE, crop=True)
        fit_simclr(
            encoder,
            views.rows(images),
            views.augmented,
            width=WIDTH,
            steps=1600,
            seed=derive_seed(seed, "simclr"),
            task="training the provider's encoder of Fashion-MNIST",
        )
        data = save({name: tensor.contiguous() for name, tensor in encoder.state_dict().items()})
        write_atomic(path, lambda file: file.write(data))
    return TorchTarget(
        encoder.eval(),
        name="fashion encoder",
        returns="embedding",
        preprocessing=Preprocessing(size=SIZE),
        batch_size=256,
        grants="query",
    )


def _more_defences(own: np.ndarray, service: Target, seed: int) -> dict[str, Defense]:
    """Further strengths for the trade-off curves, and poisoning with a student that the provider keeps."""
    views = ImageViews(SIZE)
    purchase = buy(Oracle(service), own)
    student = steal(
        purchase,
        surrogate("small-conv", width=WIDTH, seed=derive_seed(seed, "student")),
        views,
        RECIPE.model_copy(update={"steps": 300}),
        seed=seed,
        task="training the provider's student",
    )
    proxy = TorchTarget(
        student.module,
        name="student",
        returns="embedding",
        preprocessing=Preprocessing(size=SIZE),
        batch_size=256,
    )
    return {
        "top-k 5 %": TopKFeatures(share=0.05, by="magnitude"),
        "rounding 0": FeatureRounding(decimals=0, unit=False),
        "noise 2": FeatureNoise(rho=2),
        "poison 0.5": FeaturePoisoning(student=proxy, rho=0.5),
        "poison 2": FeaturePoisoning(student=proxy, rho=2),
    }


def _selection_claim(judged: relations.Judged) -> Claim:
    chosen, drawn = f"{COMPARED} queries, k-center", f"{COMPARED} queries"
    return Claim(
        "selection",
        f"centred cosine of a copy from {COMPARED} inputs spread by k-center ({judged.centred(chosen).value:.3f}) minus from "
        f"as many at random ({judged.centred(drawn).value:.3f}); not in the paper",
        judged.centred(chosen).value - judged.centred(drawn).value,
        ">=",
        0.0,
    )
