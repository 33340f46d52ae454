"""A defence that bends returned vectors so that a thief's training goes astray: feature poisoning.

Does not own: making the student it works against (any target that returns embeddings of the same width).
Source: prediction poisoning carried over to vectors [inferred; StolenEncoder, arXiv 2201.05889, names the defence only].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, field_serializer, field_validator

from dosimeter.core.card import Card
from dosimeter.core.errors import CapabilityError, InputError
from dosimeter.core.method import Defense, Generators
from dosimeter.core.problems import Problem, SettingsError
from dosimeter.core.records import Answers, Batch
from dosimeter.core.target import Target
from dosimeter.defenses.features import NEEDS, PAPER, TAGS, THREAT_MODEL, in_rows, normal_rows, row_lengths
from dosimeter.targets.encoders import embed, encoder_from_spec


class FeaturePoisoning(Defense):
    """Moves each vector v, by at most ``rho`` of its length, to where training on it leads a student furthest astray.

    The provider keeps a student of its own, such as a small copy of the encoder. For an input where it says s, a thief's
    student of that state would move along v - s; of all vectors within ``rho ||v||`` of v, the one returned turns that
    direction by the largest angle (:func:`poison`). Students learn directions, so s is compared at the length of v.
    The part that is random is drawn once per input. ``rho: 0`` changes nothing. The thief's student will not be in the
    provider's student's place: what is left of the effect is what an attack measures.
    """

    card: ClassVar[Card] = Card(
        slug="feature-poisoning",
        kind="defense",
        title="Poisoned features",
        purpose="Does bending each vector against a thief's training keep the encoder from being stolen?",
        threat_model=THREAT_MODEL,
        needs=NEEDS,
        paper=PAPER,
        extras=("torch",),
        tags=TAGS,
    )

    student: Target = Field(description="the provider's student: an encoder of the same inputs and width")
    rho: float = Field(0.5, ge=0, le=100, description="largest change over length of the vector")
    overshoot: float = Field(
        0.1,
        gt=0,
        le=1,
        description="where rho reaches beyond the student: the share of the rest that is used; 1 uses all",
    )

    @field_validator("student")
    @classmethod
    def _gives_vectors(cls, student: Target) -> Target:
        if student.returns != "embedding":
            raise ValueError(
                f"student '{student.name}' returns {student.returns}; it must return embedding. Cut its head off"
            )
        return student

    @field_serializer("student")
    def _describe_student(self, student: Target) -> dict[str, str]:
        return {"name": student.name, "fingerprint": student.fingerprint}

    @classmethod
    def from_spec(cls, settings: dict[str, Any], folder: Path, *, trust: bool = False) -> Self:
        student = settings.get("student")
        if not isinstance(student, dict):
            said = "must be an encoder, with the keys of a target such as kind" if student else "is missing"
            return cls.checked(settings, [Problem(("student",), said)])
        try:
            built = encoder_from_spec(("student",), student, folder, trust=trust)
        except SettingsError as error:
            return cls.checked(settings, error.problems)
        return cls.checked({**settings, "student": built}, [])

    def wrap(self, target: Target, *, seed: int = 0) -> Target:
        if target.modality != self.student.modality:
            raise CapabilityError(
                f"feature-poisoning cannot run on target '{target.name}': its student '{self.student.name}' takes "
                f"{self.student.modality} inputs, the target {target.modality}."
            )
        return super().wrap(target, seed=seed)

    def protect_answers(self, answers: Answers, batch: Batch, generators: Generators) -> Answers:
        if self.rho == 0 or len(answers) == 0:
            return answers
        vectors = np.asarray(answers)
        exact = in_rows(vectors)
        said = in_rows(embed(self.student, batch, what=f"student '{self.student.name}'"))
        if said.shape != exact.shape:
            raise InputError(
                f"feature-poisoning needs a student as wide as the target, but student '{self.student.name}' gives "
                f"vectors of length {said.shape[1]} and the target of length {exact.shape[1]}. Give it a head of that width."
            )
        lengths = row_lengths(exact)
        scale = row_lengths(said)
        student = said * lengths / np.where(scale > 0, scale, 1)
        noise = normal_rows(generators, exact.shape[1])
        return poison(exact, student, self.rho * lengths, noise, overshoot=self.overshoot).astype(
            vectors.dtype
        )


def poison(
    vectors: np.ndarray, students: np.ndarray, radius: np.ndarray, noise: np.ndarray, *, overshoot: float
) -> np.ndarray:
    """(n, d) vectors v' = v + r, ||r|| <= eps, whose direction from the student, v' - s, is furthest from that of v - s.

    With D = ||v - s||, u = (v - s) / D and w a random unit vector across u: as long as eps <= D the best point is where a
    line from s touches the ball around v, with sin(t) = eps / D::

        r = -eps sin(t) u + eps cos(t) w,    angle t

    Where eps > D the ball holds s, and any point beyond it on the line reverses the direction (angle pi)::

        r = -(D + overshoot (eps - D)) u

    A student that says v itself has no direction to turn; u is then w.

    Args:
        vectors: (n, d) float64, v.
        students: (n, d) float64, s.
        radius: (n, 1), eps.
        noise: (n, d) standard normal draws that w comes from.
        overshoot: share of eps - D used beyond s, in (0, 1]; smaller changes less, larger leads further away.
    """
    toward = vectors - students
    distance = row_lengths(toward)
    u = np.where(distance > 0, _unit(toward), _unit(noise))
    across = _unit(noise - (noise * u).sum(axis=1, keepdims=True) * u)
    inside = radius > distance
    sine = np.where(inside, 1.0, radius / np.where(distance > 0, distance, 1.0))
    cosine = np.sqrt(np.maximum(1 - sine**2, 0))
    tangent = -radius * sine * u + radius * cosine * across
    beyond = -(distance + overshoot * (radius - distance)) * u
    return vectors + np.where(inside, beyond, tangent)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; zeros where there is no direction, as across the only one of a width of 1."""
    lengths = row_lengths(rows)
    return rows / np.where(lengths > 0, lengths, 1)
