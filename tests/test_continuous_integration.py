"""The GitHub Action, the GitLab component and the example project: what they say, and their shell steps in a shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from dosimeter.cli.app import app

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "ci"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HEADER, JOBS = yaml.safe_load_all((ROOT / "templates" / "dosimeter.yml").read_text(encoding="utf-8"))
STEPS = {step.get("id") or step["name"]: step for step in ACTION["runs"]["steps"]}
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
BOUNDS = {"pass": "<= 0.9", "fail": "<= 0.5", "undetermined": "<= 0.75"}
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the steps are for bash")


def references(text: str) -> set[str]:
    return set(re.findall(r"\b((?:inputs|steps)\.[\w.-]+)", " ".join(EXPRESSION.findall(text))))


def test_the_action_is_composite_and_complete():
    assert ACTION["runs"]["using"] == "composite"
    assert {"name", "description", "inputs", "outputs", "runs"} <= set(ACTION)
    for name, given in ACTION["inputs"].items():
        assert set(given) == {"description", "default"}, name
        assert isinstance(given["default"], str), f"{name}: inputs are text"
    assert {"verdict", "exit-code", "report"} <= set(ACTION["outputs"])
    for step in ACTION["runs"]["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= {"name", "id", "if", "shell", "env", "run", "uses", "with"}
        if "run" in step:
            assert step["shell"] == "bash"
            assert "${{" not in step["run"], "an input in a script could be a command"
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+(/[\w-]+)?@v\d+", step["uses"])


def test_everything_the_action_refers_to_is_there():
    named = references((ROOT / "action.yml").read_text(encoding="utf-8"))
    for reference in named:
        kind, name, *rest = reference.split(".")
        if kind == "inputs":
            assert name in ACTION["inputs"], reference
        else:
            assert f"{rest[1]}=" in STEPS[name]["run"], reference
    unused = set(ACTION["inputs"]) - {name.partition(".")[2] for name in named}
    assert unused == set()


def environment(step: dict[str, Any], values: dict[str, str]) -> dict[str, str]:
    return {
        key: EXPRESSION.sub(lambda m: values.get(m[1], ""), text) for key, text in step.get("env", {}).items()
    }


@pytest.fixture
def act(audit_folder: Path) -> Callable[..., dict[str, Any]]:
    """``act(**inputs)`` runs the shell steps of the action but the installation, as a runner would."""
    summary, output = audit_folder / "step-summary.md", audit_folder / "step-output"

    def step(name: str, values: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        output.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]],
            cwd=audit_folder,
            env={
                **os.environ,
                **environment(STEPS[name], values),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "GITHUB_STEP_SUMMARY": str(summary),
                "GITHUB_OUTPUT": str(output),
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        found = dict(line.partition("=")[::2] for line in output.read_text().splitlines())
        return done.returncode, done.stdout + done.stderr, found

    def act(**inputs: str) -> dict[str, Any]:
        defaults = {name: given["default"] for name, given in ACTION["inputs"].items()}
        values = {f"inputs.{name}": text for name, text in {**defaults, **inputs}.items()}
        summary.write_text("")
        code, log, found = step("audit", values)
        if code:
            return {"code": code, "log": log, **found}
        values |= {f"steps.audit.outputs.{name}": text for name, text in found.items()}
        compared: dict[str, str] = {}
        if values["inputs.baseline"]:
            _, more, compared = step("compare", values)
            log += more
            values |= {f"steps.compare.outputs.{name}": text for name, text in compared.items()}
        code, more, _ = step("Verdict", values)
        return {
            "code": code,
            "log": log + more,
            "summary": summary.read_text(),
            "comparison": compared.get("verdict"),
            **found,
        }

    return act


@pytest.fixture
def bound(audit_folder: Path) -> Callable[[str], None]:
    """``bound(verdict)`` writes a policy that ends so."""
    path = audit_folder / "audit.yaml"
    spec = path.read_text()

    def bound(verdict: str) -> None:
        path.write_text(f'{spec}policy: {{"label-skew.skew": "{BOUNDS[verdict]}"}}\n')

    return bound


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("undetermined", 2)])
def test_the_action_ends_as_the_audit_does(act, bound, verdict: str, code: int):
    bound(verdict)
    found = act(args="--threads 1 --home 'state folder'")
    assert (found["verdict"], found["code"]) == (verdict, code), found["log"]
    assert found["exit-code"] == str(code)
    assert found["report"] == "dosimeter-report"
    assert Path("dosimeter-report/report.sarif").exists()
    assert Path("state folder").is_dir()
    assert f"{verdict.title()}: words" in found["summary"]
    assert f"| `label-skew.skew {BOUNDS[verdict]}` | 0.75 " in found["summary"]
    assert ("::error::" in found["log"]) == (code != 0)


@pytest.mark.parametrize(
    ("audit", "comparison", "undetermined", "code", "said"),
    [
        ("0", "", "fail", 0, "The audit holds."),
        ("2", "", "warn", 0, "::warning::"),
        ("1", "", "warn", 1, "::error::"),
        ("0", "1", "fail", 1, "got worse"),
        ("2", "1", "warn", 1, "got worse"),
        ("1", "2", "warn", 1, "does not hold"),
        ("0", "2", "warn", 0, "::warning::"),
        ("0", "2", "fail", 2, "does not decide"),
        ("1", "4", "fail", 4, "could not be completed"),
        ("3", "", "warn", 3, "could not be completed"),
    ],
)
def test_the_verdict_is_the_worse_of_audit_and_comparison(audit, comparison, undetermined, code, said):
    values = {"AUDIT": audit, "COMPARISON": comparison, "UNDETERMINED": undetermined}
    command = ["bash", "-eo", "pipefail", "-c", STEPS["Verdict"]["run"]]
    done = subprocess.run(command, env={**os.environ, **values}, capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stdout


def test_wrong_input_is_on_the_page_of_the_job(act):
    found = act(spec="nowhere.yaml")
    assert (found["verdict"], found["code"]) == ("error", 4)
    assert "nowhere.yaml" in found["summary"]
    assert found["summary"].startswith("## ! Error: exit code 4")
    assert act(summary="false")["summary"] == ""
    for inputs, said in (
        ({"undetermined": "perhaps"}, "undetermined must be fail or warn"),
        ({"args": "--home 'x"}, "the quotes in args do not match"),
    ):
        found = act(**inputs)
        assert found["code"] == 4
        assert f"::error::{said}" in found["log"]


def test_text_of_an_input_is_never_a_command(act):
    act(spec="$(touch one).yaml", args="--home `touch two` ; touch three", out="x; touch four")
    assert not {"one", "two", "three", "four"} & {path.name for path in Path().iterdir()}


def test_what_got_worse_since_the_baseline_fails(act, bound, audit_folder: Path):
    bound("pass")
    np.save(audit_folder / "labels.npy", np.array([0] * 30 + [1] * 30))
    CliRunner().invoke(app, ["audit", "audit.yaml", "--out", "baseline"])
    np.save(audit_folder / "labels.npy", np.array([0] * 48 + [1] * 12))
    found = act(baseline="baseline/report.json", args="--fresh")
    assert (found["verdict"], found["comparison"], found["code"]) == ("pass", "fail", 1), found["log"]
    assert "got worse" in found["log"]
    assert "four of five" in found["summary"]


@pytest.fixture
def gitlab(tmp_path: Path) -> Callable[..., tuple[int, list[list[str]]]]:
    """``gitlab(codes, variables)`` runs the script of the component; its exit code, and what ``dosimeter`` was called with.

    In place of ``dosimeter`` stands a script that exits with ``codes`` one after the other.
    """
    stand_in = tmp_path / "bin" / "dosimeter"
    stand_in.parent.mkdir()
    stand_in.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do printf "%s\\n" "$word"; done >> calls; echo -- >> calls\n'
        'code=$(head -n 1 codes); sed -i 1d codes; exit "$code"\n'
    )
    stand_in.chmod(0o755)

    def gitlab(*codes: int, **variables: str) -> tuple[int, list[list[str]]]:
        (job,) = JOBS.values()
        inputs = {name: str(given["default"]) for name, given in HEADER["spec"]["inputs"].items()}
        given = {
            key: re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda m: inputs[m[1]], text)
            for key, text in job["variables"].items()
        }
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        (tmp_path / "calls").write_text("")
        done = subprocess.run(
            ["sh", "-e", "-c", "\n".join(job["script"])],
            cwd=tmp_path,
            env={
                **given,
                "DOSIMETER_INSTALL": "",
                **variables,
                "PATH": f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        calls = (tmp_path / "calls").read_text().split("--\n")[:-1]
        return done.returncode, [call.splitlines() for call in calls]

    return gitlab


def test_the_component_names_its_inputs_and_no_others():
    (job,) = JOBS.values()
    text = yaml.safe_dump(JOBS)
    assert set(re.findall(r"\$\[\[ inputs\.(\w+) \]\]", text)) == set(HEADER["spec"]["inputs"])
    assert all(
        set(given) <= {"description", "default", "options"} for given in HEADER["spec"]["inputs"].values()
    )
    assert "$[[" not in "\n".join(job["script"]), "an input in a script could be a command"
    assert job["artifacts"]["reports"]["junit"].endswith("report.junit.xml")
    assert job["allow_failure"]["exit_codes"] == [102]
    assert HEADER["spec"]["inputs"]["undetermined"]["options"] == ["fail", "warn"]


@pytest.mark.parametrize(
    ("codes", "variables", "code"),
    [
        ([0], {}, 0),
        ([1], {"DOSIMETER_UNDETERMINED": "warn"}, 1),
        ([2], {}, 2),
        ([2], {"DOSIMETER_UNDETERMINED": "warn"}, 102),
        ([3], {"DOSIMETER_BASELINE": "b.json"}, 3),
        ([0, 0], {"DOSIMETER_BASELINE": "b.json"}, 0),
        ([0, 1], {"DOSIMETER_BASELINE": "b.json"}, 1),
        ([2, 1], {"DOSIMETER_BASELINE": "b.json", "DOSIMETER_UNDETERMINED": "warn"}, 1),
        ([1, 2], {"DOSIMETER_BASELINE": "b.json"}, 1),
        ([0, 2], {"DOSIMETER_BASELINE": "b.json", "DOSIMETER_UNDETERMINED": "warn"}, 102),
        ([0, 4], {"DOSIMETER_BASELINE": "b.json"}, 4),
    ],
)
def test_the_component_ends_as_audit_and_comparison_do(gitlab, codes, variables, code):
    found, calls = gitlab(*codes, **variables)
    assert found == code
    assert calls[0] == ["audit", "audit.yaml", "--out", "dosimeter-report"]
    assert len(calls) == len(codes)
    if len(codes) == 2:
        report = "dosimeter-report/report.json"
        assert calls[1] == ["compare", "b.json", report, "--fail-if-worse", "--tolerance", "0"]


def test_the_component_reads_arguments_as_a_shell_does_and_runs_none(gitlab):
    found, calls = gitlab(0, DOSIMETER_ARGS="--home 'state folder' `touch x` $(touch x); touch x")
    assert found == 0
    words = ["--home", "state folder", "`touch", "x`", "$(touch", "x);", "touch", "x"]
    assert calls == [["audit", "audit.yaml", "--out", "dosimeter-report", *words]]
    assert gitlab(DOSIMETER_ARGS="--home 'x") == (4, [])


def test_the_example_s_files_use_what_there_is():
    workflow = yaml.safe_load((EXAMPLE / ".github" / "workflows" / "audit.yml").read_text(encoding="utf-8"))
    assert set(workflow) == {"name", True, "permissions", "jobs"}  # YAML reads the key 'on' as true
    for job in workflow["jobs"].values():
        assert {"runs-on", "steps"} <= set(job)
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    (audit,) = [step for step in workflow["jobs"]["audit"]["steps"] if "dosimeter@" in step.get("uses", "")]
    assert set(audit["with"]) <= set(ACTION["inputs"])
    for reference in references((EXAMPLE / ".github" / "workflows" / "audit.yml").read_text()):
        assert reference.rpartition(".")[2] in ACTION["outputs"]
    pipeline = yaml.safe_load((EXAMPLE / ".gitlab-ci.yml").read_text(encoding="utf-8"))
    assert set(pipeline["include"][0]["inputs"]) <= set(HEADER["spec"]["inputs"])
    assert (EXAMPLE / audit["with"]["spec"]).exists()


def test_the_example_passes_and_fails_on_a_public_encoder(tmp_path: Path):
    pytest.importorskip("torch")
    project = tmp_path / "ci"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__", ".dosimeter"))
    spec, test = (project / name for name in ("audit.yaml", "test_release.py"))
    assert "{hidden: 101}" in spec.read_text()
    (project / "public.yaml").write_text(spec.read_text().replace("{hidden: 101}", "{hidden: 2}"))
    (project / "test_public.py").write_text(test.read_text().replace("audit.yaml", "public.yaml"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert "PASS  release check: 1 of 1 policy checks hold." in done.stdout
    assert "encoder-inference.identified is 1, required == 0 (seed 0)" in done.stdout
