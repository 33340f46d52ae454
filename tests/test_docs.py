"""README, CONTRIBUTING and docs/: blocks run or parse, specs are valid, names, paths, tables and pages are there."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from pydantic import TypeAdapter
from typer.testing import CliRunner

import dosimeter
from dosimeter.cli import app
from dosimeter.core.registry import catalogue, load
from dosimeter.server.spec import load_service
from dosimeter.study.spec import StudySpec, load_spec
from dosimeter.targets.spec import TargetSpec

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BASE = {
    "name": "fragment",
    "target": {
        "kind": "recorded",
        "inputs": "a.txt",
        "answers": "a.npy",
        "modality": "text",
        "returns": "label",
    },
    "attacks": ["encoder-inference"],
}
MOST_IMAGE_BYTES = 250_000


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``marked`` if the line before it says ``<!-- run -->``."""

    page: Path
    line: int
    language: str
    marked: bool
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"(<!-- run -->\n)?^```(\w*)[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        line = text.count("\n", 0, match.start(3)) + 1
        yield Block(page, line, match[2], match[1] is not None, match[3])


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def written_in(language: str) -> list[Any]:
    return [pytest.param(block, id=str(block)) for block in BLOCKS if block.language == language]


def commands() -> list[tuple[Block, list[str]]]:
    """Every command of a console block; the brackets of usage lines are left out."""
    return [
        (block, shlex.split(re.sub(r"[][]", "", line.removeprefix("$ "))))
        for block in BLOCKS
        if block.language == "console"
        for line in block.text.splitlines()
    ]


def section(page: Path, start: str, end: str) -> list[list[str]]:
    """Rows of the Markdown tables between the texts ``start`` and ``end``, without headings."""
    text = page.read_text(encoding="utf-8").partition(start)[2].partition(end)[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set(row[0]) <= set("- ")]


