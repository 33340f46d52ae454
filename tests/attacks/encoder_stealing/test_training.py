"""Training of surrogates: what it is fed, how often, with what seed, and how it fails."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from dosimeter.attacks.encoder_stealing.losses import Directions, RawVectors
from dosimeter.attacks.encoder_stealing.purchase import Purchase
from dosimeter.attacks.encoder_stealing.training import Recipe, StolenEncoder, batches, steal
from dosimeter.attacks.encoder_stealing.views import ImageViews
from dosimeter.core.errors import InputError
from dosimeter.core.progress import listening
from dosimeter.models.networks import MLP, SmallConvNet

WIDTH = 6
ADAM = {"optimizer": "adam", "learning_rate": 5e-3}


class Recording(nn.Module):
    """A linear network that notes what it was fed."""

    def __init__(self, width=WIDTH):
        super().__init__()
        self.linear = MLP(8 * 8 * 3, (), width, seed=0)
        self.fed = []

    def forward(self, x):
        if self.training:
            self.fed.append(x.detach().clone())
        return self.linear(x)


class Still(ImageViews):
    """Views that change nothing, to see what stands where."""

    def augmented(self, rows):
        return self.plain(rows)


def purchase(images, n=None):
    kept = images if n is None else images[:n]
    table = np.random.default_rng(5).normal(size=(8 * 8 * 3, WIDTH))
    return Purchase(kept, (kept.reshape(len(kept), -1) / 255 @ table).astype(np.float32))


def conv(seed=0, width=WIDTH):
    return SmallConvNet((8, 16), width, 8, seed=seed)


def weights(module):
    return torch.cat([tensor.double().flatten() for tensor in module.state_dict().values()])


# Seeds


def test_equal_seeds_give_equal_bits_and_torchs_generator_stays_as_it_was(images):
    bought, recipe = purchase(images), Recipe(steps=12, batch_size=16, **ADAM)
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    copies = []
    for seed in (0, 0, 1):
        copies.append(steal(bought, conv(), ImageViews(8), recipe, seed=seed))
        assert torch.equal(torch.random.get_rng_state(), state)
        torch.manual_seed(seed + 9)  # what the global generator was used for does not matter
        state = torch.random.get_rng_state()
    assert copies[0].digest == copies[1].digest != copies[2].digest
    assert copies[0].losses == copies[1].losses != copies[2].losses
    torch.manual_seed(3)


def test_another_start_gives_another_copy(images):
    bought, recipe = purchase(images), Recipe(steps=3, **ADAM)
    assert (
        steal(bought, conv(0), ImageViews(8), recipe, seed=0).digest
        != steal(bought, conv(1), ImageViews(8), recipe, seed=0).digest
    )


# What the surrogate is fed


def test_fewer_inputs_than_a_batch_are_all_trained_on(images):
    network = Recording()
    copy = steal(purchase(images, 5), network, Still(8), Recipe(epochs=3, batch_size=64, **ADAM), seed=0)
    assert [len(fed) for fed in network.fed] == [10, 10, 10]
    plain = images[:5].transpose(0, 3, 1, 2) / np.float32(255)
    for fed in network.fed:
        assert {row.tobytes() for row in fed[:5].numpy()} == {row.tobytes() for row in plain}
    assert copy.queries == 5 and copy.input_passes == 30


def test_two_inputs_are_enough(images):
    copy = steal(purchase(images, 2), conv(), ImageViews(8), Recipe(epochs=2, **ADAM), seed=0)
    assert all(map(math.isfinite, copy.losses)) and len(copy.losses) == 2


def test_raw_pixels_reach_the_surrogate_not_the_targets_normalisation(images):
    network = Recording()
    steal(purchase(images), network, Still(8), Recipe(steps=6, batch_size=20, views=2, **ADAM), seed=0)
    fed = torch.cat(network.fed)
    assert fed.min() == 0 and fed.max() == 1
    known = {row.tobytes() for row in images.transpose(0, 3, 1, 2) / np.float32(255)}
    assert all(row.tobytes() in known for row in fed.numpy())


@pytest.mark.parametrize("views", [1, 3])
def test_plain_inputs_come_first_then_a_block_per_view(images, views):
    network = Recording()
    steal(purchase(images), network, Still(8), Recipe(steps=1, batch_size=10, views=views, **ADAM), seed=0)
    (fed,) = network.fed
    assert len(fed) == 10 * (1 + views)
    for block in fed.split(10):
        assert torch.equal(block, fed[:10])


def test_every_view_is_compared_with_the_vector_of_its_input(images):
    """A network that is right already has no loss, whatever the order and the number of views."""
    network = conv()
    target = StolenEncoder(network.eval(), ImageViews(8))
    bought = Purchase(images, target.embed(images))
    frozen = Recipe(steps=2, learning_rate=1e-12, batch_size=10, views=3)
    copy = steal(bought, _evaluating(network), Still(8), frozen, seed=0)
    assert max(copy.losses) < 1e-3


def _evaluating(network):
    """``network`` with batch norm that stays in evaluation mode."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train = lambda *_: None
    return network


