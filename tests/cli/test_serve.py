"""``dosimeter serve``: keys from the command line, what is shown at the start, and mistakes of usage."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dosimeter.cli import app
from dosimeter.targets.spec import HttpSpec

COMMAND = [sys.executable, "-c", "from dosimeter.cli import main; main()"]
SPEC = """\
name: words
target: {kind: recorded, inputs: words.txt, answers: vectors.npy, modality: text, returns: embedding}
defenses: [{feature-rounding: {decimals: 1}}]
server: {port: 0, quota: 100}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import numpy as np

    (tmp_path / "words.txt").write_text("one\ntwo\n")
    np.save(tmp_path / "vectors.npy", np.array([[0.11, 0.99], [0.5, 0.5]]))
    (tmp_path / "service.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str):
    return CliRunner().invoke(app, ["serve", "service.yaml", *args])


def test_keys_are_made_listed_and_revoked(folder: Path):
    made = run("--new-key", "alice", "--quota", "5", "--requests-per-minute", "7", "--json")
    key = json.loads(made.stdout)["key"]
    shown = run("--new-key", "bob")
    assert re.search(r"^Key +dsm-[0-9a-f]{12}-\S{43}$", shown.stdout, re.MULTILINE)
    assert "only time" in shown.stdout
    assert run("--new-key", "prometheus", "--for-metrics").exit_code == 0
    assert run("--revoke", "bob").exit_code == 0
    listed = {row["name"]: row for row in json.loads(run("--keys", "--json").stdout)}
    assert (listed["alice"]["quota"], listed["alice"]["requests_per_minute"], listed["alice"]["used"]) == (
        5,
        7,
        0,
    )
    assert listed["bob"]["revoked"] and listed["bob"]["quota"] == 100
    assert listed["prometheus"]["role"] == "metrics"
    table = run("--keys").stdout
    assert "alice" in table and key[17:] not in table
    assert all(key.encode() not in file.read_bytes() for file in folder.iterdir())


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("--new-key", "a", "--revoke", "a"), "give --new-key or --revoke, one at a time"),
        (("--quota", "5"), "belong to --new-key"),
        (("--new-key", "a b"), "a key cannot be called 'a b'"),
        (("--revoke", "a"), "no valid key is called 'a'; there is none"),
        (("--new-key", "a", "--quota", "0"), "greater than or equal to 1"),
    ],
)
def test_wrong_usage_is_said(args: tuple[str, ...], match: str):
    done = subprocess.run(
        [*COMMAND, "serve", "service.yaml", *args], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 4 and match in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_spec_is_said_with_all_its_problems(folder: Path):
    (folder / "service.yaml").write_text(
        SPEC.replace("quota: 100", "quotta: 1").replace("decimals", "decimal")
    )
    done = run()
    assert done.exit_code == 4
    assert "2 problems" in done.output and "did you mean 'quota'?" in done.output


def test_what_is_shown_at_the_start_works_as_it_stands(folder: Path):
    key = json.loads(run("--new-key", "alice", "--json").stdout)["key"]
    with subprocess.Popen([*COMMAND, "serve", "service.yaml"], stdout=subprocess.PIPE, text=True) as process:
        try:
            shown = ""
            while "returns: embedding" not in shown:
                line = process.stdout.readline()
                assert line, shown
                shown += line
            assert re.search(r"^Listens +http://127\.0\.0\.1:\d+$", shown, re.MULTILINE)
            assert "Defences  feature-rounding(decimals=1)" in shown and "100 records" in shown
            assert "Keys      alice" in shown
            target = yaml.safe_load(shown.partition("audit spec:\n")[2])["target"]
            assert HttpSpec(**target).returns == "embedding"
            curl = next(line.strip() for line in shown.splitlines() if line.strip().startswith("curl"))
            assert "a sentence" in curl
            asked = subprocess.run(
                curl.replace("a sentence", "one"),
                shell=True,
                env={**os.environ, "DOSIMETER_KEY": key},
                capture_output=True,
                text=True,
            )
            if asked.returncode != 127:
                assert json.loads(asked.stdout)["embeddings"] == [[0.1, 1.0]]
            process.send_signal(signal.SIGINT)
            assert "Stopped." in process.stdout.read()
            assert process.wait(10) == 0
        finally:
            process.kill()
