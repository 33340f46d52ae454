"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tests that import from support

PLUGIN_EXAMPLE = Path(__file__).parent / "plugin_example"
WORDS = [f"word-{number}" for number in range(60)]
LABELS = [0] * 45 + [1] * 10 + [2] * 5

SPEC = """\
name: words
target: {kind: recorded, inputs: words.txt, answers: labels.npy, modality: text, returns: label}
data: {public: words.txt}
attacks: [label-skew]
"""


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make a package with methods importable, as pip would: ``install(name, {slug: "module:Class"}, source folder)``."""

    def install(name: str, points: dict[str, str], source: Path) -> None:
        folder = tmp_path_factory.mktemp("installed")
        metadata = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        lines = [f"{slug} = {reference}" for slug, reference in points.items()]
        (metadata / "entry_points.txt").write_text("[dosimeter.methods]\n" + "\n".join(lines) + "\n")
        for path in (source, folder):
            monkeypatch.syspath_prepend(str(path))
        before = os.environ.get("PYTHONPATH")
        added = [str(folder), str(source), *([before] if before else [])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(added))
        for reference in points.values():
            monkeypatch.delitem(sys.modules, reference.partition(":")[0], raising=False)

    return install


@pytest.fixture
def plugin_example(install: Callable[..., None]) -> str:
    """The example plug-in, installed; its name."""
    project = tomllib.loads((PLUGIN_EXAMPLE / "pyproject.toml").read_text())["project"]
    install(project["name"], project["entry-points"]["dosimeter.methods"], PLUGIN_EXAMPLE / "src")
    return str(project["name"])


@pytest.fixture
def audit_folder(plugin_example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an ``audit.yaml`` of the example plug-in on recorded answers."""
    (tmp_path / "words.txt").write_text("\n".join(WORDS) + "\n")
    np.save(tmp_path / "labels.npy", np.array(LABELS))
    (tmp_path / "audit.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    for name in ("DOSIMETER_HOME", "DOSIMETER_STORE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def trouble(install: Callable[..., None], audit_folder: Path) -> Callable[..., Path]:
    """``trouble(settings, more)`` writes a spec that runs the attack ``trouble`` on the recorded words; its path."""
    install("trouble", {"trouble": "trouble:Trouble"}, Path(__file__).parent / "support")

    def write(settings: str = "{}", more: str = "", name: str = "trouble.yaml") -> Path:
        path = audit_folder / name
        path.write_text(SPEC.replace("[label-skew]", f"[{{trouble: {settings}}}]") + more)
        return path

    return write
