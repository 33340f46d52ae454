"""Bad input, end to end through the command line: what a person sees, the exit code, and what is left behind.

Every row spoils something that works. Wherever it goes wrong, the person gets one line that says what is wrong and what to do,
never a traceback, and no file is left half written.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from dosimeter.attacks.encoder_inference.objectives import random_starts
from dosimeter.cli import app
from support.loopback import LoopbackService, Misbehaviour, Reply, html, rate_limited

TARGET = (
    "target: {kind: recorded, inputs: pictures.npz, answers: answers.npy, modality: image, returns: label}"
)
SPEC = f"""\
name: pictures
{TARGET}
data: {{public: objectives.npz}}
attacks:
  - encoder-inference:
      candidates:
        - &pool {{name: e0, kind: recorded, modality: image, inputs: pictures.npz, answers: e0.npy}}
        - {{<<: *pool, name: e1, answers: e1.npy}}
        - {{<<: *pool, name: e2, answers: e2.npy}}
        - {{<<: *pool, name: e3, answers: e3.npy}}
        - {{<<: *pool, name: e4, answers: e4.npy}}
        - {{<<: *pool, name: e5, answers: e5.npy}}
policy: {{"encoder-inference.identified": "== 0"}}
"""
MODELS = """\
import torch
from torch import nn

def encoder(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten())

def service(classes=3):
    return nn.Sequential(encoder(2), nn.Linear(16, classes))

def table():
    return nn.Linear(10, 2)
"""
MODEL = "target: {kind: torch, factory: 'models.py:service', weights: WEIGHTS, returns: label, grants: query}"
RESIZED = "{name: NAME, kind: torch, factory: 'models.py:encoder', arguments: {seed: SEED}, preprocessing: {size: SIZE}}"


def embed(rows: np.ndarray, seed: int) -> np.ndarray:
    """(n, d) -> (n, 4), as the ``seed``-th encoder does."""
    return rows @ np.random.default_rng(seed + 1).normal(size=(rows.shape[1], 4))


def label(rows: np.ndarray) -> np.ndarray:
    """(n, d) -> (n,) classes, as the service on encoder 2 does."""
    return (embed(rows, 2) @ np.random.default_rng(9).normal(size=(4, 6))).argmax(axis=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a service and six encoders, all recorded, whose audit names encoder 2."""
    pool = np.random.default_rng(0).integers(0, 256, (400, 8, 8, 3), dtype=np.uint8)
    pictures = np.concatenate([pool, random_starts("image", 20, seed=0, size=8)])
    rows = pictures.reshape(len(pictures), -1) / 255 - 0.5
    np.savez(tmp_path / "pictures.npz", images=pictures)
    np.savez(tmp_path / "objectives.npz", images=pool[:10])
    for number in range(6):
        np.save(tmp_path / f"e{number}.npy", embed(rows, number))
    np.save(tmp_path / "answers.npy", label(rows))
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "audit.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    for name in ("DOSIMETER_HOME", "DOSIMETER_STORE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@dataclass(frozen=True)
class Case:
    """What is spoilt in the folder, the exit codes, and what must be said: what is wrong, and what to do."""

    name: str
    spoil: Callable[[Path], object]
    says: str
    advises: str
    plan: int = 4
    audit: int = 4


def table(*cases: Case) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def edit(*changes: tuple[str, str]) -> Callable[[Path], None]:
    """Changes the text of the spec."""

    def spoil(folder: Path) -> None:
        text = (folder / "audit.yaml").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "audit.yaml").write_text(text)

    return spoil


