"""The spec of a service: what is refused, with which words and on which line, and what it makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from dosimeter.core.errors import InputError, SpecError
from dosimeter.server.spec import ServerSettings, build_service, load_service

MODELS = """\
import torch
from torch import nn

def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 6))
"""
SPEC = """\
name: digits
target: {kind: torch, factory: "models.py:encoder", returns: embedding}
defenses:
  - feature-rounding: {decimals: 1}
  - feature-top-k: {k: 3}
seed: 3
server: {port: 0, quota: 7}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "service.yaml").write_text(SPEC)
    return tmp_path


def load(folder: Path, old: str = "", new: str = ""):
    path = folder / "service.yaml"
    assert old in SPEC
    path.write_text(SPEC.replace(old, new) if old else SPEC)
    return load_service(path)


def test_defaults_are_safe():
    settings = ServerSettings()
    assert settings.host == "127.0.0.1" and settings.is_local
    assert settings.quota == 10_000 and settings.requests_per_minute == 600
    assert not settings.open_metrics and not settings.docs
    assert not ServerSettings(host="0.0.0.0").is_local


def test_all_defenses_are_applied_in_order(folder: Path):
    target = build_service(load(folder))
    assert target.name == "encoder + feature-rounding + feature-top-k"
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    answers = target.answer(images)
    assert (np.count_nonzero(answers, axis=1) <= 3).all()
    bare = load(folder, "defenses:\n  - feature-rounding: {decimals: 1}\n  - feature-top-k: {k: 3}\n", "")
    plain = build_service(bare).answer(images)
    assert np.count_nonzero(plain) == plain.size


def test_files_lie_beside_the_spec(folder: Path):
    spec = load(folder)
    assert spec.keys_file == folder / "service.keys.sqlite"
    assert spec.audit_file == folder / "service.audit.jsonl"
    spec = load(folder, "quota: 7", "quota: 7, keys: k/keys, audit_log: /elsewhere/log")
    assert spec.keys_file == folder / "k" / "keys"
    assert spec.audit_file == Path("/elsewhere/log")


def test_all_problems_are_said_with_their_lines(folder: Path):
    text = SPEC.replace("seed: 3", "sed: 3").replace("port: 0, quota: 7", "prt: 0, quota: 0")
    text = text.replace("decimals: 1", "decimal: 1").replace("kind: torch", "kind: torc")
    (folder / "service.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        load_service(folder / "service.yaml")
    assert [problem.partition("; known")[0] for problem in caught.value.problems] == [
        "line 2: target.kind: 'torc' is not known; did you mean 'torch'?",
        "line 4: defenses[0].feature-rounding.decimal: unknown key; did you mean 'decimals'?",
        "line 6: sed: unknown key; did you mean 'seed'?",
        "line 7: server.quota: should be greater than or equal to 1",
        "line 7: server.prt: unknown key; did you mean 'port'?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("{k: 3}", "{k: 3}\n  - feature-top-k: {k: 3}", r"'feature-top-k\(k=3\)' is given twice"),
        ("feature-top-k: {k: 3}", "encoder-inference", r"is of kind attack, not defense"),
        ("feature-top-k: {k: 3}", "character-flips", r"line 5: defenses\[1\]: character-flips cannot run"),
        ("port: 0", "port: 70000", "less than or equal to 65535"),
        ("port: 0", "tls_key: a.pem", "give both tls_certificate and tls_key"),
        ("name: digits", "name: ''", "line 1: name: .*at least 1"),
    ],
)
def test_what_cannot_be_served_is_said(folder: Path, old: str, new: str, match: str):
    with pytest.raises(SpecError, match=match):
        build_service(load(folder, old, new))


def test_a_target_that_no_service_takes_is_said(folder: Path):
    target = {
        "kind": "http",
        "url": "http://127.0.0.1:1/",
        "authorized": True,
        "request": {"q": "{{text}}"},
        "response": "a",
        "modality": "prompt",
        "returns": "text",
    }
    (folder / "service.yaml").write_text(yaml.safe_dump({"name": "x", "target": target}))
    with pytest.raises(
        SpecError, match=r"line 2: target: a service takes image, text, table inputs .* takes prompt"
    ):
        build_service(load_service(folder / "service.yaml"))


def test_a_list_is_no_spec(folder: Path):
    (folder / "service.yaml").write_text("[1]")
    with pytest.raises(SpecError, match="expected keys such as name, target"):
        load_service(folder / "service.yaml")
    with pytest.raises(InputError, match="there is no file"):
        load_service(folder / "nothing.yaml")
