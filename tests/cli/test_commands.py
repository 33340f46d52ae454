"""Tests of the command line: exit codes, what goes to stdout, and what is said."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from dosimeter.cli import app
from dosimeter.study.outcome import StudyOutcome

COMMAND = [sys.executable, "-c", "from dosimeter.cli import main; main()"]


def run(*args: object):
    """The result of a command in this process."""
    return CliRunner().invoke(app, [str(arg) for arg in args])


def run_process(*args: object) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("undetermined", 2), ("error", 3)])
def test_audit_exits_with_its_verdict(trouble: Callable[..., Path], verdict: str, code: int):
    result = run("audit", trouble(f"{{verdict: {verdict}}}"), "--out", "out")
    assert result.exit_code == code
    assert verdict.upper() in result.stdout
    assert f"{Path('out').absolute()}/report.html" in result.stdout
    assert "Next" in result.stdout


def test_the_policy_decides(audit_folder: Path):
    path = audit_folder / "audit.yaml"
    text = path.read_text()
    for bound, code in (("<= 0.9", 0), ("<= 0.5", 1), ("<= 0.75", 2)):
        path.write_text(text + f'policy: {{"label-skew.skew": "{bound}"}}\n')
        result = run("audit", path)
        assert result.exit_code == code
        assert "0.75 [" in result.stdout
    path.write_text(text + 'policy: {"label-skew.squew": "<= 1"}\n')
    result = run("audit", path)
    assert result.exit_code == 3
    assert "did you mean 'skew'?" in result.stdout


def test_json_is_one_document_and_the_rest_goes_to_stderr(audit_folder: Path):
    done = run_process("audit", "audit.yaml", "--json", "--out", "out")
    document = json.loads(done.stdout)
    assert done.returncode == document.pop("exit_code") == 0
    assert document.pop("out") == str(audit_folder / "out")
    outcome = StudyOutcome.model_validate(document)
    assert outcome.cells[0].result.metric("skew").value == 0.75
    assert json.loads((audit_folder / "out" / "report.json").read_text())["verdict"] == outcome.verdict


def test_several_mistakes_at_once(audit_folder: Path):
    (audit_folder / "audit.yaml").write_text("nam: x\nattacks: [label-skew]\nbudget: {queries: -1}\n")
    for command in ("audit", "plan"):
        result = run(command, "audit.yaml")
        assert result.exit_code == 4
        for expected in (
            "4 problems",
            "line 1: nam: unknown key; did you mean 'name'?",
            "target: is missing",
            "line 3: budget.queries",
        ):
            assert expected in result.stderr
        assert result.stdout == ""
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("audit", "nothing.yaml"),
        ("audit", "--nope"),
        ("audit", "audit.yaml", "--engine", "abacus"),
        ("audit", "audit.yaml", "--jobs", "0"),
        ("audit", "audit.yaml", "--out", "audit.yaml/out"),
        ("audit", "audit.yaml", "--home", "/proc/nothing"),
        ("audit", "audit.yaml", "--store", "abacus://"),
        ("plan", "words.txt"),
        ("show", "label-squew"),
        ("list", "--kind", "abacus"),
        ("report", "20200101"),
        ("reproduce",),
        ("reproduce", "--all", "label-skew"),
        ("reproduce", "no-such-system"),
        ("selftest", "abacus"),
        ("init", "words.txt"),
        ("nonsense",),
    ],
)
def test_wrong_input_and_usage_exit_with_4_and_a_sentence(audit_folder: Path, args: tuple[str, ...]):
    result = run(*args)
    assert result.exit_code == 4
    assert result.stdout == ""
    assert 10 < len(result.stderr) < 700
    assert "Traceback" not in result.stderr
    if args[0] != "init":
        as_json = run(*args, "--json")
        assert as_json.exit_code == json.loads(as_json.stdout)["exit_code"] == 4


def test_a_damaged_picture_is_one_sentence(audit_folder: Path):
    (audit_folder / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(audit_folder / "pictures" / "whole.tiff")
    data = (audit_folder / "pictures" / "whole.tiff").read_bytes()
    samples_per_pixel = struct.pack("<HHIHH", 277, 3, 1, 3, 0)
    assert data.count(samples_per_pixel) == 1
    damaged = data.replace(samples_per_pixel, struct.pack("<HHIHH", 277, 3, 1, 60000, 0))
    (audit_folder / "pictures" / "damaged.tiff").write_bytes(damaged)
    path = audit_folder / "audit.yaml"
    path.write_text(
        path.read_text().replace("words.txt,", "pictures,").replace("modality: text", "modality: image")
    )
    for command in ("plan", "audit"):
        done = run_process(command, path)
        assert done.returncode == 4
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert "pictures/damaged.tiff is no picture in one of the formats" in done.stderr


def test_a_service_whose_secret_is_not_set_is_named(audit_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOT_THERE", raising=False)
    service = (
        "{kind: http, url: 'http://127.0.0.1:9/', authorized: true, headers: {Authorization: '${NOT_THERE}'}, "
        "request: {inputs: '{{inputs}}'}, response: outputs, modality: text, returns: RETURNS}"
    )
    path = audit_folder / "audit.yaml"
    spec = path.read_text()
    [target] = [line for line in spec.splitlines() if line.startswith("target:")]
    path.write_text(spec.replace(target, f"target: {service.replace('RETURNS', 'label')}"))
    result = run("plan", path)
    assert result.exit_code == 4
    assert (
        "needs the environment variable NOT_THERE, which is not set. Run: export NOT_THERE=" in result.stderr
    )
    candidate = service.replace("RETURNS", "embedding").replace("{kind", "{name: theirs, kind")
    path.write_text(spec.replace("[label-skew]", f"[{{encoder-inference: {{candidates: [{candidate}]}}}}]"))
    result = run("plan", path)
    assert result.exit_code == 4
    assert "candidates[0] (theirs): " in result.stderr
    assert "needs the environment variable NOT_THERE, which is not set" in result.stderr


def test_an_exception_in_the_users_factory_is_one_sentence(audit_folder: Path):
    (audit_folder / "mine.py").write_text("def load():\n    return [][7]\n")
    path = audit_folder / "audit.yaml"
    spec = path.read_text()
    [target] = [line for line in spec.splitlines() if line.startswith("target:")]
    path.write_text(spec.replace(target, "target: {kind: torch, factory: 'mine.py:load', returns: label}"))
    result = run("audit", path)
    assert result.exit_code == 4
    assert result.stderr == (
        "factory 'mine.py:load' failed with IndexError: list index out of range (mine.py, line 2). "
        "Correct it, or its 'arguments' in the spec.\n"
    )


def test_a_bug_exits_with_3_and_keeps_its_traceback(audit_folder: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr("dosimeter.study.run.run_study", broken)
    result = run("audit", "audit.yaml", "--json")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr
    assert json.loads(result.stdout) == {"error": "a bug: RuntimeError: oh", "exit_code": 3}


def test_an_interrupt_exits_with_130_and_says_how_to_go_on(trouble: Callable[..., Path]):
    path = trouble("{mode: slow}")
    process = subprocess.Popen(
        [*COMMAND, "audit", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    store = path.parent / ".dosimeter" / "ledgers"
    deadline = time.monotonic() + 30
    while not store.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert (
        error
        == "interrupted. Start the same command again to go on; what was answered and finished is kept.\n"
    )


def test_an_interrupted_audit_resumes_and_says_so(trouble: Callable[..., Path]):
    path = trouble("{mode: interrupt-once}", "seeds: [0, 1]\n")
    assert run("audit", path, "--jobs", 1).exit_code == 130
    assert "unfinished" in run("runs").stdout
    result = run("audit", path, "--jobs", 1)
    assert result.exit_code == 0
    assert "resuming run" in result.stderr
    assert "resuming" not in result.stdout


def test_plan_shows_what_would_run(audit_folder: Path):
    result = run("plan", "audit.yaml")
    assert result.exit_code == 0
    assert "label-skew" in result.stdout
    assert "at most 60 queries (no limit)" in result.stdout
    path = audit_folder / "audit.yaml"
    path.write_text(path.read_text() + "budget: {queries: 59}\n")
    result = run("plan", "audit.yaml")
    assert result.exit_code == 2
    assert "over budget" in result.stdout
    path.write_text(path.read_text() + "defenses: [none, jpeg-inputs]\n")
    document = json.loads(run("plan", "audit.yaml", "--json").stdout)
    assert [cell["status"] for cell in document["cells"]] == ["over budget", "cannot run"]
    assert document["exit_code"] == 4
    assert not (audit_folder / ".dosimeter").exists()


def test_why_and_what_next_are_said_once(audit_folder: Path, trouble: Callable[..., Path]):
    assert run("plan", "audit.yaml").stdout.splitlines()[-1] == "Next    dosimeter audit audit.yaml"
    path = trouble("{verdict: undetermined}", "seeds: [0, 1]\n")
    lines = run("audit", path).stdout.splitlines()
    assert [row[:4] for row in table_rows(lines)[:2]] == [
        ["attack", "defence", "seed", "verdict"],
        ["trouble", "none", "0", "undetermined"],
    ]
    assert [line[:8].strip() for line in lines[-4:]] == ["UNDETERM", "Cost", "Report", "Next"]
    assert sum("for a reason" in line for line in lines) == 1
    path = trouble(
        "{verdict: undetermined}", "defenses: [none, character-flips]\n"
    )  # flipped words were not recorded
    lines = run("audit", path).stdout.splitlines()
    assert "Why     trouble, seed 0: for a reason" in lines
    assert "has no answer for 2 of 2 inputs" in lines[-1]
    lines = run("audit", trouble("{mode: target}", 'policy: {"trouble.value": "<= 1"}\n')).stdout.splitlines()
    assert sum("the service is gone" in line for line in lines) == 1
    assert table_rows(lines)[0] == ["attack", "defence", "verdict", "queries", "finding"]
    over = trouble("{}", "budget: {queries: 1}\nseeds: [0, 1]\n")
    lines = run("plan", over).stdout.splitlines()
    assert [line for line in lines if line.startswith("Why")] == [
        "Why     trouble, seed 0; trouble, seed 1: budget too small: it may need 2 queries and 1 of 1 are left. "
        "Raise budget.queries by 1, or choose a smaller attack."
    ]
    assert not lines[-1].startswith("Next")


def test_looking_for_runs_makes_nothing(audit_folder: Path):
    assert run("runs", "--json").stdout == "[]\n"
    assert run("runs").stdout == (
        f"No runs yet in {audit_folder / '.dosimeter'}; 'dosimeter audit' makes one.\n"
    )
    result = run("report", "last")
    assert result.exit_code == 4
    assert result.stderr.startswith(f"there are no runs in {audit_folder / '.dosimeter'} yet;")
    assert not (audit_folder / ".dosimeter").exists()


def test_runs_are_shown_from_here(audit_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    run("audit", "audit.yaml")
    run("audit", "audit.yaml", "--out", elsewhere)
    rows = table_rows(run("runs").stdout.splitlines())
    # Runs of one second stand in any order.
    [here] = [row for row in rows[1:] if row[-1] != str(elsewhere)]
    assert len(rows) == 3 and here[-1] == f"dosimeter-runs/{here[0]}"


def test_the_version():
    assert re.fullmatch(r"dosimeter \d+\.\d+\.\d+\S*\n", run("--version").stdout)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--nope",), "No such option: --nope. Run it with --help to see its usage.\n"),
        (("selftest", "kil"), "'kil' is not one of 'kill', 'loaders'. Run it with --help"),
        (("audti",), "No such command 'audti'. Did you mean 'audit'? Run it with --help"),
    ],
)
def test_wrong_usage_is_sentences(args: tuple[str, ...], said: str):
    result = run(*args)
    assert result.exit_code == 4
    assert said in result.stderr
    assert "Value error" not in result.stderr


def test_list_and_show(audit_folder: Path):
    listed = json.loads(run("list", "--json").stdout)
    names = {entry["name"]: entry["kind"] for entry in listed}
    assert names["jpeg-inputs"] == "defense"
    assert names["label-skew/label-skew"] == "plug-in"
    assert {entry["kind"] for entry in json.loads(run("list", "--kind", "attack", "--json").stdout)} == {
        "attack"
    }
    assert "jpeg-inputs" in run("list").stdout
    for name in ("label-skew", "label-skew/label-skew"):
        result = run("show", name)
        assert result.exit_code == 0
        for expected in (
            "How much more often",
            "image or text or table inputs",
            "int | None",
            "public inputs to ask",
        ):
            assert expected in result.stdout
    card = json.loads(run("show", "jpeg-inputs", "--json").stdout)
    assert card["card"]["tags"] == ["AML.M0010"]
    assert [(tag["name"], tag["taxonomy"]["name"]) for tag in card["tags"]] == [
        ("Input Restoration", "MITRE ATLAS")
    ]
    assert "AML.M0010 Input Restoration" in run("show", "jpeg-inputs").stdout
    assert {item["name"] for item in card["hyperparameters"]} == {"quality", "resize", "order"}


def test_runs_and_report(audit_folder: Path):
    assert "No runs yet" in run("runs").stdout
    run("audit", "audit.yaml", "--out", "out")
    [record] = json.loads(run("runs", "--json").stdout)
    assert (record["name"], record["status"], record["verdict"]) == ("words", "finished", "pass")
    assert record["run"] in run("runs").stdout
    before = (audit_folder / "out" / "report.html").read_bytes()
    (audit_folder / "out" / "report.html").unlink()
    assert run("report", record["run"][:12]).exit_code == 0
    assert (audit_folder / "out" / "report.html").read_bytes() == before
    assert run("report", "last", "--out", "again").exit_code == 0
    assert (audit_folder / "again" / "report.html").read_bytes() == before


def test_the_state_folder_and_the_store_can_be_elsewhere(audit_folder: Path, monkeypatch: pytest.MonkeyPatch):
    url = f"sqlite:///{audit_folder}/team.sqlite"
    assert run("audit", "audit.yaml", "--home", "state", "--store", url).exit_code == 0
    assert not (audit_folder / ".dosimeter").exists()
    assert not (audit_folder / "state" / "store.sqlite").exists()
    monkeypatch.setenv("DOSIMETER_STORE", url)
    assert len(json.loads(run("runs", "--json").stdout)) == 1
    monkeypatch.setenv("DOSIMETER_HOME", "elsewhere")
    assert run("audit", "audit.yaml").exit_code == 0
    assert (audit_folder / "elsewhere" / "answers.sqlite").exists()


def test_init_writes_a_spec_that_plans_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    result = run("init", "mine")
    assert result.exit_code == 0
    assert "dosimeter plan mine/audit.yaml" in result.stdout
    planned = run("plan", "mine/audit.yaml", "--json")
    assert planned.exit_code == 0, planned.stderr
    assert [cell["status"] for cell in json.loads(planned.stdout)["cells"]] == ["run"]
    (tmp_path / "mine" / "my_models.py").unlink()
    again = run("init", "mine")
    assert again.exit_code == 4
    assert "is there already" in again.stderr
    assert not (tmp_path / "mine" / "my_models.py").exists()


def table_rows(lines: list[str]) -> list[list[str]]:
    """Cells of the tables among ``lines``, heads included."""
    rows = [re.split("[┃│]", line)[1:-1] for line in lines if line[:1] in ("┃", "│")]
    return [[cell.strip() for cell in row] for row in rows]


REPRODUCTION = """
from dosimeter.core.claim import Claim, Reproduction
from dosimeter.core.progress import track