def images(file: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.savez(folder / file, images=change(np.load(folder / file)["images"]))


def array(file: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / file, change(np.load(folder / file)))


def put(array: np.ndarray, index: Any, value: float) -> np.ndarray:
    array = array.astype(float)
    array[index] = value
    return array


def nothing(folder: Path) -> None:
    """Spoils nothing."""


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def one_line(text: str) -> str:
    """``text`` if it is one line, or the problems of a spec with a line for each."""
    head, *lines = text.rstrip("\n").split("\n")
    counted = re.search(r": (\d+) problems?$", head)
    assert len(lines) == (int(counted[1]) if counted else 0), text
    assert all(line.startswith("  - ") for line in lines)
    return text


def leaves_nothing_torn(folder: Path, audit: int) -> None:
    assert not list(folder.rglob("*.partial"))
    pages, documents = list(folder.rglob("report.html")), list(folder.rglob("report.json"))
    assert len(pages) == len(documents) == (0 if audit == 4 else 1)
    assert (folder / "dosimeter-runs").exists() is (audit != 4)
    for page, document in zip(pages, documents):
        assert page.read_text().rstrip().endswith("</html>")
        assert json.loads(document.read_text())["verdict"] in ("undetermined", "error")


def check(folder: Path, case: Case) -> None:
    """Plan and audit the folder, and hold what is said against the row."""
    case.spoil(folder)
    planned = run("plan", "audit.yaml")
    assert planned.exit_code == case.plan, planned.output
    audited = run("audit", "audit.yaml", "--json")
    document = json.loads(audited.stdout)
    assert audited.exit_code == document["exit_code"] == case.audit, audited.output
    if case.audit == 4:
        said = one_line(audited.stderr)
        assert document["error"] + "\n" == audited.stderr
    else:
        [cell] = document["cells"]
        said = cell["result"]["reason"]
        assert "\n" not in said
        assert said in document["next_step"]
        assert cell["result"]["verdict"] == {2: "undetermined", 3: "error"}[case.audit]
    for text in (said, planned.output) if case.plan == 4 else (said,):
        assert re.search(case.says, text), text
        assert re.search(case.advises, text), text
        assert len(text) < 1500
    assert "Traceback" not in planned.output + audited.output
    assert "a bug" not in said
    leaves_nothing_torn(folder, case.audit)


def test_nothing_spoilt_finds_the_encoder(folder: Path):
    assert run("plan", "audit.yaml").exit_code == 0
    result = run("audit", "audit.yaml")
    assert result.exit_code == 1
    assert "runs on 'e2'" in result.stdout


@table(
    Case("0..255 as 0..1", images("objectives.npz", np.float32), r"in 0\.\.1, but got values in 0\.\.255", "Divide by 255"),
    Case("0..255 in six", images("pictures.npz", np.float32), r"line 7: .*\(e0 and 5 more\): .*0\.\.255", "Divide by 255"),
    Case("NaN in pictures", images("objectives.npz", lambda x: put(x / 255, (0, 0), np.nan)), "they contain NaN", "Remove or repair"),
    Case("NaN embedding", array("e1.npy", lambda x: put(x, 3, np.nan)), r"\(e1\): .*4 values that are NaN", "Correct the recording"),
    Case("NaN label", array("answers.npy", lambda x: put(x, 3, np.nan)), "one whole-number label .* 1 are NaN", "Correct the recording"),
    Case("scores for labels", array("answers.npy", lambda x: np.eye(6)[x]), r"label per input, .*\(420, 6\)", "or 'returns'"),
    Case("labels for scores", edit(("returns: label", "returns: scores")), r"scores of shape \(420, d\)", "or 'returns'"),
    Case("flat embedding", array("e1.npy", lambda x: x[:, 0]), r"embedding of shape \(420, d\)", "Correct the recording"),
    Case("too few answers", array("e1.npy", lambda x: x[:-5]), "420 inputs and 415 answers", "Correct the recording"),
    Case("five channels", images("objectives.npz", lambda x: np.zeros((10, 8, 8, 5), np.uint8)), r"1 or 3 channels", r"shape \(10, 8, 8, 5\)"),
    Case("no objectives", images("objectives.npz", lambda x: x[:0]), "an empty array", "Give at least one"),
    Case("one objective", images("objectives.npz", lambda x: x[:1]), "needs 2 objective inputs, .* holds 1", "Add inputs, or lower"),
    Case("other objectives", images("objectives.npz", lambda x: 255 - x), "no answer for 10 of 10", "Export the inputs", plan=0, audit=3),
    Case("pickled array", lambda f: np.save(f / "e1.npy", np.array([{}] * 420)), "e1.npy: it holds pickled Python objects", "Save numbers"),
    Case("cut off file", lambda f: (f / "pictures.npz").write_bytes((f / "pictures.npz").read_bytes()[:5000]), "not a whole ZIP", "(?i)again|archive"),
    Case("file not there", lambda f: (f / "e1.npy").unlink(), r"line 8: .*\(e1\): there is no file", "Check the path"),
    Case("data not there", edit(("objectives.npz", "digit")), "no data set or file", "Did you mean digits"),
)  # fmt: skip
def test_data(folder: Path, case: Case):
    check(folder, case)


@table(
    Case("one class", array("answers.npy", np.zeros_like), "gives all objectives the same answer", "choose other objectives", plan=0, audit=2),
    Case("equal scores", array("answers.npy", lambda x: np.arange(len(x))), r"all 6 candidates have the same score \(0\)", "ask more", plan=0, audit=2),
    Case("four candidates", edit(("        - {<<: *pool, name: e4, answers: e4.npy}\n", ""), ("        - {<<: *pool, name: e5, answers: e5.npy}\n", "")), "given 4 candidates and needs at least 5", "set 'decoys'"),
    Case("one encoder twice", edit(("name: e5, answers: e5", "name: e5, answers: e4")), "e4 and e5 are the same encoder", "keep one"),
    Case("budget too small", edit(("policy:", "budget: {queries: 100}\npolicy:")), "may need 340 queries and 100 of 100", "Raise budget.queries by 240", plan=2, audit=2),
    Case("too little time", edit(("policy:", "budget: {seconds: 0.001}\npolicy:")), "budget of 0.001 seconds reached", "Raise budget.seconds", plan=0, audit=2),
)  # fmt: skip
def test_what_cannot_be_decided(folder: Path, case: Case):
    check(folder, case)


SEVERAL = """\
nam: x
target: {kind: recorded, inputs: a.npz, modality: imag, returns: label}
attacks:
  - encoder-inferense
  - encoder-inference: {copis: 3, candidates: [{kind: recorded}, {name: x, kind: torch}, {name: y, kind: torsh}]}
budget: {queries: many}
seed: -1
"""


@table(
    Case("several mistakes", lambda f: (f / "audit.yaml").write_text(SEVERAL), "(?s)11 problems.*line 2: target.answers: is missing.*line 7: seed", "(?s)did you mean 'name'.*candidates.2..kind .y.: 'torsh' .*'torch'.*did you mean 'copies'"),
    Case("empty", lambda f: (f / "audit.yaml").write_text(""), "it is empty", "(?i)make"),
    Case("a tab", edit(("  - encoder-inference", "\t- encoder-inference")), "line 5, column 1: .*'.t'", "indent with spaces"),
    Case("a list", lambda f: (f / "audit.yaml").write_text("- a\n"), "expected keys such as name", "dosimeter init"),
    Case("not UTF-8", lambda f: (f / "audit.yaml").write_bytes(b"name: caf\xe9\n"), "byte 0xe9 is not UTF-8", "Save it as UTF-8"),
    Case("unknown attack", edit(("encoder-inference:\n", "encoder-inferense:\n")), "no method 'encoder-inferense'", "Did you mean encoder-inference"),
    Case("policy of no attack", edit(('"encoder-inference.id', '"membership.id')), "'membership.identified' is not a metric of an attack", "one of encoder-inference"),
    Case("unknown metric", edit((".identified", ".identfied")), "no metric 'identfied'", "did you mean 'identified'", plan=0, audit=3),
)  # fmt: skip
def test_spec(folder: Path, case: Case):
    if case.name != "unknown metric":
        check(folder, case)
        return
    case.spoil(folder)  # found only in the results: the attack itself went well
    result = run("audit", "audit.yaml")
    assert result.exit_code == 3
    assert re.search(f"{case.says}; {case.advises}", result.stdout)


def weights(name: str, write: Callable[[Path], object]) -> Callable[[Path], None]:
    """The target becomes a torch module with weights from ``name``, which ``write`` writes."""

    def spoil(folder: Path) -> None:
        write(folder / name)
        edit((TARGET, MODEL.replace("WEIGHTS", name)))(folder)

    return spoil


def state(classes: int = 3) -> dict[str, torch.Tensor]:
    scope: dict[str, Any] = {}
    exec(MODELS, scope)
    return dict(scope["service"](classes).state_dict())


def pickled(path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), path)


