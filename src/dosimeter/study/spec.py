"""The audit spec: what to attack, how, within which budget, and what must hold.

Unknown keys are refused with the nearest valid one, and all problems are reported together with their places
(``core.places``). Does not own: making targets and methods out of it (``study.materials``).
"""

from __future__ import annotations

import operator
import re
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dosimeter.core.errors import SpecError
from dosimeter.core.method_spec import MethodSpec as MethodSpec
from dosimeter.core.places import by_line, lines_of, located
from dosimeter.core.problems import validation_problems
from dosimeter.core.records import content_hash
from dosimeter.study.identity import code_version
from dosimeter.study.outcome import Relation
from dosimeter.targets.spec import TargetSpec

_BOUND = re.compile(r"\s*(<=|>=|==|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
HOLDS: dict[Relation, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class DataSpec(_Part):
    """Data that the attacker, or the auditor, has: names of sets, or paths."""

    public: str | None = Field(None, description="inputs that anybody may have")
    members: str | None = Field(None, description="records the model was trained on")
    nonmembers: str | None = Field(
        None, description="records from the same source that it was not trained on"
    )
    groups: str | None = Field(None, description="column that says which records belong together")


class Budget(_Part):
    """Hard limits of the whole study."""

    queries: int | None = Field(None, ge=1, description="calls of the target, in records")
    seconds: float | None = Field(None, gt=0, description="wall-clock time")


class Bound(_Part):
    """One line of the policy: ``<= 0.05``."""

    relation: Relation
    value: float

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        match = _BOUND.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f'expected a relation and a number, as in "<= 0.05", but got {value!r}')
        return {"relation": match[1], "value": float(match[2])}

    def holds(self, value: float) -> bool:
        """Whether ``value`` stands in the relation to the bound."""
        return HOLDS[self.relation](value, self.value)

    def __str__(self) -> str:
        return f"{self.relation} {self.value:g}"


@dataclass(frozen=True)
class Origin:
    """Where a spec came from.

    Attributes:
        source: shown to people.
        folder: relative paths start here.
        text: the spec as written.
        command: how to run it again.
        trust: weight files that can run code may be read.
        file: the spec's file as reports name it, the same on every machine; empty if it has none.
    """

    source: str
    folder: Path
    text: str
    command: str
    trust: bool = False
    file: str = ""


class StudySpec(_Part):
    """A study: one target, every defence against every attack under every seed, and a policy over what they find."""

    name: str = Field(min_length=1, max_length=120)
    target: TargetSpec
    data: DataSpec = DataSpec()
    attacks: tuple[MethodSpec, ...]
    defenses: tuple[MethodSpec, ...] = (MethodSpec(slug="none"),)
    policy: dict[str, Bound] = Field(default_factory=dict, description="'slug.metric' -> bound")
    budget: Budget = Budget()
    seed: int | None = Field(None, ge=0)
    seeds: tuple[int, ...] | None = None

    _origin: Origin | None = PrivateAttr(None)

    @field_validator("attacks")
    @classmethod
    def _one_cell_each(cls, methods: tuple[MethodSpec, ...]) -> tuple[MethodSpec, ...]:
        if not methods:
            raise ValueError("give at least one attack")
        if any(method.slug == "none" for method in methods):
            raise ValueError("'none' is a defence, not an attack")
        twice = [slug for slug, count in Counter(method.slug for method in methods).items() if count > 1]
        if twice:
            raise ValueError(
                f"'{twice[0]}' is given twice; a study runs each attack once per defence and seed"
            )
        return methods

    @field_validator("defenses")
    @classmethod
    def _differ(cls, methods: tuple[MethodSpec, ...]) -> tuple[MethodSpec, ...]:
        if not methods:
            raise ValueError("give at least one defence, or leave the key out")
        twice = [label for label, count in Counter(method.label for method in methods).items() if count > 1]
        if twice:
            raise ValueError(f"'{twice[0]}' is given twice")
        return methods

    @field_validator("policy")
    @classmethod
    def _policy_names_attacks(cls, policy: dict[str, Bound], info: ValidationInfo) -> dict[str, Bound]:
        attacks = [method.slug for method in info.data.get("attacks", ())]
        wrong = [key for key in policy if not any(key.startswith(f"{slug}.") for slug in attacks)]
        if attacks and wrong:
            raise ValueError(
                f"'{wrong[0]}' is not a metric of an attack in this spec; write it as 'slug.metric' with one of "
                f"{', '.join(attacks)} as slug"
            )
        return policy

    @field_validator("seeds")
    @classmethod
    def _seed_or_seeds(cls, seeds: tuple[int, ...] | None, info: ValidationInfo) -> tuple[int, ...] | None:
        if seeds is not None:
            if info.data.get("seed") is not None:
                raise ValueError("give 'seed' or 'seeds', not both")
            if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
                raise ValueError("must be one or more different whole numbers from 0 on")
        return seeds

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """``seeds``, or ``seed`` alone; 0 where neither is given."""
        return self.seeds or (self.seed or 0,)

    @property
    def origin(self) -> Origin:
        """Where the spec came from; for one made in Python, itself as YAML and the current folder."""
        if self._origin is None:
            dumped = self.model_dump(mode="json", exclude_unset=True)
            self._origin = Origin(
                source="the spec made in Python",
                folder=Path.cwd(),
                text=yaml.safe_dump(dumped, sort_keys=False),
                command="dosimeter.study.run.run_study(spec)",
            )
        return self._origin

    def with_origin(self, origin: Origin) -> Self:
        """The same spec, said to come from elsewhere."""
        copy = self.model_copy()
        copy._origin = origin
        return copy

    @property
    def digest(self) -> str:
        """Identity of the study: the text with its seeds, its folder, and the code that runs it."""
        origin = self.origin
        return content_hash(origin.text, str(origin.folder), origin.trust, code_version())


def load_spec(path: Path | str, *, trust: bool = False) -> StudySpec:
    """The spec in the YAML file ``path``.

    Args:
        trust: allow weight files that can run code when they are read.

    Raises:
        SpecError: with every problem and its line.
        InputError: the file cannot be read, or is not YAML.
    """
    from dosimeter.loading.documents import load_yaml

    path = Path(path)
    value = load_yaml(path)
    text = path.read_text(encoding="utf-8-sig")
    lines = lines_of(text)
    if not isinstance(value, dict):
        raise SpecError(
            str(path), ["expected keys such as name, target and attacks; 'dosimeter init' writes an example"]
        )
    command = f"dosimeter audit {shlex.quote(str(path))}{' --trust' if trust else ''}"
    origin = Origin(str(path), path.resolve().parent, text, command, trust, _file_in_reports(path))
    try:
        return StudySpec.model_validate(value).with_origin(origin)
    except ValidationError as error:
        problems = validation_problems(error, StudySpec, value)
    from dosimeter.study.materials import setting_problems

    problems += setting_problems(value, origin)
    raise SpecError(str(path), by_line(located(problem, lines) for problem in problems)) from None


def _file_in_reports(path: Path) -> str:
    """``path`` from the root of its repository; without one from the current folder, or the name alone outside it."""
    path = path.resolve()
    root = next((folder for folder in path.parents if (folder / ".git").exists()), Path.cwd())
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