SLUG = "{slug}"


def run(size, seed, out):
    for number in range(50):
        with track(f"task {{number}}", 100) as bar:
            for _ in range(100):
                bar.advance()
    claims = [Claim(name="a", statement="a is large", value={value}, relation=">=", bound=0.5, low=0.1, high=0.9, open={open})]
    claims += [Claim(name="c", statement="c is nothing", value=0.0, relation="<=", bound=0.1, control=True)]
    return Reproduction(slug=SLUG, size=size, seed=seed, seconds=1.0, claims=claims)
"""


@pytest.fixture
def reproductions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three reproductions - one that holds, one that is open, one that fails - and a module that is none."""
    from dosimeter import reproductions

    for slug, value, reason in (
        ("it-holds", 0.7, None),
        ("is-open", 0.2, "the paper's data is gone"),
        ("it-fails", 0.2, None),
    ):
        name = slug.replace("-", "_")
        (tmp_path / f"{name}.py").write_text(REPRODUCTION.format(slug=slug, value=value, open=repr(reason)))
        monkeypatch.delitem(sys.modules, f"dosimeter.reproductions.{name}", raising=False)
    (tmp_path / "parts.py").write_text("")
    monkeypatch.setattr(reproductions, "__path__", [str(tmp_path)])


@pytest.mark.usefixtures("reproductions")
def test_reproduce(tmp_path: Path):
    result = run("reproduce", "it-holds", "--out", tmp_path / "out")
    assert result.exit_code == 0
    title, *lines = result.stdout.splitlines()
    assert title.strip() == "it-holds, quick, seed 0, 1 s"
    assert table_rows(lines) == [
        ["claim", "holds", "measured", "bound", "kind", "statement"],
        ["a", "yes", "0.7 [0.1, 0.9]", ">= 0.5", "relation", "a is large"],
        ["c", "yes", "0", "<= 0.1", "control", "c is nothing"],
    ]
    assert lines[-1] == "2 of 2 claims hold."
    written = json.loads((tmp_path / "out" / "it-holds" / "claims.json").read_text())
    assert written == json.loads(run("reproduce", "it-holds", "--json").stdout)
    assert [claim["name"] for claim in written["claims"]] == ["a", "c"]