def resized(sizes: tuple[int, ...]) -> Callable[[Path], None]:
    """Torch candidates that resize to these sides."""

    def spoil(folder: Path) -> None:
        text = (folder / "audit.yaml").read_text()
        head, _, rest = text.partition("        - &pool")
        items = [
            RESIZED.replace("NAME", f"e{n}").replace("SEED", str(n)).replace("SIZE", str(size))
            for n, size in enumerate(sizes)
        ]
        policy = rest[rest.index("policy:") :]
        (folder / "audit.yaml").write_text(head + "".join(f"        - {item}\n" for item in items) + policy)

    return spoil


def nan_service(folder: Path) -> None:
    weights("nan.safetensors", lambda p: save_file(state() | {"1.bias": torch.full((3,), torch.nan)}, p))(
        folder
    )
    resized((8,) * 5)(folder)
    edit(
        (
            "candidates:\n",
            "synthesis: {kind: gradient, canvas: 8, steps: 1}\n      copies: 1\n      candidates:\n",
        )
    )(folder)


@table(
    Case("not there", weights("w.safetensors", lambda p: None), "there is no file .*w.safetensors", "Check the path"),
    Case("a web page", weights("w.safetensors", lambda p: p.write_text("<!doctype html>")), "it is text, such as a web page", "download it again"),
    Case("a pickle renamed", weights("w.safetensors", pickled), "checkpoint under another name", "Save it with safetensors"),
    Case("cut off", weights("w.safetensors", lambda p: (save_file(state(), p), os.truncate(p, 700))), "its tensors end at byte .*, but the file has 700", "download it again"),
    Case("a pickled module", weights("w.pt", pickled), "calls for torch.nn.*, so loading it could run code", "Convert it to safetensors .* --trust"),
    Case("empty", weights("w.pt", Path.touch), "it is empty", "download it again"),
    Case("another shape", weights("w.safetensors", lambda p: save_file(state(9), p)), r"do not fit Sequential: size mismatch .*\[9, 16\]", "arguments that the weights were trained with"),
    Case("no such factory", lambda f: (weights("w.pt", nothing)(f), edit(("models.py:service", "models.py:servise"))(f)), "has no 'servise'", "but encoder, service"),
    Case("unequal resizing", resized((8, 8, 8, 8, 16)), r"unequal pre-processing \(8 pixels, bilinear: e0, .*; 16 pixels, bilinear: e4\)", "give all candidates that one"),
    Case("unknown setting", lambda f: (resized((8,) * 5)(f), edit(("size: 8}", "sise: 8}"))(f)), r"candidates\[0\].preprocessing.sise \(e0 and 4 more\): unknown key", "did you mean 'size'"),
    Case("NaN in weights", nan_service, "one whole-number label per input, .* NaN", "", plan=0, audit=3),
)  # fmt: skip
def test_weights_and_preprocessing(folder: Path, case: Case):
    check(folder, case)


