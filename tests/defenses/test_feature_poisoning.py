"""The closed form of poisoning against brute force, and the defence around it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize

from dosimeter.core.errors import CapabilityError, InputError
from dosimeter.core.target import CallableTarget
from dosimeter.defenses.feature_poisoning import FeaturePoisoning, poison

ROWS = np.random.default_rng(0).normal(size=(6, 5))
WEIGHTS = np.random.default_rng(1).normal(size=(5, 12))


def encoder(function=lambda rows: rows @ WEIGHTS, **given):
    given = {"modality": "table", "returns": "embedding", "fingerprint": "f", "name": "svc", **given}
    return CallableTarget(function, **given)


def near(rows):
    return rows @ (WEIGHTS + 0.2)


STUDENT = encoder(near, fingerprint="s", name="student")


def angle(one, other):
    cosine = (one * other).sum(-1) / (np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1))
    return np.arccos(np.clip(cosine, -1, 1))


def case(seed, width, distance, eps):
    """One v, s at ``distance``, and the poisoned v within ``eps``."""
    generator = np.random.default_rng(seed)
    v, direction, noise = generator.normal(size=(3, 1, width))
    s = v - distance * direction / np.linalg.norm(direction)
    return v, s, poison(v, s, np.array([[eps]]), noise, overshoot=0.1)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    width=st.integers(2, 30),
    distance=st.floats(0.05, 5),
    eps=st.floats(0.001, 4),
)
def test_no_point_of_the_ball_turns_the_gradient_further(seed, width, distance, eps):
    assume(
        abs(eps - distance) > 1e-3
    )  # at eps = D the best point is s itself, from where nothing leads anywhere
    v, s, poisoned = case(seed, width, distance, eps)
    assert np.linalg.norm(poisoned - v) <= eps * (1 + 1e-9)
    reached = angle(poisoned - s, v - s)[0]
    assert reached == pytest.approx(np.arcsin(eps / distance) if eps <= distance else np.pi, abs=1e-5)
    generator = np.random.default_rng(seed + 1)
    steps = generator.normal(size=(4000, width))
    steps *= eps * generator.random((4000, 1)) ** (1 / width) / np.linalg.norm(steps, axis=1, keepdims=True)
    if eps < distance:
        assert angle(v + steps - s, np.broadcast_to(v - s, steps.shape)).max() <= reached + 1e-6


@pytest.mark.parametrize(("distance", "eps"), [(1.0, 0.1), (1.0, 0.6), (2.0, 1.9)])
def test_a_numerical_optimiser_finds_the_same_angle(distance, eps):
    v, s, poisoned = case(3, 4, distance, eps)

    def cosine_of_angle(r):
        return float(np.cos(angle(v + r[None] - s, v - s))[0])

    best = min(
        minimize(
            cosine_of_angle,
            eps * start / np.linalg.norm(start) * 0.5,
            method="SLSQP",
            constraints={"type": "ineq", "fun": lambda r: eps**2 - r @ r},
            options={"maxiter": 500, "ftol": 1e-12},
        ).fun
        for start in np.random.default_rng(0).normal(size=(5, 4))
    )
    assert angle(poisoned - s, v - s)[0] == pytest.approx(np.arccos(best), abs=1e-3)


def test_beyond_the_student_the_gradient_is_reversed_and_overshoot_says_how_far():
    v, s, noise = np.array([[1.0, 0.0]]), np.array([[0.4, 0.0]]), np.array([[0.3, 0.7]])
    for overshoot, expected in ((0.25, 0.3), (1.0, 0.0)):
        (found,) = poison(v, s, np.array([[1.0]]), noise, overshoot=overshoot)
        np.testing.assert_allclose(found, [expected, 0], atol=1e-15)


def test_a_perfect_student_and_a_width_of_one_have_no_direction_to_divide_by():
    v, noise = np.array([[3.0, 4.0]]), np.array([[0.0, -2.0]])
    found = poison(v, v, np.array([[1.0]]), noise, overshoot=0.5)
    np.testing.assert_allclose(found, [[3, 4.5]])
    narrow = poison(np.ones((1, 1)), np.zeros((1, 1)), np.full((1, 1), 0.25), np.ones((1, 1)), overshoot=0.1)
    np.testing.assert_allclose(narrow, [[1 - 0.25**2]])


@pytest.mark.parametrize("rho", [0.05, 0.3, 1.0])
def test_the_defence_turns_students_of_the_vectors_length(rho):
    v, said = ROWS @ WEIGHTS, near(ROWS)
    lengths = np.linalg.norm(v, axis=1)
    s = said * (lengths / np.linalg.norm(said, axis=1))[:, None]
    poisoned = np.asarray(FeaturePoisoning(student=STUDENT, rho=rho).wrap(encoder()).answer(ROWS))
    assert (np.linalg.norm(poisoned - v, axis=1) <= rho * lengths * (1 + 1e-9)).all()
    distance = np.linalg.norm(v - s, axis=1)
    sine = np.minimum(1, rho * lengths / distance)
    expected = np.where(rho * lengths > distance, np.pi, np.arcsin(sine))
    np.testing.assert_allclose(angle(poisoned - s, v - s), expected, atol=1e-6)


def test_the_scale_of_the_student_does_not_matter():
    large = encoder(lambda rows: 50 * near(rows), fingerprint="s", name="student")
    found = [FeaturePoisoning(student=student).wrap(encoder()).answer(ROWS) for student in (STUDENT, large)]
    np.testing.assert_allclose(*found)


def test_the_student_sees_what_the_caller_sent_and_belongs_to_the_identity():
    seen = []
    watching = encoder(lambda rows: seen.append(rows.copy()) or near(rows), fingerprint="w", name="w")
    defended = FeaturePoisoning(student=watching).wrap(encoder())
    defended.answer(ROWS[:2])
    np.testing.assert_array_equal(seen[0], ROWS[:2])
    assert defended.fingerprint != FeaturePoisoning(student=STUDENT).wrap(encoder()).fingerprint
    assert FeaturePoisoning(student=STUDENT).hyperparameters()["student"] == {
        "name": "student",
        "fingerprint": "s",
    }


def test_a_student_that_cannot_serve_is_refused():
    with pytest.raises(ValidationError, match=r"student 'svc' returns scores; it must return embedding"):
        FeaturePoisoning(student=encoder(returns="scores"))
    texts = CallableTarget(len, modality="text", returns="embedding", name="words")
    with pytest.raises(
        CapabilityError, match=r"'svc': its student 'words' takes text inputs, the target table"
    ):
        FeaturePoisoning(student=texts).wrap(encoder())
    narrow = encoder(lambda rows: rows[:, :3], name="narrow")
    with pytest.raises(
        InputError, match=r"student 'narrow' gives vectors of length 3 and the target of length 12"
    ):
        FeaturePoisoning(student=narrow).wrap(encoder()).answer(ROWS)


def test_a_spec_builds_the_student(tmp_path: Path):
    student = {
        "kind": "torch",
        "factory": "dosimeter.models.networks:MLP",
        "arguments": {"in_dim": 5, "hidden": [4], "out_dim": 12, "seed": 0},
        "modality": "table",
    }
    defense = FeaturePoisoning.from_spec({"student": student, "rho": 0.2}, tmp_path)
    assert defense.student.returns == "embedding"
    poisoned = np.asarray(defense.wrap(encoder()).answer(ROWS))
    assert not np.isclose(poisoned, ROWS @ WEIGHTS).all()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "feature-poisoning: student: is missing"),
        ({"student": "small"}, "student: must be an encoder, with the keys of a target"),
        ({"student": {"kind": "torch"}, "rho": -1}, r"student\.factory: is missing; rho: .*greater than"),
        ({"student": {"kind": "torsh"}}, "did you mean 'torch'"),
    ],
)
def test_every_problem_of_a_spec_is_said(given, says, tmp_path):
    with pytest.raises(InputError, match=says):
        FeaturePoisoning.from_spec(given, tmp_path)