class SlowClock:
    """Stands in for ``time``: a hundredth of a second passes whenever one looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now


@pytest.mark.usefixtures("reproductions")
@pytest.mark.parametrize("command", ["audit", "plan", "reproduce"])
def test_without_a_terminal_progress_does_not_flood_the_log(
    trouble: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, command: str
):
    clock = SlowClock()
    monkeypatch.setattr("dosimeter.cli.display.time", clock)
    subject = "it-holds" if command == "reproduce" else trouble("{mode: busy}")
    result = run(command, subject, *(["--jobs", "1"] if command == "audit" else []))
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert clock.now > 50
    assert clock.now / 10 - 2 <= len(lines) <= clock.now / 10
    for line in lines:
        assert re.fullmatch(r"task \d+: \d+ of 100", line)


@pytest.mark.usefixtures("reproductions")
def test_open_and_failing_claims_are_told_apart():
    result = run("reproduce", "is-open")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [row[1] for row in table_rows(lines)[1:]] == ["open", "yes"]
    assert lines[-2:] == ["Open    a: the paper's data is gone", "1 of 2 claims hold."]
    failing = run("reproduce", "it-fails", "it-holds")
    assert failing.exit_code == 1
    lines = failing.stdout.splitlines()
    assert [row[1] for row in table_rows(lines)] == ["holds", "NO", "yes", "holds", "yes", "yes"]
    assert [line for line in lines if "claims hold" in line] == ["1 of 2 claims hold.", "2 of 2 claims hold."]
    assert "Open" not in failing.stdout


@pytest.mark.usefixtures("reproductions")
def test_reproductions_as_json_one_or_all(tmp_path: Path):
    failing = run("reproduce", "it-fails", "--seed", "3", "--json", "--out", tmp_path / "out")
    document = json.loads(failing.stdout)
    assert failing.exit_code == 1
    assert (document["slug"], document["seed"], document["size"]) == ("it-fails", 3, "quick")
    assert [claim["holds"] for claim in document["claims"]] == [False, True]
    assert json.loads((tmp_path / "out" / "it-fails" / "claims.json").read_text()) == document
    everything = run("reproduce", "--all", "--size", "full", "--json")
    assert everything.exit_code == 1
    assert [item["slug"] for item in json.loads(everything.stdout)] == ["is-open", "it-fails", "it-holds"]
    unknown = run("reproduce", "it-hold")
    assert unknown.exit_code == 4
    assert "Did you mean it-holds?" in unknown.stderr


def test_help_and_bare_command():
    result = run("--help")
    assert result.exit_code == 0
    assert run("-h").stdout == result.stdout
    for command in ("audit", "plan", "reproduce", "list", "show", "init", "runs", "report", "selftest"):
        assert f"  {command} " in result.stdout
        helped = run(command, "--help")
        assert helped.exit_code == 0
        assert "Usage:" in helped.stdout
    assert "Exit codes: 0 pass" in result.stdout
    assert run().exit_code == 4


def test_listing_imports_nothing_heavy():
    code = (
        "import sys\nfrom dosimeter.cli import app\ntry:\n    app(['list'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'sqlalchemy', 'altair', 'httpx', 'transformers', 'jinja2'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