SERVICE = (
    "target: {kind: http, url: URL, authorized: true, request: {texts: '{{inputs}}'}, response: answers, modality: text, "
    "returns: RETURNS, timeout_seconds: TIMEOUT, max_retries: 1}"
)


@pytest.fixture
def words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """``words(misbehave, returns)`` makes the target a JSON service about texts on loopback, and returns its URL."""
    texts = [f"word {number}" for number in range(60)]
    (folder / "pictures.txt").write_text("\n".join(texts) + "\n")
    (folder / "objectives.txt").write_text("\n".join(texts[:4]) + "\n")
    for number in range(6):
        np.save(folder / f"e{number}.npy", np.random.default_rng(number).normal(size=(60, 4)))
    edit(
        ("pictures.npz", "pictures.txt"),
        ("objectives.npz", "objectives.txt"),
        ("modality: image", "modality: text"),
    )(folder)
    monkeypatch.setattr("dosimeter.targets.http_client.FIRST_BACKOFF_SECONDS", 0.01)
    started: list[LoopbackService] = []
    target = TARGET.replace(".npz", ".txt").replace("modality: image", "modality: text")

    def start(misbehave: Misbehaviour | None, returns: str = "label") -> str:
        service = LoopbackService(
            lambda request: {"answers": [len(text) % 3 for text in request["texts"]]}, misbehave=misbehave
        ).__enter__()
        started.append(service)
        timeout = "0.2" if misbehave is HANGS else "20"
        spec = SERVICE.replace("URL", service.url).replace("RETURNS", returns).replace("TIMEOUT", timeout)
        edit((target, spec))(folder)
        return service.url

    yield start
    for service in started:
        service.__exit__()


def always(reply: Reply) -> Misbehaviour:
    return lambda number, body: reply


def answers(value: str) -> Misbehaviour:
    """Gives the JSON text ``value`` for each of the records."""

    def misbehave(number: int, body: bytes) -> Reply:
        n = len(json.loads(body)["texts"])
        return Reply(body=b'{"answers": [' + b", ".join([value.encode()] * n) + b"]}")

    return misbehave


def shrinks(number: int, body: bytes) -> Reply | None:
    return answers("[0.5, 0.5, 0]" if number == 0 else "[0.5, 0.5]")(number, body)