def test_without_weight_no_view_is_made(images):
    class None_(ImageViews):
        def augmented(self, rows):
            raise AssertionError("a view was made")

    network = Recording()
    recipe = Recipe(steps=2, batch_size=10, views=3, augmentation_weight=0, **ADAM)
    copy = steal(purchase(images), network, None_(8), recipe, seed=0)
    assert [len(fed) for fed in network.fed] == [10, 10] and copy.input_passes == 20


def test_one_pass_sees_every_input_once_but_for_those_that_fill_no_batch():
    for n, size in ((10, 3), (9, 3), (4, 64), (1, 2)):
        stream = batches(n, size)
        size = min(size, n)
        full = n // size
        for _ in range(2):
            rows = torch.cat([next(stream) for _ in range(full)])
            assert len(rows) == full * size == len(rows.unique())
            assert rows.min() >= 0 and rows.max() < n


# How long


@pytest.mark.parametrize(
    ("settings", "n", "expected"),
    [
        ({"epochs": 7}, 640, 70),
        ({"epochs": 7}, 700, 70),
        ({"epochs": 7}, 10, 7),
        ({"epochs": 7, "steps": 5}, 640, 5),
        ({"epochs": 1, "steps": 50}, 10, 50),
        ({}, 2500, 3900),
    ],
)
def test_steps_stand_above_epochs(settings, n, expected):
    assert Recipe(**settings).total_steps(n) == expected


def test_published_settings_are_the_defaults():
    recipe = Recipe()
    assert (recipe.augmentation_weight, recipe.views, recipe.distance, recipe.optimizer) == (20, 1, "euclidean", "sgd")  # fmt: skip
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (64e-3, 0.9, 5e-4)
    assert (recipe.batch_size, recipe.epochs, recipe.schedule, recipe.separate_batches) == (64, 100, "constant", False)  # fmt: skip


# What is computed


def test_separate_batches_change_nothing_without_batch_norm_and_something_with(images):
    bought = purchase(images)
    for network, alike in ((lambda: MLP(192, (8,), WIDTH, seed=0), True), (conv, False)):
        copies = [
            steal(bought, network(), Still(8), Recipe(steps=8, batch_size=16, separate_batches=s, **ADAM), seed=0)
            for s in (False, True)
        ]  # fmt: skip
        one, two = (weights(copy.module) for copy in copies)
        assert torch.allclose(one, two, atol=1e-5) == alike


def test_one_step_is_plain_gradient_descent_on_the_paper_s_loss(images):
    bought = purchase(images, 8)
    recipe = Recipe(steps=1, batch_size=8, learning_rate=0.1, weight_decay=0.01, augmentation_weight=3)
    network, reference = MLP(192, (), WIDTH, seed=0), MLP(192, (), WIDTH, seed=0)
    copy = steal(bought, network, Still(8), recipe, seed=0)
    x = torch.from_numpy(bought.inputs.transpose(0, 3, 1, 2).copy()).float() / 255
    goal = torch.from_numpy(bought.unit)
    said = reference(x)
    loss = 4 * sum((said[i] / said[i].norm() - goal[i]).norm() for i in range(8)) / 8
    loss.backward()
    assert copy.losses[0] == pytest.approx(loss.item(), rel=1e-5)
    for moved, start in zip(copy.module.parameters(), reference.parameters()):
        expected = start.data - 0.1 * (start.grad + 0.01 * start.data)
        torch.testing.assert_close(moved.data, expected, atol=1e-6, rtol=1e-5)


