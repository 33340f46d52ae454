"""A two-tower model of digits and their names: zero-shot labels with the stolen image tower and the target's text tower."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from dosimeter.attacks.encoder_stealing.purchase import buy
from dosimeter.attacks.encoder_stealing.surrogates import surrogate
from dosimeter.attacks.encoder_stealing.training import Recipe, StolenEncoder, steal
from dosimeter.attacks.encoder_stealing.zero_shot import prompts, zero_shot_labels
from dosimeter.core.claim import Claim
from dosimeter.core.oracle import Oracle
from dosimeter.core.progress import track
from dosimeter.core.seeding import derive_seed
from dosimeter.models.networks import SmallConvNet, initial_weights
from dosimeter.models.text import CharacterEncoder, encode_characters
from dosimeter.reproductions.encoder_stealing.world import WIDTH, World, as_service, provider_views
from dosimeter.stats.intervals import proportion_interval

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_STEPS, _BATCH, _TEMPERATURE = 250, 96, 0.1


def claims(place: World, recipe: Recipe, seed: int) -> list[Claim]:
    """The zero-shot check: the stolen tower does nearly as well as the original, an untrained one guesses."""
    image_tower, texts = _train(place, seed)
    task = place.tasks[0]
    images, labels = np.asarray(task.test.inputs), np.asarray(task.test.labels)
    oracle = Oracle(as_service(image_tower, "two-tower digits"))
    purchase = buy(oracle, place.inside)
    network = surrogate("small-conv", width=WIDTH, seed=derive_seed(seed, "two-tower"))
    untrained = StolenEncoder(
        surrogate("small-conv", width=WIDTH, seed=derive_seed(seed, "untrained")).eval(), place.views
    )
    floor = (zero_shot_labels(untrained.embed(images), texts) == labels).mean()
    copy = steal(purchase, network, place.views, recipe, seed=seed, task="stealing the image tower")
    target = (zero_shot_labels(np.asarray(oracle(images)), texts) == labels).mean()
    hits = zero_shot_labels(copy.embed(images), texts) == labels
    interval = proportion_interval(int(hits.sum()), len(hits))
    chance = proportion_interval(round(floor * len(hits)), len(hits))
    return [
        Claim(
            "zero-shot",
            f"zero-shot accuracy on digits of the stolen image tower over the target's ({target:.2f}), with the target's text tower",
            float(hits.mean() / target),
            ">=",
            0.90,
            low=interval.low / target,
            high=interval.high / target,
        ),
        Claim(
            "zero-shot-untrained",
            "zero-shot accuracy of an untrained image tower with the same text tower; chance is 0.10",
            float(floor),
            "<=",
            0.25,
            low=chance.low,
            high=chance.high,
            control=True,
        ),
    ]


def _train(place: World, seed: int) -> tuple[torch.nn.Module, np.ndarray]:
    """Both towers, trained together on the provider's digits and captions; the texts' vectors (10, d) of one prompt each."""
    image_tower = SmallConvNet((32, 64, 128), embedding_dim=WIDTH, seed=derive_seed(seed, "image-tower"))
    text_tower = CharacterEncoder("cnn", embedding_dim=WIDTH, seed=derive_seed(seed, "text-tower"))
    captions = encode_characters(prompts(NAMES, "a photo of a {}"))
    augmented = provider_views()
    rows = torch.from_numpy(np.asarray(place.provider.inputs).transpose(0, 3, 1, 2).copy())
    labels = torch.from_numpy(np.asarray(place.provider.labels))
    optimizer = torch.optim.Adam([*image_tower.parameters(), *text_tower.parameters()], lr=2e-3)
    image_tower.train()
    with track("training a two-tower model", _STEPS) as bar, initial_weights(seed, "two-tower"):
        for _ in range(_STEPS):
            picked = torch.randint(len(rows), (_BATCH,))
            seen = F.normalize(image_tower(augmented(rows[picked])), dim=1)
            said = F.normalize(text_tower(captions), dim=1)
            loss = F.cross_entropy(seen @ said.T / _TEMPERATURE, labels[picked])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bar.advance()
    with torch.no_grad():
        return image_tower.eval(), text_tower.eval()(captions).numpy()