HANGS = always(Reply(delay_seconds=60))
SERVICES = {
    "hangs": (HANGS, "label", r"did not answer within 0\.2 s in 2 attempts", "Raise timeout_seconds, or lower"),
    "HTML for JSON": (always(html()), "label", "not JSON .*Please log in", "Check 'url' .* a login"),
    "HTML for an error": (always(html(500)), "label", "answered 500 .* in 2 attempts", "Check the service"),
    "wrong path": (always(Reply(404, b"{}")), "label", "answered 404", "Check 'url' and 'method'"),
    "no access": (always(Reply(401, b"{}")), "label", "answered 401", "Check the access: 'headers'"),
    "rate limit": (always(rate_limited()), "label", "answered 429 .* in 2 attempts", "Run again later"),
    "long rate limit": (always(rate_limited("9999")), "label", "answered 429 and asks to wait 9999 s", "Run again later"),
    "hangs up": (always(Reply(hang_up=True)), "label", "closed the connection without answering", "Check that the service runs"),
    "half a JSON": (always(Reply(body=b'{"answers": [1,')), "label", "not JSON", "Check 'url'"),
    "another key": (always(Reply(body=b'{"labels": []}')), "label", "an object with 'labels'", "Check 'response'"),
    "too few answers": (always(Reply(body=b'{"answers": [1]}')), "label", "expected 4 answers, one per record, but got 1", "Check 'response'"),
    "NaN": (answers("[NaN, 1]"), "scores", "4 of 8 are NaN or infinite", "Check 'response' and 'returns'"),
    "another dimension": (shrinks, "scores", r"shape \(3,\) as before, but got \(2,\)", "Check 'response' and 'returns'"),
    "names for labels": (answers('"cat"'), "label", "label 'cat' is a name", "List all class names under 'classes'"),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_service(folder: Path, words: Callable[..., str], name: str):
    misbehave, returns, says, advises = SERVICES[name]
    words(misbehave, returns)
    check(folder, Case(name, nothing, says, advises, plan=0, audit=3))


def test_a_service_that_makes_up_its_answers(folder: Path, words: Callable[..., str]):
    words(lambda number, body: answers(str(number % 3))(number, body))
    check(folder, Case("", nothing, "disagreed with itself on", "switch off what makes", plan=0, audit=2))


def test_a_service_that_recovers_is_waited_for(folder: Path, words: Callable[..., str]):
    words(lambda number, body: rate_limited() if number == 0 else None)
    assert run("audit", "audit.yaml").exit_code in (0, 1, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("authorized: true", "authorized: false"), "only against services that their user owns"),
        (
            ("max_retries: 1", "headers: {Key: '${NOT_SET}'}"),
            "NOT_SET, which is not set. Run: export NOT_SET=",
        ),
        (
            ("max_retries: 1", "headers: {Key: abc}"),
            "looks like a secret, .* Put it into an environment variable",
        ),
    ],
    ids=["not authorised", "secret not set", "secret in the spec"],
)
def test_a_service_that_may_not_be_asked(
    folder: Path, words: Callable[..., str], change: tuple[str, str], says: str
):
    words(None)
    check(folder, Case("", edit(change), says, ""))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--out", "audit.yaml"], "cannot write into audit.yaml: it is a file. .* --out"),
        (["--out", "audit.yaml/out"], "cannot write into audit.yaml/out: .* --out"),
        (["--out", "/proc/out"], "cannot write into /proc/out: .* --out"),
        (["--home", "audit.yaml"], "cannot write into .*audit.yaml: it is a file. .* --home"),
        (["--store", "sqlite:////proc/none/runs.sqlite"], "cannot write into /proc/none: .* --store"),
    ],
    ids=["file", "below a file", "no such place", "state", "store"],
)
def test_read_only_output(folder: Path, options: list[str], says: str):
    before = sorted(path.name for path in folder.iterdir())
    result = run("audit", "audit.yaml", *options)
    assert result.exit_code == 4
    assert re.search(says, one_line(result.stderr))
    assert sorted(path.name for path in folder.iterdir()) in (before, sorted([*before, ".dosimeter"]))


@pytest.mark.parametrize(
    ("kibibytes", "answered", "says"),
    [
        (40, False, r"the store .*store.sqlite failed: disk I/O error. Make it usable again"),
        (72, False, r"cannot write .*/home/ledgers/.*: disk I/O error. Make room there"),
        (72, True, r"cannot write .*/out/report.html: File too large. Make room there"),
    ],
    ids=["store", "bill", "report"],
)
def test_a_disk_that_is_full(folder: Path, kibibytes: int, answered: bool, says: str):
    """No file can grow beyond so many bytes; started again with room, the audit goes on to its end."""

    def audit(limit: int) -> subprocess.CompletedProcess[str]:
        code = "from dosimeter.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, "audit", "audit.yaml", "--out", "out", "--home", "home"],
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )

    if answered:
        assert audit(resource.RLIM_INFINITY).returncode == 1
    done = audit(kibibytes * 1024)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert re.search(says, done.stdout + done.stderr)
    assert not list(folder.rglob("*.partial"))
    assert run("audit", "audit.yaml", "--out", "out", "--home", "home").exit_code == 1