class Downhill:
    """A goal with the same slope everywhere: each step of plain gradient descent moves the bias by the learning rate."""

    def distances(self, outputs, rows):
        assert len(outputs) == len(rows)
        return outputs.sum(1)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rates_follow_the_schedule(images, schedule):
    recipe = Recipe(
        steps=10, schedule=schedule, momentum=0, weight_decay=0, learning_rate=0.1, augmentation_weight=0
    )
    network, start = MLP(192, (), WIDTH, seed=0), MLP(192, (), WIDTH, seed=0)
    steal(purchase(images), network, Still(8), recipe, seed=0, goal=Downhill())
    rates = [0.1 if schedule == "constant" else 0.05 * (1 + math.cos(math.pi * t / 10)) for t in range(10)]
    moved = start.layers[1].bias - network.layers[1].bias
    torch.testing.assert_close(moved.detach(), torch.full((WIDTH,), sum(rates)))


def test_the_relational_term_is_part_of_the_loss(images):
    bought = purchase(images)
    losses = [
        steal(bought, conv(), Still(8), Recipe(steps=1, relational_weight=w, **ADAM), seed=0).losses[0]
        for w in (0.0, 10.0)
    ]
    assert losses[1] > losses[0] + 1e-3


def test_the_goal_may_be_another(images):
    bought = purchase(images)
    goal = RawVectors(torch.from_numpy(bought.vectors))
    recipe = Recipe(steps=40, augmentation_weight=0, **ADAM)
    losses = steal(bought, conv(), Still(8), recipe, seed=0, goal=goal).losses
    assert losses[-1] < losses[0]
    directions = Directions(torch.from_numpy(bought.unit), "euclidean")
    same = [
        steal(bought, conv(), Still(8), recipe, seed=0, goal=given).digest for given in (None, directions)
    ]
    assert same[0] == same[1]


def test_a_copy_learns_what_was_sold_and_nothing_from_shuffled_vectors(images):
    bought = purchase(images)
    recipe = Recipe(steps=150, schedule="cosine", **ADAM)
    right = steal(bought, conv(), ImageViews(8, flip=False), recipe, seed=0)
    wrong = steal(
        bought.permuted(np.random.default_rng(0)), conv(), ImageViews(8, flip=False), recipe, seed=0
    )
    cosines = [(copy.embed(images) * bought.unit).sum(1).mean() for copy in (right, wrong)]
    assert cosines[0] > cosines[1] + 0.05
    assert right.losses[-1] < 0.7 * right.losses[0]


# What comes out


def test_a_copy_is_left_in_evaluation_mode_and_stays_there(images):
    copy = steal(purchase(images), conv(), ImageViews(8), Recipe(steps=2, **ADAM), seed=0)
    digest = copy.digest
    first = copy.embed(images)
    assert not any(layer.training for layer in copy.module.modules())
    np.testing.assert_array_equal(first[:3], copy.embed(images[:3]))
    assert not any(layer.training for layer in copy.module.modules())
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, rtol=1e-5)
    assert first.dtype == np.float32 and StolenEncoder(copy.module, copy.views).digest == digest


def test_losses_are_means_of_tenths_and_progress_is_reported(images):
    events = []
    with listening(events.append):
        copy = steal(
            purchase(images), conv(), ImageViews(8), Recipe(steps=30, **ADAM), seed=0, task="a theft"
        )
    assert len(copy.losses) == 10
    assert [(e.done, e.total) for e in events if e.task == "a theft"][-1] == (30, 30)


@pytest.mark.parametrize("steps", [1, 3, 25])
def test_few_steps_have_losses_too(images, steps):
    copy = steal(purchase(images), conv(), ImageViews(8), Recipe(steps=steps, **ADAM), seed=0)
    assert copy.losses and all(map(math.isfinite, copy.losses))


# Bad calls


def test_another_width_is_named(images):
    with pytest.raises(InputError, match=r"vectors of length 9, the service of length 6.*surrogates.matched"):
        steal(purchase(images), conv(width=9), ImageViews(8), Recipe(steps=1), seed=0)


def test_divergence_is_named(images):
    recipe = Recipe(steps=40, learning_rate=1e30, augmentation_weight=0)
    with pytest.raises(InputError, match=r"theft diverged by step \d+ with learning rate 1e\+30. Choose a s"):
        steal(
            purchase(images), MLP(192, (8,), WIDTH, seed=0), ImageViews(8), recipe, seed=0, task="theft",
            goal=RawVectors(torch.from_numpy(purchase(images).vectors)),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"augmentation_weight": -1}, "augmentation_weight"),
        ({"views": 0}, "views"),
        ({"distance": "manhattan"}, "distance"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"momentum": 1}, "momentum"),
        ({"batch_size": 1}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"steps": 0}, "steps"),
        ({"lambda": 20}, "lambda"),
    ],
)
def test_recipes_out_of_range_are_refused(settings, place):
    with pytest.raises(ValueError, match=place):
        Recipe(**settings)
