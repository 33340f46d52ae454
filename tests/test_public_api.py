import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import dosimeter

STUB = Path(dosimeter.__file__).with_suffix(".pyi")
NAMES = {
    alias.asname: f"dosimeter.{node.module}"
    for node in ast.parse(STUB.read_text()).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}


def test_the_stub_and_the_package_name_the_same_things():
    assert sorted(dosimeter.__all__) == sorted(NAMES)
    assert set(dosimeter.__all__) <= set(dir(dosimeter))


def test_the_stub_only_re_exports_and_is_in_order():
    body = ast.parse(STUB.read_text()).body
    assert all(isinstance(node, ast.ImportFrom) and node.level == 1 for node in body)
    assert all(alias.name == alias.asname for node in body for alias in node.names)
    keys = [(node.module.casefold(), node.names[0].name.casefold()) for node in body]
    assert [module for module, _ in keys] == sorted(module for module, _ in keys)
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_is_there_and_is_the_one_of_its_module(name):
    found = getattr(dosimeter, name)
    assert found is getattr(importlib.import_module(NAMES[name]), name)
    assert found.__doc__


def test_what_users_need_is_public():
    assert {
        "Attack",
        "CallableTarget",
        "Candidate",
        "CharacterFlips",
        "Defense",
        "EncoderInference",
        "HttpTarget",
        "HuggingFaceTarget",
        "InputError",
        "JpegInputs",
        "Oracle",
        "RecordedTarget",
        "Result",
        "SentenceEncoderTarget",
        "TorchTarget",
        "load",
        "load_spec",
        "run_study",
    } <= set(dosimeter.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No dosimeter attribute EncoderInferense"):
        dosimeter.EncoderInferense  # noqa: B018


def test_star_names_load_one_at_a_time():
    code = (
        "import sys, dosimeter; dosimeter.Oracle; dosimeter.Result; dosimeter.CallableTarget;"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
