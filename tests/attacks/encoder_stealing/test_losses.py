"""Losses against loops over samples, in plain Python."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dosimeter.attacks.encoder_stealing.losses import (
    Directions,
    RawVectors,
    relational_distance,
    stealing_loss,
    unit_distance,
)


def one_distance(output, vector, kind):
    """Between two lists of numbers; only the first is brought to length 1."""
    length = math.sqrt(sum(a * a for a in output))
    unit = [a / length for a in output]
    if kind == "cosine":
        return -sum(a * b for a, b in zip(unit, vector))
    if kind == "l1":
        return sum(abs(a - b) for a, b in zip(unit, vector))
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(unit, vector)))


def loss_by_loop(plain, views, vectors, weight, kind):
    """The two equations of the paper: plain (n, d), views k times (n, d), vectors (n, d)."""
    n, k = len(plain), len(views)
    first = sum(one_distance(plain[i], vectors[i], kind) for i in range(n)) / n
    if k == 0:
        return first
    second = sum(sum(one_distance(view[i], vectors[i], kind) for view in views) / k for i in range(n)) / n
    return first + weight * second


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    d=st.integers(1, 12),
    k=st.integers(0, 3),
    kind=st.sampled_from(["euclidean", "l1", "cosine"]),
    weight=st.floats(0, 30),
    seed=st.integers(0, 2**20),
)
def test_the_loss_is_the_loop_over_samples_and_views(n, d, k, kind, weight, seed):
    generator = np.random.default_rng(seed)
    outputs = generator.normal(size=(1 + k, n, d))
    vectors = generator.normal(size=(20, d))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = torch.from_numpy(generator.integers(0, 20, n))
    goal = Directions(torch.from_numpy(vectors), kind)
    distances = goal.distances(torch.from_numpy(outputs).flatten(0, 1), rows.repeat(1 + k))
    assert distances.shape == (n * (1 + k),)
    ours = stealing_loss(distances, k, weight)
    expected = loss_by_loop(
        outputs[0].tolist(),
        [view.tolist() for view in outputs[1:]],
        vectors[rows.numpy()].tolist(),
        weight,
        kind,
    )
    # The root hides 1e-12, which makes a distance of 0 one of 1e-6.
    assert ours.item() == pytest.approx(expected, rel=1e-6, abs=2e-6 * (1 + weight))


def test_the_gradient_is_that_of_the_loop():
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(6, 5, generator=generator), dim=1)
    start = torch.randn(18, 5, generator=generator)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    goal = Directions(vectors)
    stealing_loss(goal.distances(ours, torch.arange(6).repeat(3)), 2, 20.0).backward()
    total = torch.zeros(())
    for i in range(6):
        one = [(F.normalize(theirs[i + 6 * m], dim=0) - vectors[i]).norm() for m in range(3)]
        total = total + one[0] / 6 + 20.0 * (one[1] + one[2]) / 2 / 6
    total.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["euclidean", "l1", "cosine"])
def test_gradients_are_finite_at_distance_zero_and_for_an_output_of_zeros(kind):
    vectors = F.normalize(torch.ones(2, 4), dim=1)
    outputs = torch.stack([vectors[0], torch.zeros(4)]).requires_grad_()
    unit_distance(outputs, vectors, kind).sum().backward()
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize(("kind", "same", "opposite"), [("euclidean", 0, 2), ("l1", 0, 4), ("cosine", -1, 1)])
def test_distances_have_the_range_that_they_claim(kind, same, opposite):
    vectors = torch.full((2, 4), 0.5)
    outputs = torch.stack([3 * vectors[0], -7 * vectors[1]])
    assert unit_distance(outputs, vectors, kind).tolist() == pytest.approx([same, opposite], abs=2e-6)


def one_step(reduce, learning_rate, weight_decay):
    """Weights after two steps of SGD on a sum or a mean of Euclidean distances."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 7, generator=generator)
    vectors = F.normalize(torch.randn(64, 5, generator=generator), dim=1)
    weight = torch.randn(5, 7, generator=generator).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=learning_rate, momentum=0.9, weight_decay=weight_decay)
    for _ in range(2):
        loss = getattr(unit_distance(x @ weight.T, vectors), reduce)()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach()


def test_a_mean_with_64_times_the_learning_rate_is_the_published_sum():
    torch.testing.assert_close(one_step("sum", 1e-3, 0.0), one_step("mean", 64e-3, 0.0))


def test_weight_decay_has_to_fall_by_as_much_as_the_learning_rate_rises():
    published = one_step("sum", 1e-3, 5e-4)
    torch.testing.assert_close(published, one_step("mean", 64e-3, 5e-4 / 64))
    assert not torch.allclose(published, one_step("mean", 64e-3, 5e-4), rtol=1e-6, atol=1e-6)


def test_the_conventional_goal_is_the_mean_squared_error_of_vectors_as_they_are():
    generator = torch.Generator().manual_seed(0)
    vectors, outputs = torch.randn(5, 3, generator=generator), torch.randn(2, 3, generator=generator)
    found = RawVectors(vectors).distances(outputs, torch.tensor([4, 1]))
    expected = [F.mse_loss(outputs[0], vectors[4]).item(), F.mse_loss(outputs[1], vectors[1]).item()]
    assert found.tolist() == pytest.approx(expected)


def test_the_relational_term_sees_what_cosines_cannot():
    generator = torch.Generator().manual_seed(0)
    offsets = torch.randn(10, 6, generator=generator)
    narrow = F.normalize(10 * torch.ones(6) + 0.1 * offsets, dim=1)  # all point one way
    constant = torch.ones(10, 6) + 1e-6 * torch.randn(10, 6, generator=generator)
    assert unit_distance(constant, narrow, "cosine").mean() < -0.99
    assert relational_distance(constant, narrow) > 0.1
    assert relational_distance(3 * narrow, narrow) == pytest.approx(0, abs=1e-9)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    assert relational_distance(narrow @ rotation, narrow) == pytest.approx(0, abs=1e-4)