def test_every_block_says_what_it_is():
    fences = sum(len(re.findall(r"^```", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert 2 * len(BLOCKS) == fences
    assert {block.language for block in BLOCKS} <= {"console", "yaml", "python", "toml"}


def test_commands_exist_with_their_options():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block, (program, *arguments) in commands():
        assert program in ("make", "dosimeter"), str(block)
        if program == "make":
            assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE), f"{block}: make {arguments[0]}"
            continue
        said = CliRunner().invoke(app, [*arguments, "--help"])
        assert said.exit_code == 0, f"{block}: {arguments}: {said.output}"


def test_short_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOSIMETER_HOME", raising=False)
    run = {
        tuple(arguments[1:])
        for _, arguments in commands()
        if arguments[:1] == ["dosimeter"] and arguments[1] in ("list", "show", "init", "runs")
    }
    assert {command[0] for command in run} == {"list", "show", "init", "runs"}
    for arguments in run:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, f"{arguments}: {done.output}"
    readme = next(block for block in BLOCKS if block.page.name == "README.md" and block.language == "yaml")
    (tmp_path / "my-audit" / "audit.yaml").write_text(readme.text)
    assert CliRunner().invoke(app, ["plan", "my-audit/audit.yaml"]).exit_code == 0


def test_the_spec_in_the_readme_has_ten_lines_and_the_script_five():
    readme = [block for block in BLOCKS if block.page.name == "README.md"]
    [spec] = [block.text for block in readme if block.language == "yaml"]
    [script] = [block.text for block in readme if block.language == "python"]
    assert len(spec.splitlines()) == 10
    assert len([line for line in script.splitlines() if line]) == 5


@pytest.mark.parametrize("block", written_in("yaml"))
def test_specs_are_valid(block: Block, tmp_path: Path, plugin_example: str):
    given = yaml.safe_load(block.text)
    if "server" in given:
        (tmp_path / "service.yaml").write_text(block.text)
        load_service(tmp_path / "service.yaml")
        return
    if {"jobs", "include"} & set(given):
        return  # of a CI service; tests/test_continuous_integration.py speaks of those
    assert set(given) <= set(StudySpec.model_fields)
    if "policy" in given and "attacks" not in given:
        given["attacks"] = sorted({key.partition(".")[0] for key in given["policy"]})
    path = tmp_path / "audit.yaml"
    # Aliases of a fragment must survive, so what is missing is put in front of the text rather than merged into it.
    missing = {
        key: value for key, value in {**BASE, **given}.items() if key not in yaml.safe_load(block.text)
    }
    path.write_text((yaml.safe_dump(missing) if missing else "") + block.text)
    spec = load_spec(path)
    for method in (*spec.attacks, *spec.defenses):
        if method.slug != "none":
            check_settings(method.slug, method.settings, tmp_path)


def check_settings(slug: str, settings: dict[str, Any], folder: Path) -> None:
    """Settings as the method takes them; encoders only by their keys, as their models are not there."""
    kind, rest = load(slug), dict(settings)
    assert set(rest) <= set(kind.model_fields)
    targets: TypeAdapter[Any] = TypeAdapter(TargetSpec)
    students = [rest.pop("student")] if "student" in rest else []
    for item in [*rest.pop("candidates", ()), *rest.pop("encoders", ()), *students]:
        own = {key: value for key, value in item.items() if key not in ("name", "family", "decoy")}
        targets.validate_python({"returns": "embedding", **own})
    if "candidates" in kind.model_fields:
        from dosimeter.attacks.encoder_inference.attack_sets import settings_from_spec

        settings_from_spec(rest.get("synthesis", "auto"))
    elif not {"encoders", "student"} & set(kind.model_fields):
        kind.from_spec(rest, folder)


@pytest.mark.parametrize("block", written_in("python"))
def test_python_compiles_and_what_is_marked_runs(block: Block):
    snippet = re.fullmatch(r'--8<-- "(.*)"\n', block.text)
    if snippet:
        assert (ROOT / snippet[1]).is_file()
        return
    code = compile(block.text, str(block), "exec", dont_inherit=True)
    if block.marked:
        # A module of its own, as classes in it look up their annotations there.
        module = types.ModuleType(f"docs_block_{block.line}")
        sys.modules[module.__name__] = module
        try:
            exec(code, vars(module))
        finally:
            del sys.modules[module.__name__]


def test_the_script_in_the_readme_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import numpy as np
    import torch
    from torch import nn

    def encoder(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 8))

    stand_in = types.ModuleType("my_models")
    stand_in.encoders = {f"e{seed}": encoder(seed) for seed in range(5)}
    stand_in.predict = lambda images: images.mean(axis=(1, 2)).argmax(axis=1).astype(np.int64)
    monkeypatch.setitem(sys.modules, "my_models", stand_in)
    quick = functools.partial(dosimeter.EncoderInference, objective_count=4, copies=1)
    monkeypatch.setattr(dosimeter, "EncoderInference", quick)
    [script] = [b.text for b in BLOCKS if b.page.name == "README.md" and b.language == "python"]
    exec(compile(script, "README.md", "exec", dont_inherit=True), {})
    assert "Encoder inference (PEI): " in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_and_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    places = r"`((?:docs|tests|examples|benchmarks|src|\.ci)/[^`<>*\s]*|[\w-]+\.(?:md|yml|toml|txt))`"
    own = ("my_models.py", "audit.yaml", "constraints.txt", "model-card.md")
    for name in re.findall(places, text):
        if name not in own and "/recorded/" not in name:
            assert (ROOT / name).exists(), f"{page.name} names {name}"
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in links:
        if not link.startswith("https://"):
            assert (page.parent / link.partition("#")[0]).exists(), f"{page.name} links {link}"


def test_the_pictures_are_small_and_alike():
    light, dark = (ROOT / "docs" / "images" / f"report-{scheme}.png" for scheme in ("light", "dark"))
    assert max(light.stat().st_size, dark.stat().st_size) < MOST_IMAGE_BYTES
    with Image.open(light) as first, Image.open(dark) as second:
        assert first.size == second.size
        assert first.convert("L").getpixel((5, 5)) > 200 > 60 > second.convert("L").getpixel((5, 5))


def test_the_table_of_systems_says_what_works():
    _, *rows = section(ROOT / "README.md", "[start:systems]", "[end:systems]")
    assert len(rows) == len({row[0] for row in rows}) == 28
    working = [row for row in rows if row[2] != "planned"]
    assert [row[0] for row in working] == ["Encoder inference (PEI)", "StolenEncoder and feature defences"]
    named = {slug for row in working for slug in re.findall(r"`([a-z-]+)`", row[2])}
    assert named == {entry.name for entry in catalogue() if entry.package == "dosimeter"}
    for row in working:
        slug = re.findall(r"`([\w-]+)`", row[2])[0]
        assert (ROOT / "docs" / "systems" / f"{slug}.md").is_file()


def test_the_exit_codes_are_those_of_the_commands():
    codes = [row[0] for row in section(ROOT / "README.md", "## Exit codes", "## Where")[1:]]
    assert codes == ["0", "1", "2", "3", "4", "130"]
    said = CliRunner().invoke(app, ["--help"]).output
    assert all(re.search(rf"\b{code}\b", said) for code in codes)


def test_every_setting_of_encoder_inference_is_explained():
    page = ROOT / "docs" / "systems" / "encoder-inference.md"
    rows = section(page, "## Settings", "| synthesis |")
    assert [row[0].strip("`") for row in rows[1:]] == list(load("encoder-inference").model_fields)
    kinds = {row[0].strip("`"): row[1] for row in section(page, "| synthesis |", "Auto never")}
    from dosimeter.attacks.encoder_inference import CharacterBeam, Gradient, ZerothOrder

    for kind in (CharacterBeam, Gradient, ZerothOrder):
        fields = {name for name in kind.model_fields if name != "kind"}
        assert set(re.findall(r"`([a-z_]+)`", kinds[kind.model_fields["kind"].default])) == fields


def test_every_command_and_option_of_audit_is_explained():
    page = ROOT / "docs" / "cli.md"
    text = page.read_text(encoding="utf-8")
    headings = {name for line in re.findall(r"^## (.*)$", text, re.MULTILINE) for name in line.split(", ")}
    assert headings >= {command.name for command in app.registered_commands}
    said = CliRunner().invoke(app, ["audit", "--help"]).output
    options = set(re.findall(r"^ +(--[\w-]+)", said, re.MULTILINE)) - {"--help", "--json"}
    rows = section(page, "## audit", "## plan")
    assert {row[0].strip("`").split()[0] for row in rows[1:]} == options


def test_the_site_builds_and_loads_nothing_from_outside(tmp_path: Path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = re.compile(
        r'<(?:script|img|link rel="(?:stylesheet|preconnect)")[^>]*(?:src|href)="(?:https?:)?//'
    )
    for page in tmp_path.rglob("*.html"):
        assert not loaded.search(page.read_text(encoding="utf-8")), page.name


def test_prose_is_plain_and_british():
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        text = re.sub(r"`[^`]*`|\]\([^)\s]*\)|\(https?:[^)]*\)|<[^>]*>", "", text)
        assert not re.search(r"[^\x00-\u024f\u2010-\u2027\u2200-\u22ff]", text), page.name
        assert not re.search(r"\b(defenses?|behaviors?|color|normaliz\w+|serializ\w+)\b", text), page.name
