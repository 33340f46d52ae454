"""Vectorised synthesis against loops that are slow and obviously right."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dosimeter.attacks.encoder_inference.objectives import image_objectives
from dosimeter.attacks.encoder_inference.synthesis import Gradient, ZerothOrder, synthesise
from dosimeter.core.errors import TargetError
from dosimeter.core.progress import Track
from dosimeter.targets.torch import TorchTarget
from support.tiny_encoders import PREPROCESSING, SIZE, image_encoder

CANVAS = 6
PIXELS = 3 * CANVAS * CANVAS


class Encoder:
    """A smooth random encoder of images; remembers what it was asked."""

    def __init__(self, seed=0, dim=5, linear=False):
        self.weights = torch.randn(PIXELS, dim, generator=torch.Generator().manual_seed(seed)) / PIXELS**0.5
        self.linear = linear
        self.asked = []

    def __call__(self, images):
        self.asked.append(images.detach().clone())
        found = (images - 0.5).flatten(1) @ self.weights * 4
        return found if self.linear else torch.sin(found)


def goals_of(m=2, dim=5):
    return torch.rand(m, dim, generator=torch.Generator().manual_seed(99)) - 0.5


def slow_zeroth_order(embed, goals, copies, settings, seed):
    """As published: copy after copy, direction after direction, rounding through NumPy's uint8, one probe at a time."""
    generator = torch.Generator().manual_seed(seed)
    canvas = (3, settings.canvas, settings.canvas)
    images = torch.rand(len(goals) * copies, *canvas, generator=generator).numpy()
    for _ in range(settings.steps):
        drawn = torch.rand(settings.directions, *canvas, generator=generator).numpy() - np.float32(0.5)
        directions = [raw / np.linalg.norm(raw) for raw in drawn]
        for row in range(len(images)):

            def loss(probe, goal=goals[row // copies]):
                pixels = np.clip(255 * probe, 0, 255).astype(np.uint8)
                embedding = embed(torch.from_numpy(pixels.astype(np.float32) / 255)[None])[0]
                return float(((embedding - goal) ** 2).mean())

            estimate = np.zeros(canvas)
            for direction in directions:
                offset = np.float32(settings.epsilon) * direction
                difference = loss(images[row] + offset) - loss(images[row] - offset)
                estimate += PIXELS / (2 * settings.epsilon * settings.directions) * difference * direction
            step = settings.learning_rate * estimate / np.abs(estimate).max()
            images[row] = np.clip(images[row] - step, 0, 1)
    pixels = np.clip(255 * images, 0, 255).astype(np.uint8)
    return pixels.transpose(0, 2, 3, 1).reshape(len(goals), copies, settings.canvas, settings.canvas, 3)


@pytest.mark.parametrize("at_once", [5, 40, 1000])
def test_zeroth_order_equals_a_loop_over_single_probes(at_once):
    settings = ZerothOrder(canvas=CANVAS, steps=4, directions=9, epsilon=1.5, learning_rate=0.2)
    goals = goals_of()
    slow = slow_zeroth_order(Encoder(), goals, 3, settings, seed=7)
    made = synthesise(Encoder(), goals, 3, settings, seed=7, at_once=at_once)
    assert made.images.shape == slow.shape == (2, 3, CANVAS, CANVAS, 3)
    assert made.images.dtype == np.uint8
    gaps = np.abs(made.images.astype(int) - slow)
    # A value on the border of two grey levels may fall to either side.
    assert gaps.max() <= 1
    assert (gaps > 0).mean() < 0.01


def adam(gradient, images, settings):
    """Kingma and Ba 2015, algorithm 1, with clipping to 0..1 after each update."""
    first, second = np.zeros_like(images), np.zeros_like(images)
    for step in range(1, settings.steps + 1):
        slope = gradient(images)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        update = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        images = np.clip(images - settings.learning_rate * update, 0, 1)
    return images


def test_gradient_synthesis_equals_adam_by_hand_image_by_image():
    settings = Gradient(canvas=CANVAS, steps=8, learning_rate=0.03)
    goals, copies = goals_of(7), 6
    encoder = Encoder(linear=True)
    made = synthesise(encoder, goals, copies, settings, seed=3)
    starts = torch.rand(42, PIXELS, generator=torch.Generator().manual_seed(3)).double().numpy()
    weights, exact_goals = encoder.weights.double().numpy() * 4, goals.double().numpy()
    for row, start in enumerate(starts):

        def gradient(a, goal=exact_goals[row // copies]):
            return 2 / len(goal) * weights @ (weights.T @ (a - 0.5) - goal)

        by_hand = adam(gradient, start, settings).reshape(3, CANVAS, CANVAS).transpose(1, 2, 0) * 255
        assert np.abs(made.images[row // copies, row % copies] - (by_hand - 0.5)).max() < 0.52


def cosine_with_gradient(directions):
    """How well one step points down the slope of a linear encoder, over pixels that no border stops."""
    encoder, goals = Encoder(linear=True), goals_of(4)
    before = synthesise(encoder, goals, 5, ZerothOrder(canvas=CANVAS, steps=0), seed=1).images / 255
    settings = ZerothOrder(canvas=CANVAS, steps=1, directions=directions, epsilon=1.0, learning_rate=0.4)
    step = (synthesise(encoder, goals, 5, settings, seed=1).images / 255 - before).reshape(20, -1)
    pixels = (
        torch.from_numpy(before).float().movedim(-1, 2).reshape(20, 3, CANVAS, CANVAS).requires_grad_(True)
    )
    (encoder(pixels) - goals.repeat_interleave(5, dim=0)).square().mean(dim=1).sum().backward()
    slope = pixels.grad.movedim(1, -1).reshape(20, -1).numpy()
    free = (before.reshape(20, -1) > 0.4) & (before.reshape(20, -1) < 0.6)
    return np.mean([np.corrcoef(-a[f], b[f])[0, 1] for a, b, f in zip(step, slope, free)])


def test_the_estimate_points_along_the_gradient_and_better_with_more_directions():
    found = [cosine_with_gradient(directions) for directions in (5, 50, 2000)]
    assert found == sorted(found)
    assert found[0] < 0.5
    assert found[-1] > 0.95


def test_the_largest_change_of_a_step_is_the_learning_rate():
    def after(steps):
        settings = ZerothOrder(canvas=CANVAS, steps=steps, directions=20, epsilon=1, learning_rate=0.1)
        return synthesise(Encoder(), goals_of(), 8, settings, seed=0).images.astype(int)

    changes = np.abs(after(1) - after(0)).max(axis=(2, 3, 4))
    assert changes.max() <= 26
    # The pixel that changes most may be stopped by the border, but not in most images.
    assert np.median(changes) >= 25


@pytest.mark.parametrize(
    "settings",
    [
        ZerothOrder(canvas=CANVAS, steps=6, directions=10, epsilon=4),
        Gradient(canvas=CANVAS, steps=6, learning_rate=0.5),
    ],
)
def test_losses_are_those_of_the_8_bit_images(settings):
    embed, goals = Encoder(), goals_of()
    made = synthesise(embed, goals, 3, settings, seed=2)
    pixels = torch.from_numpy(made.images).reshape(6, CANVAS, CANVAS, 3).movedim(-1, 1) / 255
    expected = (embed(pixels) - goals.repeat_interleave(3, dim=0)).square().mean(dim=1).reshape(2, 3)
    np.testing.assert_allclose(made.losses, expected, rtol=1e-6)
    unmoved = synthesise(embed, goals, 3, settings.model_copy(update={"steps": 0}), seed=2)
    np.testing.assert_array_equal(made.start_losses, unmoved.losses)


def test_the_encoder_sees_8_bit_values_in_range_and_every_pass_is_counted():
    embed = Encoder()
    settings = ZerothOrder(canvas=CANVAS, steps=5, directions=7, epsilon=9)
    made = synthesise(embed, goals_of(), 4, settings, seed=0)
    asked = torch.cat(embed.asked)
    assert asked.min() == 0
    assert asked.max() == 1
    assert torch.equal((asked * 255).round() / 255, asked)
    assert made.queries == settings.queries_per_sample() == 2 * 7 * 5
    assert len(asked) == 8 * (made.queries + 2)  # the random start and the result are looked at too


def test_published_settings_ask_as_often_as_published():
    assert ZerothOrder().queries_per_sample() == 20_000
    assert ZerothOrder(steps=200).queries_per_sample() == 40_000


def test_gradient_counts_one_pass_per_step():
    embed = Encoder()
    made = synthesise(embed, goals_of(), 2, Gradient(canvas=CANVAS, steps=9), seed=0)
    assert made.queries == 9
    assert sum(map(len, embed.asked)) == 4 * (9 + 2)


@pytest.mark.parametrize("kind", [ZerothOrder, Gradient])
def test_no_steps_leave_the_random_start_which_is_the_same_for_every_candidate(kind):
    settings = kind(canvas=CANVAS, steps=0)
    first = synthesise(Encoder(0), goals_of(), 3, settings, seed=5)
    second = synthesise(Encoder(1, dim=9), goals_of(2, 9), 3, settings, seed=5)
    starts = torch.rand(6, 3, CANVAS, CANVAS, generator=torch.Generator().manual_seed(5))
    expected = (starts * 255).floor().to(torch.uint8).movedim(1, -1).reshape(first.images.shape)
    np.testing.assert_array_equal(first.images, expected)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.losses, first.start_losses)
    assert first.queries == 0
    other = synthesise(Encoder(0), goals_of(), 3, settings, seed=6)
    assert not np.array_equal(first.images, other.images)


def test_the_same_seed_gives_the_same_images():
    settings = ZerothOrder(canvas=CANVAS, steps=3, directions=5)
    runs = [synthesise(Encoder(), goals_of(), 2, settings, seed=4) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].images, runs[1].images)


def test_a_flat_loss_moves_nothing():
    settings = ZerothOrder(canvas=CANVAS, steps=3, directions=5)
    made = synthesise(lambda images: torch.zeros(len(images), 2), torch.ones(1, 2), 2, settings, seed=0)
    start = synthesise(
        lambda images: torch.zeros(len(images), 2),
        torch.ones(1, 2),
        2,
        ZerothOrder(canvas=CANVAS, steps=0),
        seed=0,
    )
    np.testing.assert_array_equal(made.images, start.images)


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        (ZerothOrder(canvas=SIZE, steps=60, directions=30), 0.5),
        (Gradient(canvas=SIZE, steps=60), 0.1),
    ],
)
def test_the_loss_falls_on_a_convolutional_network(settings, most):
    target = TorchTarget(image_encoder(0), name="conv", returns="embedding", preprocessing=PREPROCESSING)
    goals = torch.from_numpy(target.answer(image_objectives(4, SIZE, seed=0)))
    made = synthesise(target.forward, goals, 2, settings, seed=0)
    assert made.losses.mean() <= most * made.start_losses.mean()


@pytest.mark.parametrize(
    "settings", [ZerothOrder(canvas=CANVAS, steps=2, directions=3), Gradient(canvas=CANVAS, steps=2)]
)
def test_nan_of_a_candidate_is_an_error(settings):
    with pytest.raises(TargetError, match="NaN or infinity for attack images"):
        synthesise(
            lambda images: images.flatten(1)[:, :2].log(), torch.full((1, 2), torch.nan), 1, settings, seed=0
        )


@pytest.mark.parametrize(
    "settings", [ZerothOrder(canvas=CANVAS, steps=4, directions=3), Gradient(canvas=CANVAS, steps=4)]
)
def test_every_step_is_reported(settings):
    bar = Track("attack images", settings.steps)
    synthesise(Encoder(), goals_of(), 1, settings, seed=0, bar=bar)
    assert bar.done == 4


@pytest.mark.parametrize(
    "wrong",
    [{"canvas": 3}, {"steps": -1}, {"directions": 0}, {"epsilon": 0}, {"learning_rate": 0}, {"stepz": 1}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ZerothOrder(**wrong)
