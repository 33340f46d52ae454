"""The target part of an audit spec: what is accepted, what is refused and why, and the targets that come out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import nn

from dosimeter.core.errors import InputError, MissingExtra
from dosimeter.targets.http import HttpTarget
from dosimeter.targets.spec import HttpSpec, RecordedSpec, TargetSpec, TorchSpec, build_target
from dosimeter.targets.torch import Preprocessing, TorchTarget

HTTP: dict[str, Any] = {
    "kind": "http",
    "url": "https://service.example/v1/predict",
    "authorized": True,
    "request": {"inputs": "{{inputs}}"},
    "response": "outputs",
    "modality": "text",
    "returns": "label",
}
FACTORY = """
from torch import nn
from dosimeter.targets.torch import TorchTarget

def linear(classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))

def ready():
    return TorchTarget(linear(), name="made by hand", returns="label")

def nothing():
    return None

def broken():
    raise ValueError("no such checkpoint")
"""
TORCH_FREE = """
from dosimeter.core.target import CallableTarget

def ready():
    return CallableTarget(len, name="a callable", modality="text", returns="label")

def module():
    return object()

def lazy():
    import torch
"""


def parse(settings: dict[str, Any]) -> Any:
    return TypeAdapter(TargetSpec).validate_python(settings)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in HTTP.items() if name != key}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FACTORY)
    return tmp_path


def test_a_spec_survives_its_own_dump(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEY", "abcdef")
    spec = parse(HTTP | {"headers": {"Authorization": "Bearer ${KEY}"}, "classes": ["no", "yes"]})
    assert parse(spec.model_dump(mode="json")) == spec
    assert isinstance(build_target(spec, Path()), HttpTarget)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (
            without("authorized"),
            "authorized must be true: attacks run only against services that their user owns",
        ),
        (HTTP | {"authorized": 1}, "authorized must be true"),
        (HTTP | {"authorized": "true"}, "authorized must be true"),
        (HTTP | {"url": "ftp://x"}, "url must start with http:// or https://"),
        (HTTP | {"url": "https://"}, "name a host"),
        (HTTP | {"url": "https://host:port/"}, "url is not a valid URL"),
        (HTTP | {"url": "https://me:pass@host/"}, "url must not hold a user or password"),
        (HTTP | {"url": "https://${HOST}/"}, "only after the host"),
        (HTTP | {"headers": {"X-Api-Key": "abcdef"}}, "header 'X-Api-Key' looks like a secret"),
        (HTTP | {"request": {"inputs": "inputs"}}, "needs either"),
        (HTTP | {"request": {"x": "{{input}}"}, "batch_size": 8}, "batch_size 8 needs"),
        (HTTP | {"response": "outputs[x]"}, "is not understood"),
        (HTTP | {"concurrency": 0}, "greater than or equal to 1"),
        (HTTP | {"retries": 3}, "Extra inputs are not permitted"),
        ({"kind": "sentence-transformers"}, "give either 'model' .* or 'package'"),
        ({"kind": "sentence-transformers", "model": "a", "package": "b"}, "not both"),
        ({"kind": "pickle"}, "does not match any of the expected tags"),
    ],
)
def test_refusals_say_why(settings, match):
    with pytest.raises(ValidationError, match=match):
        parse(settings)


@pytest.mark.parametrize("wrong", [{"url": "https://me:abcdef@host/"}, {"headers": {"Cookie": "id=abcdef"}}])
def test_refusals_do_not_repeat_secrets(wrong):
    with pytest.raises(ValidationError) as raised:
        HttpSpec(**(HTTP | wrong))
    assert "abcdef" not in str(raised.value)
    assert all("abcdef" not in problem["msg"] for problem in raised.value.errors())


def test_one_record_per_request_without_a_list():
    spec = parse(HTTP | {"request": {"q": "{{input}}"}, "response": "answer"})
    assert spec.records_per_request == 1 == build_target(spec, Path()).batch_size


def test_a_factory_with_weights(folder: Path):
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    save_file(module.state_dict(), folder / "weights.safetensors")
    spec = TorchSpec(
        factory="mine.py:linear",
        arguments={"classes": 5},
        weights=Path("weights.safetensors"),
        returns="scores",
        preprocessing={"mean": [0.5], "std": [0.5]},
        grants="query",
        price_per_call=0.01,
    )
    target = build_target(spec, folder)
    expected = TorchTarget(
        module, name="x", returns="scores", preprocessing=Preprocessing(mean=(0.5,), std=(0.5,))
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(target.answer(images), expected.answer(images))
    assert (target.name, target.grants, target.price_per_call) == ("linear", "query", 0.01)
    assert target.fingerprint == expected.fingerprint


def test_a_factory_may_return_a_target(folder: Path):
    assert build_target(TorchSpec(factory="mine.py:ready", returns="label"), folder).name == "made by hand"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"factory": "mine.py:nothing"}, "should return a torch module or a Target, but returned NoneType"),
        ({"factory": "mine.py:linear", "arguments": {"depth": 2}}, "failed with TypeError: .*'depth'"),
        (
            {"factory": "mine.py:broken"},
            r"factory 'mine.py:broken' failed with ValueError: no such checkpoint \(mine.py, line 15\)",
        ),
        (
            {"factory": "mine.py:linear", "weights": "other.safetensors"},
            r"do not fit Sequential: .*size mismatch",
        ),
        (
            {"factory": "mine.py:linear", "preprocessing": {"sise": 2}},
            "preprocessing.sise: unknown key; did you mean 'size'",
        ),
    ],
)
def test_what_a_factory_gets_wrong(folder: Path, settings, match):
    save_file({"1.weight": torch.zeros(9, 48), "1.bias": torch.zeros(9)}, folder / "other.safetensors")
    with pytest.raises(InputError, match=match):
        build_target(TorchSpec(returns="label", **settings), folder)


def test_a_factory_of_a_target_needs_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "free.py").write_text(TORCH_FREE)
    (tmp_path / "bound.py").write_text(FACTORY)
    assert build_target(TorchSpec(factory="free.py:ready", returns="label"), tmp_path).name == "a callable"
    for factory in ("free.py:module", "free.py:lazy", "bound.py:linear"):
        with pytest.raises(MissingExtra, match=f"factory '{factory}' needs the extra 'torch'"):
            build_target(TorchSpec(factory=factory, returns="label"), tmp_path)


def test_secrets_of_a_service_must_be_set_before_it_is_asked(monkeypatch: pytest.MonkeyPatch):
    spec = parse(HTTP | {"name": "ours", "headers": {"Authorization": "Bearer ${NOT_THERE}"}})
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(InputError, match="'ours' needs the environment variable NOT_THERE, which is not set"):
        build_target(spec, Path())
    monkeypatch.setenv("NOT_THERE", "abcdef")
    assert build_target(spec, Path()).name == "ours"


def test_recorded_answers(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    scores = np.random.default_rng(1).random((4, 3))
    np.savez(tmp_path / "asked.npz", x=images)
    np.savez(tmp_path / "said.npz", answers=scores, seconds=np.zeros(4))
    spec = RecordedSpec(
        inputs=Path("asked.npz"),
        answers=Path("said.npz"),
        modality="image",
        returns="scores",
        price_per_call=2,
    )
    target = build_target(spec, tmp_path)
    np.testing.assert_array_equal(target.answer(images[::-1]), scores[::-1])
    assert target.price_per_call == 2 and target.name == "said"


def test_recorded_texts_and_tables(tmp_path: Path):
    (tmp_path / "asked.txt").write_text("one\ntwo\n")
    (tmp_path / "said.txt").write_text("eins\nzwei\n")
    spec = RecordedSpec(inputs=Path("asked.txt"), answers=Path("said.txt"), modality="text", returns="text")
    assert build_target(spec, tmp_path).answer(["two"]) == ["zwei"]
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n")
    np.save(tmp_path / "labels.npy", np.array([1, 0]))
    spec = RecordedSpec(
        inputs=Path("rows.csv"), answers=Path("labels.npy"), modality="table", returns="label"
    )
    assert build_target(spec, tmp_path).answer(np.array([[3.0, 4.0]])).tolist() == [0]


def test_ambiguous_recorded_answers(tmp_path: Path):
    np.savez(tmp_path / "said.npz", a=np.zeros(2), b=np.zeros(2))
    (tmp_path / "asked.txt").write_text("one\ntwo\n")
    spec = RecordedSpec(inputs=Path("asked.txt"), answers=Path("said.npz"), modality="text", returns="label")
    with pytest.raises(InputError, match="holds the arrays a, b; name the one with the answers 'answers'"):
        build_target(spec, tmp_path)


def test_importing_the_spec_imports_no_framework_and_no_client():
    check = "import sys, dosimeter.targets.spec; print([m for m in ('torch', 'httpx', 'transformers', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_http_specs_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        HttpSpec(**without("kind")).url = "https://other.example"
