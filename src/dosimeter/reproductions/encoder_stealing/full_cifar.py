"""Target B of the specification: a public ResNet-56 for CIFAR-10, whose 64 pooled features a ResNet-20 from scratch copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dosimeter.attacks.encoder_stealing.purchase import buy
from dosimeter.attacks.encoder_stealing.scoring import Task
from dosimeter.attacks.encoder_stealing.training import Recipe
from dosimeter.attacks.encoder_stealing.views import ImageViews
from dosimeter.core.claim import Claim
from dosimeter.core.oracle import Oracle
from dosimeter.core.seeding import derive_seed, rng
from dosimeter.data import load
from dosimeter.data.images import patches, resize
from dosimeter.data.public import required_file
from dosimeter.models.heads import HeadRecipe
from dosimeter.models.zoo import load_encoder
from dosimeter.reproductions.encoder_stealing import relations
from dosimeter.reproductions.encoder_stealing.arms import Arm, make
from dosimeter.reproductions.encoder_stealing.relations import RANDOM, UNTRAINED, Measured
from dosimeter.targets.torch import TorchTarget

QUERIES = 5000
RECIPE = Recipe(steps=300, schedule="cosine")
HEADS = HeadRecipe(learning_rate=1e-3, epochs=60)


def measure(seed: int, cache: Path) -> Measured:
    """Claims and tables for the public CIFAR-10 network; the thief's images are other CIFAR-10 images than those that judge,
    photographs of people and dogs, or Fashion-MNIST."""
    encoder = load_encoder(required_file("the full reproduction", "models/image_encoders/resnet56_cifar10"))
    service = TorchTarget(
        encoder.module,
        name=encoder.name,
        returns="embedding",
        preprocessing=encoder.preprocessing,
        batch_size=128,
        grants="query",
    )
    oracle = Oracle(service)
    train, test = load("cifar10", split="train"), load("cifar10", split="test")
    order = rng(seed, "cifar-thief").permutation(len(train))
    labelled = train.take(order[QUERIES : QUERIES + 2000])
    mixed = test.take(rng(seed, "cifar-test").permutation(len(test)))
    digits_train, digits_test = load("digits", size=32).split([0.5, 0.5], seed=seed)
    tasks = (
        Task("cifar10", labelled, mixed.take(range(2000))),
        Task("digits", digits_train, digits_test),
    )
    held = np.asarray(mixed.take(range(2000, 2600)).inputs)
    whole = buy(oracle, np.asarray(train.take(order[:QUERIES]).inputs))
    fashion = load("fashion-mnist", split="train").take(range(QUERIES))
    photographs = np.asarray(load("flickr8k").inputs)
    crops = patches(
        list(photographs), n=QUERIES, size=32, generator=rng(seed, "crops"), tiles=1, scale=(0.3, 0.9)
    )[0]
    start = derive_seed(seed, "stolen")
    arms = [
        Arm("stolen", whole, RECIPE, start),
        Arm("no augmentation", whole, RECIPE.model_copy(update={"augmentation_weight": 0.0}), start),
        Arm("out-of-domain", buy(oracle, resize(np.asarray(fashion.inputs), 32)), RECIPE, start),
        Arm("other photographs", buy(oracle, crops), RECIPE, start),
        Arm("permuted", whole.permuted(rng(seed, "permuted")), RECIPE, start),
        Arm(RANDOM, whole.random(rng(seed, "random-vectors")), RECIPE, start),
        Arm(UNTRAINED, whole, None, derive_seed(seed, "untrained")),
    ]
    judged_by = relations.batches_of(tasks, held)
    made = make(
        arms,
        judged_by,  # type: ignore[arg-type]
        ImageViews(32),
        architecture="resnet-20",
        length=0,
        cache=cache,
        task="stealing ResNet-56",
    )
    answers = {name: np.asarray(oracle(batch)) for name, batch in judged_by.items()}  # type: ignore[arg-type]
    judged = relations.judge(made, answers, tasks, HEADS, seed=seed)
    return Measured(
        claims=[
            *relations.in_domain_claims(judged, "stolen"),
            _other_images_claim(judged),
            *relations.control_claims(judged, "permuted", None),
        ],
        tables=relations.copies_tables(judged, "Copies of ResNet-56", "cifar-copies"),
    )


def _other_images_claim(judged: relations.Judged) -> Claim:
    """The paper steals with ImageNet images: the thief need not have the provider's kind of data."""
    return relations.share_claim(
        "other-photographs",
        "recovered share on cifar10 of a copy made with crops of photographs of people and dogs",
        judged.scores["cifar10"].recovered("other photographs", relations.TARGET, *relations.FLOORS),
        ">=",
        # Two thirds of what in-domain images are asked for.
        0.4,
    )
