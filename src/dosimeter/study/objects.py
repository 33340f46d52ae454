"""A study of Python objects: a target and methods that are there, instead of a spec that says how to make them.

It runs in this process, with the same plan, budget, bill and reports as one from a file. A spec that describes the objects
is made for the reports; it cannot be run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dosimeter.core.errors import InputError, SpecError
from dosimeter.core.method import Attack, Defense, Method
from dosimeter.core.method_spec import MethodSpec
from dosimeter.core.problems import validation_problems
from dosimeter.core.records import Batch, check_batch
from dosimeter.core.target import Target
from dosimeter.study.materials import Materials
from dosimeter.study.outcome import StudyOutcome
from dosimeter.study.run import run_study
from dosimeter.study.spec import Origin, StudySpec


def run_objects(
    target: Target,
    attacks: Sequence[Attack],
    *,
    defenses: Sequence[Defense | None] = (None,),
    public: Batch | None = None,
    policy: Mapping[str, str] | None = None,
    budget: Mapping[str, float] | None = None,
    seeds: Sequence[int] = (0,),
    name: str | None = None,
    **options: Any,
) -> StudyOutcome:
    """Run every attack against ``target`` behind every defence under every seed, and write the reports.

    Args:
        defenses: ``None`` stands for the target as it is.
        public: inputs that the attacker may use.
        policy: as in a spec, ``{"slug.metric": "<= 0.05"}``.
        budget: as in a spec, ``queries`` and ``seconds``.
        name: of the study; the target's if not given.
        options: ``out``, ``home``, ``store`` and ``threads`` of :func:`run_study`.

    Raises:
        InputError: something is not what it should be.
        SpecError: the policy, the budget or the seeds are not valid.
    """
    _check_kind(Target, [target])
    _check_kind(Attack, attacks)
    _check_kind(Defense, [defense for defense in defenses if defense is not None])
    spec = _described(target, attacks, defenses, policy, budget, seeds, name)
    given = public if public is None else check_batch(_modality(target), public, what="public")
    return run_study(
        spec, fresh=True, jobs=1, materials=_Given(spec, target, attacks, defenses, given), **options
    )


def _check_kind(kind: type, items: Sequence[object]) -> None:
    for item in items:
        if not isinstance(item, kind):
            article = "an" if kind is Attack else "a"
            raise InputError(
                f"expected {article} {kind.__name__} of Dosimeter, but got an object of type {type(item).__name__}."
            )


def _modality(target: Target) -> Any:
    return "image" if target.modality == "prompt" else target.modality


class _Given(Materials):
    """Materials that were made by somebody else, who also closes them."""

    def __init__(
        self,
        spec: StudySpec,
        target: Target,
        attacks: Sequence[Attack],
        defenses: Sequence[Defense | None],
        public: Batch | None,
    ) -> None:
        super().__init__(spec)
        self._attacks = dict(enumerate(attacks))
        self._defenses = dict(enumerate(defenses))
        self.__dict__ |= {"target": target, "public": public}

    def close(self) -> None:
        return


class _ObjectSpec(StudySpec):
    """A spec whose target is an object, and whose methods need not be installed."""

    target: Any


def _described(
    target: Target,
    attacks: Sequence[Attack],
    defenses: Sequence[Defense | None],
    policy: Mapping[str, str] | None,
    budget: Mapping[str, float] | None,
    seeds: Sequence[int],
    name: str | None,
) -> StudySpec:
    value = {
        "name": (name or target.name)[:120],
        "target": {"kind": "python", "name": target.name, "fingerprint": target.fingerprint},
        "attacks": [_method(attack) for attack in attacks],
        "defenses": [_method(defense) if defense else MethodSpec(slug="none") for defense in defenses],
        "policy": dict(policy or {}),
        "budget": dict(budget or {}),
        "seeds": list(seeds),
    }
    try:
        spec = _ObjectSpec.model_validate(value)
    except ValidationError as error:
        problems = validation_problems(error, _ObjectSpec, value)
        raise SpecError("the study of Python objects", list(map(str, problems))) from None
    text = "# Made of Python objects: it says what was run and cannot be run itself.\n" + yaml.safe_dump(
        {
            **value,
            "attacks": [{m.slug: m.settings} if m.settings else m.slug for m in spec.attacks],
            "defenses": [{m.slug: m.settings} if m.settings else m.slug for m in spec.defenses],
        },
        sort_keys=False,
        allow_unicode=True,
    )
    return spec.with_origin(
        Origin(
            source="the study of Python objects",
            folder=Path.cwd(),
            text=text,
            command="dosimeter.study.objects.run_objects(...)",
        )
    )


def _method(method: Method) -> MethodSpec:
    """The method as a spec would write it; its slug need not be registered."""
    settings = {
        key: value for key, value in method.hyperparameters().items() if key in method.model_fields_set
    }
    return MethodSpec.model_construct(slug=method.card.slug, settings=settings)
