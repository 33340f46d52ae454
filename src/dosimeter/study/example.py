"""The embedded example that ``dosimeter audit`` runs without a spec."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from dosimeter.study.spec import StudySpec, load_spec

PATH = Path(str(files("dosimeter.study").joinpath("example.yaml")))


def spec() -> StudySpec:
    """Digits read by a service on one of six encoders, all trained on the spot."""
    loaded = load_spec(PATH)
    return loaded.with_origin(
        replace(
            loaded.origin,
            source="the embedded example",
            command="dosimeter audit",
            file="dosimeter/study/example.yaml",
        )
    )
