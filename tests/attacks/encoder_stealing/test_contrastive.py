"""Cont-Steal and RDA: the loss against a loop, what views cost, and bad training."""

import math

import numpy as np
import pytest
import torch

from dosimeter.attacks.encoder_stealing.contrastive import (
    BoughtViews,
    buy_views,
    contrastive_steal,
    info_nce,
)
from dosimeter.attacks.encoder_stealing.training import Recipe
from dosimeter.attacks.encoder_stealing.views import ImageViews
from dosimeter.core.errors import InputError
from dosimeter.core.ledger import Ledger
from dosimeter.core.oracle import Oracle
from dosimeter.models.networks import SmallConvNet
from support.tiny_thefts import pretender

RECIPE = Recipe(steps=25, optimizer="adam", learning_rate=3e-3, batch_size=16)


def linear(batch):
    flat = batch.reshape(len(batch), -1) / 255
    return flat @ np.random.default_rng(5).normal(size=(flat.shape[1], 6))


def bought(images):
    oracle = Oracle(pretender(linear))
    return buy_views(oracle, images, ImageViews(8), per_image=3, seed=0)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_info_nce_is_the_loop(n):
    generator = np.random.default_rng(n)
    student, sold = generator.normal(size=(2, n, 4))
    s = [row / np.linalg.norm(row) for row in student]
    v = [row / np.linalg.norm(row) for row in sold]
    total = 0.0
    for i in range(n):
        positive = math.exp(s[i] @ v[i] / 0.07)
        negatives = sum(math.exp(s[i] @ v[j] / 0.07) + math.exp(s[i] @ s[j] / 0.07) for j in range(n) if j != i)  # fmt: skip
        total -= math.log(positive / (positive + negatives)) / n
    assert info_nce(torch.from_numpy(student), torch.from_numpy(sold)).item() == pytest.approx(total)


def test_every_view_is_paid(images):
    ledger, sizes = Ledger(), set()

    def answer(batch):
        sizes.add(batch.shape[1:])
        return linear(batch)

    views = ImageViews(8, crop=True)  # without crops some views are alike, and cost one query
    found = buy_views(Oracle(pretender(answer), ledger=ledger), images, views, per_image=3, seed=0)
    assert ledger.used == found.queries == 40 * 3
    assert found.vectors.shape == (40, 3, 6) and found.rows.shape == (40, 3, 8, 8)
    assert sizes == {(8, 8, 3)}


def test_the_service_is_asked_at_its_own_size(images):
    sizes = set()

    def answer(batch):
        sizes.add(batch.shape[1:])
        return linear(batch)

    found = buy_views(Oracle(pretender(answer)), images, ImageViews(16), per_image=2, seed=0)
    assert sizes == {(8, 8, 3)} and found.rows.shape == (40, 3, 16, 16)


def test_vectors_stay_with_their_image(images):
    """A service that tells images by their mean brightness, asked with views that hardly change it."""
    levels = np.repeat(np.arange(40, dtype=np.uint8)[:, None, None, None] * 5, 8, 1).repeat(8, 2).repeat(3, 3)

    def level(batch):
        return np.stack([np.ones(len(batch)), batch.mean((1, 2, 3)) / 200], axis=1)

    class Plain(ImageViews):
        def augmented(self, rows):
            return self.plain(rows)

    found = buy_views(Oracle(pretender(level)), levels, Plain(8), per_image=3, seed=0)
    np.testing.assert_allclose(
        found.vectors[..., 1].numpy(), np.repeat(np.arange(40)[:, None] * 5 / 200, 3, 1), atol=1e-6
    )


def test_equal_seeds_buy_equal_views_and_pay_once(images):
    ledger = Ledger()
    oracle = Oracle(pretender(linear), ledger=ledger)
    made = [buy_views(oracle, images, ImageViews(8), per_image=2, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(made[0].vectors, made[1].vectors) and not torch.equal(made[0].vectors, made[2].vectors)
    assert ledger.used <= 2 * 80


@pytest.mark.parametrize("prototypes", [False, True])
def test_training_lowers_the_loss_and_is_seeded(images, prototypes):
    views = bought(images)
    copies, state = [], torch.random.get_rng_state()
    for seed, steps in ((0, 25), (0, 25), (1, 25), (0, 1)):
        network = SmallConvNet((8, 16), 6, 8, seed=0)
        recipe = RECIPE.model_copy(update={"steps": steps})
        copies.append(
            contrastive_steal(views, network, ImageViews(8), recipe, seed=seed, prototypes=prototypes)
        )
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second, other, short = copies
    assert first.digest == second.digest != other.digest
    assert first.losses[0] < short.losses[0]
    assert first.queries == 120 and first.input_passes == 25 * 16
    assert not first.module.training


def test_alignment_teaches_lengths_which_contrast_alone_does_not(images):
    views = bought(images)
    views = BoughtViews(views.rows, views.vectors * 50)
    recipe = RECIPE.model_copy(update={"steps": 60, "learning_rate": 2e-2})
    lengths = []
    for prototypes in (False, True):
        copy = contrastive_steal(
            views, SmallConvNet((8, 16), 6, 8, seed=0), ImageViews(8), recipe, seed=0, prototypes=prototypes
        )
        with torch.no_grad():
            lengths.append(copy.module(copy.views.plain(views.rows)).norm(dim=1).mean().item())
    truth = views.vectors.mean(1).norm(dim=1).mean().item()
    assert abs(lengths[1] - truth) < abs(lengths[0] - truth)


def test_a_wrong_width_and_a_loss_that_explodes_are_said(images):
    views = bought(images)
    with pytest.raises(InputError, match=r"vectors of length 5, the service of length 6"):
        contrastive_steal(views, SmallConvNet((8,), 5, 8, seed=0), ImageViews(8), RECIPE, seed=0)
    broken = BoughtViews(views.rows, views.vectors * torch.nan)
    with pytest.raises(InputError, match=r"by contrast diverged with learning rate 0.003. Choose a smaller"):
        contrastive_steal(broken, SmallConvNet((8,), 6, 8, seed=0), ImageViews(8), RECIPE, seed=0)
