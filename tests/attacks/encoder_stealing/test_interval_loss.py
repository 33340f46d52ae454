"""The distance to a box against a loop and the paper's loss, and that training on it sees through defences."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dosimeter.attacks.encoder_stealing.adaptive import DetectedDefense, detect_defense, evidence
from dosimeter.attacks.encoder_stealing.interval_loss import Intervals, interval_distance
from dosimeter.attacks.encoder_stealing.losses import Directions
from dosimeter.attacks.encoder_stealing.purchase import unit_rows
from dosimeter.core.target import CallableTarget
from dosimeter.defenses.features import FeatureRounding, TopKFeatures

GENERATOR = np.random.default_rng(0)
OUTPUTS = torch.from_numpy(GENERATOR.normal(size=(12, 16)).astype(np.float32))
VECTORS = GENERATOR.normal(size=(12, 16)).astype(np.float32)
TOP = DetectedDefense(kept=4, by="signed")


def top_k(vectors, k=4):
    target = CallableTarget(lambda rows: rows.astype(np.float32), modality="table", returns="embedding")
    return np.asarray(TopKFeatures(k=k).wrap(target).answer(vectors))


def test_without_a_defence_it_is_the_papers_distance():
    rows = torch.tensor([3, 0, 7])
    ours = Intervals(evidence(VECTORS, DetectedDefense())).distances(OUTPUTS[rows], rows)
    paper = Directions(torch.from_numpy(unit_rows(VECTORS))).distances(OUTPUTS[rows], rows)
    torch.testing.assert_close(ours, paper)


@pytest.mark.parametrize(
    "detected", [TOP, DetectedDefense(decimals=1), DetectedDefense(decimals=1, unit=True)]
)
def test_it_is_what_a_loop_over_entries_says(detected):
    returned = top_k(VECTORS) if detected.kept else np.round(VECTORS, 1).astype(np.float32)
    found = evidence(returned, detected)
    expected = []
    for output, low, high, known, length in zip(
        OUTPUTS.numpy(), found.low, found.high, found.known, found.lengths
    ):
        scale = length / np.sqrt(sum(float(o) ** 2 for o, k in zip(output, known) if k))
        total = 0.0
        for o, a, b in zip(output, low, high):
            total += max(a - scale * o, 0, scale * o - b) ** 2
        expected.append(np.sqrt(total) / length)
    got = Intervals(found).distances(OUTPUTS, torch.arange(12))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_it_is_zero_inside_at_any_scale_and_its_gradient_is_finite():
    found = evidence(top_k(VECTORS), TOP)
    student = (3 * torch.from_numpy(VECTORS)).requires_grad_()
    distances = Intervals(found).distances(student, torch.arange(12))
    assert distances.max() < 1e-5
    distances.sum().backward()
    assert torch.isfinite(student.grad).all()


def test_a_student_that_points_the_wrong_way_is_turned_round():
    goal = Intervals(evidence(top_k(VECTORS), TOP))
    student = (0.1 * OUTPUTS - torch.from_numpy(top_k(VECTORS))).requires_grad_()
    assert goal.distances(student, torch.arange(12)).min() > 1.8
    optimizer = torch.optim.Adam([student], 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        goal.distances(student, torch.arange(12)).sum().backward()
        optimizer.step()
    assert goal.distances(student, torch.arange(12)).max() < 0.1


def test_nothing_known_or_nothing_said_is_no_division_by_zero():
    found = evidence(np.zeros((2, 3), np.float32), TOP)
    student = torch.tensor([[0.0, 0, 0], [1, 2, -3]], requires_grad=True)
    distances = Intervals(found).distances(student, torch.arange(2))
    distances.sum().backward()
    assert torch.isfinite(student.grad).all() and distances.max() < 1e-5
    silent = torch.zeros(12, 16, requires_grad=True)
    Intervals(evidence(VECTORS, DetectedDefense())).distances(silent, torch.arange(12)).sum().backward()
    assert torch.isfinite(silent.grad).all()


def linear_copy(goal, x, width):
    torch.manual_seed(0)
    student = torch.nn.Linear(x.shape[1], width)
    optimizer = torch.optim.Adam(student.parameters(), 0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for _ in range(500):
        loss = goal.distances(student(x), torch.arange(len(x))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return student


@pytest.mark.parametrize(
    ("defense", "plain_at_most", "adaptive_at_least"),
    [
        (TopKFeatures(share=0.25), 0.9, 0.995),
        (TopKFeatures(share=0.25, by="magnitude"), 0.98, 0.995),
        (FeatureRounding(decimals=1), 0.9993, 0.9994),
    ],
    ids=["top-k", "top-k by magnitude", "rounding"],
)
def test_a_linear_encoder_is_recovered_better_than_by_regression(defense, plain_at_most, adaptive_at_least):
    generator = np.random.default_rng(0)
    weights, bias = generator.normal(size=(10, 64)), 0.5 * generator.normal(size=64)
    train, test = generator.normal(size=(300, 10)), generator.normal(size=(200, 10))
    target = CallableTarget(
        lambda rows: (rows @ weights + bias).astype(np.float32), modality="table", returns="embedding"
    )
    returned = np.asarray(defense.wrap(target).answer(train))
    x = torch.tensor(train, dtype=torch.float32)
    goals = {
        "plain": Directions(torch.from_numpy(unit_rows(returned))),
        "adaptive": Intervals(evidence(returned, detect_defense(returned))),
    }
    truth = torch.from_numpy(target.answer(test))
    held_out = torch.tensor(test, dtype=torch.float32)
    found = {
        name: float(F.cosine_similarity(linear_copy(goal, x, 64)(held_out).detach(), truth).mean())
        for name, goal in goals.items()
    }
    error = {name: 1 - cosine for name, cosine in found.items()}
    assert found["plain"] < plain_at_most
    assert found["adaptive"] > adaptive_at_least
    assert error["adaptive"] < 0.5 * error["plain"]


def test_interval_distance_takes_infinite_bounds():
    low, high = torch.full((1, 2), -torch.inf), torch.tensor([[torch.inf, 0.5]])
    known, lengths = torch.tensor([[True, False]]), torch.tensor([2.0])
    got = interval_distance(torch.tensor([[4.0, 3.0]]), low, high, known, lengths)
    torch.testing.assert_close(got, torch.tensor([0.5]))
