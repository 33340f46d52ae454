"""A method as a spec writes it, and the method made from that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dosimeter.core.errors import CapabilityError, InputError, MissingExtra
from dosimeter.core.method import Method
from dosimeter.core.problems import Problem, SettingsError
from dosimeter.core.registry import catalogue, find, load

M = TypeVar("M", bound=Method)


class MethodSpec(BaseModel):
    """An attack or defence by slug, with its settings: ``slug``, or ``{slug: {setting: value}}``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    slug: str
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"slug": value}
        if isinstance(value, dict) and set(value) <= {"slug", "settings"} and "slug" in value:
            return value
        if isinstance(value, dict) and len(value) == 1:
            [(slug, settings)] = value.items()
            if isinstance(slug, str) and (settings is None or isinstance(settings, dict)):
                return {"slug": slug, "settings": settings or {}}
        raise ValueError("expected a slug, or one slug with its settings as in '- slug: {setting: value}'")

    @field_validator("slug")
    @classmethod
    def _exists(cls, slug: str) -> str:
        if slug != "none":
            try:
                find(slug)
            except InputError as error:
                raise ValueError(str(error)) from None
        return slug

    @property
    def label(self) -> str:
        """The slug, with the settings where there are any."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.slug}({settings})" if settings else self.slug


def make_method(method: MethodSpec, kind: type[M], folder: Path, *, trust: bool = False) -> M:
    """The method that ``method`` describes; relative paths in its settings start at ``folder``.

    Args:
        kind: base class that it must have, such as ``Attack`` or ``Defense``.
        trust: model files that can run code may be read.

    Raises:
        MissingExtra: the method needs a package that is not installed.
        SettingsError: settings that the method refuses.
        InputError: a method of another kind.
    """
    try:
        loaded = load(method.slug)
    except ModuleNotFoundError as error:
        extras = next((entry.card["extras"] for entry in catalogue() if entry.name == method.slug), ())
        if not extras:
            raise
        raise MissingExtra(f"{method.slug} (which imports {error.name})", extras[0]) from error
    if not issubclass(loaded, kind):
        raise InputError(f"'{method.slug}' is of kind {loaded.card.kind}, not {kind.__name__.lower()}.")
    return loaded.from_spec(method.settings, folder, trust=trust)


def refused_settings(
    items: Any, key: str, kind: type[Method], folder: Path, *, trust: bool = False
) -> list[Problem]:
    """What the methods in ``items``, the value of ``key`` in a spec, refuse; mistakes of shape are left to the spec."""
    problems: list[Problem] = []
    for number, item in enumerate(items if isinstance(items, list) else ()):
        try:
            method = MethodSpec.model_validate(item)
            find(method.slug)
        except (ValidationError, InputError):
            continue
        try:
            make_method(method, kind, folder, trust=trust)
        except (MissingExtra, CapabilityError):
            continue
        except InputError as error:
            problems += placed(error, key, number, method.slug)
    return problems


def placed(error: InputError, *place: str | int) -> list[Problem]:
    """What ``error`` says is wrong, seen from the whole spec."""
    if isinstance(error, SettingsError):
        return [replace(problem, place=(*place, *problem.place)) for problem in error.problems]
    return [Problem(place, str(error))]
