"""Targets, attacks, defences and data of one spec: made on first use, kept for as long as this process works on it."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

from dosimeter.core.card import Card
from dosimeter.core.errors import CapabilityError, InputError, MissingExtra, SpecError
from dosimeter.core.method import Attack, Defense, Method
from dosimeter.core.method_spec import MethodSpec, make_method, placed, refused_settings
from dosimeter.core.places import by_line, lines_of, located
from dosimeter.core.problems import Problem
from dosimeter.core.records import Batch
from dosimeter.core.target import Target
from dosimeter.study.spec import Origin, StudySpec
from dosimeter.targets.spec import build_target

M = TypeVar("M", bound=Method)


class Materials:
    """What a spec names, as objects. Methods and targets are made once and shared; they hold no state of a run."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self._attacks: dict[int, Attack] = {}
        self._defenses: dict[int, Defense | None] = {}
        self._defended: dict[tuple[int, int], Target] = {}

    def check(self) -> None:
        """Make every attack and defence.

        Raises:
            SpecError: with all settings that a method refuses. A method that needs an extra which is not installed is
                no problem of the spec; it raises when its turn comes.
        """
        lines = lines_of(self.spec.origin.text)
        problems: list[Problem] = []
        for kind, methods, make in (
            ("attacks", self.spec.attacks, self.attack),
            ("defenses", self.spec.defenses, self.defense),
        ):
            for number, method in enumerate(methods):
                try:
                    make(number)
                except (MissingExtra, CapabilityError):
                    continue
                except InputError as error:
                    problems += placed(error, kind, number, method.slug)
        if problems:
            raise SpecError(self.spec.origin.source, by_line(located(problem, lines) for problem in problems))

    def attack(self, number: int) -> Attack:
        """The ``number``-th attack of the spec."""
        if number not in self._attacks:
            self._attacks[number] = self._make(self.spec.attacks[number], Attack)  # type: ignore[type-abstract]
        return self._attacks[number]

    def card(self, number: int) -> Card | None:
        """The card of an attack that could be made."""
        return self._attacks[number].card if number in self._attacks else None

    def defense(self, number: int) -> Defense | None:
        """The ``number``-th defence of the spec; ``None`` where that is to have none."""
        if number not in self._defenses:
            method = self.spec.defenses[number]
            none = method.slug == "none"
            self._defenses[number] = None if none else self._make(method, Defense)
        return self._defenses[number]

    def _make(self, method: MethodSpec, kind: type[M]) -> M:
        return make_method(method, kind, self.spec.origin.folder, trust=self.spec.origin.trust)

    @cached_property
    def target(self) -> Target:
        """The target without defences."""
        origin = self.spec.origin
        return build_target(self.spec.target, origin.folder, trust=origin.trust)

    def defended(self, number: int, seed: int) -> Target:
        """The target behind the ``number``-th defence, whose randomness comes from ``seed``."""
        if (number, seed) not in self._defended:
            defense = self.defense(number)
            self._defended[number, seed] = (
                self.target if defense is None else defense.wrap(self.target, seed=seed)
            )
        return self._defended[number, seed]

    @cached_property
    def public(self) -> Batch | None:
        """Inputs of ``data.public``, of the target's modality; images for a target that takes prompts about images."""
        name = self.spec.data.public
        if name is None:
            return None
        from dosimeter.data import known_names
        from dosimeter.data import load as load_data

        data = load_data(name if name in known_names() else self.spec.origin.folder / name)
        takes = "image" if self.target.modality == "prompt" else self.target.modality
        if data.modality != takes:
            raise InputError(
                f"data.public '{name}' holds {data.modality} inputs, but target '{self.target.name}' takes "
                f"{takes}."
            )
        inputs: Batch = data.inputs
        return inputs

    def close(self) -> None:
        """Give back what the targets hold."""
        for target in self._defended.values():
            target.close()


def setting_problems(value: dict[str, Any], origin: Origin) -> list[Problem]:
    """Settings that methods refuse, from a spec that is wrong elsewhere too and will not become a study."""
    kinds: tuple[tuple[str, type[Method]], ...] = (("attacks", Attack), ("defenses", Defense))
    return [
        problem
        for key, kind in kinds
        for problem in refused_settings(value.get(key), key, kind, origin.folder, trust=origin.trust)
    ]
