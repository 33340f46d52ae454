import logging
import re
import sys

import pytest

from dosimeter.core.errors import InputError
from dosimeter.loading.factories import call_factory, load_factory


@pytest.fixture(autouse=True)
def clean_imports():
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_file_beside_the_spec_by_path_or_by_name(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "my_models.py").write_text(
        "def load(x=1):\n    return ('models', x)\n\nclass Net:\n    @staticmethod\n    def make():\n        return 'made'\n"
    )
    (tmp_path / "sub" / "more.py").write_text(
        "import sibling_of_more\ndef load():\n    return sibling_of_more.VALUE\n"
    )
    (tmp_path / "sub" / "sibling_of_more.py").write_text("VALUE = 7\n")
    assert load_factory("my_models.py:load", tmp_path)(2) == ("models", 2)
    assert load_factory("my_models:load", tmp_path)() == ("models", 1)
    assert load_factory("my_models:Net.make", tmp_path)() == "made"
    assert load_factory("sub/more.py:load", tmp_path)() == 7
    assert load_factory(f"{tmp_path}/my_models.py:load", tmp_path / "elsewhere")() == ("models", 1)


def test_two_files_of_one_name_do_not_meet(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.py").write_text(f"def load():\n    return '{name}'\n")
    assert load_factory("model:load", tmp_path / "a")() == "a"
    assert load_factory("model:load", tmp_path / "b")() == "b"


def test_packages_and_installed_modules(tmp_path):
    (tmp_path / "pack_of_mine").mkdir()
    (tmp_path / "pack_of_mine" / "__init__.py").touch()
    (tmp_path / "pack_of_mine" / "inner.py").write_text(
        "from . import __name__ as name\ndef load():\n    return name\n"
    )
    assert load_factory("pack_of_mine.inner:load", tmp_path)() == "pack_of_mine"
    assert load_factory("math:sqrt", tmp_path)(4) == 2


def test_what_is_installed_is_not_shadowed_later(tmp_path):
    (tmp_path / "load_it.py").write_text("def load():\n    import colorsys\n    return colorsys.__file__\n")
    (tmp_path / "colorsys.py").write_text("raise SystemExit\n")
    assert str(tmp_path) not in load_factory("load_it:load", tmp_path)()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("model", "expected 'package.module:name' or 'path/to/file.py:name', but got 'model'"),
        ("model:", "but got 'model:'"),
        ("model:a b", "but got 'model:a b'"),
        ("none.py:load", r"there is no file .*none\.py"),
        (
            "no_such_module:load",
            "importing .* failed with ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("broken.py:load", r"failed with ZeroDivisionError: division by zero \(broken\.py, line 2\)"),
        ("syntax:load", "failed with SyntaxError"),
        ("leaves:load", "failed with SystemExit"),
        ("fine:none", "the module has no 'none', but load"),
        ("fine:VALUE", "to be callable, but it is a int"),
    ],
)
def test_mistakes_are_named(tmp_path, reference, message):
    (tmp_path / "broken.py").write_text("def load(): pass\n1 / 0\n")
    (tmp_path / "syntax.py").write_text("def load(:\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "fine.py").write_text("VALUE = 5\ndef load(): pass\n")
    with pytest.raises(InputError, match=message):
        load_factory(reference, tmp_path)


def test_a_failed_import_can_be_mended(tmp_path):
    (tmp_path / "model.py").write_text("1 / 0\n")
    with pytest.raises(InputError):
        load_factory("model:load", tmp_path)
    (tmp_path / "model.py").write_text("def load():\n    return 'mended'\n")
    assert load_factory("model:load", tmp_path)() == "mended"


FAILING = """import json
import helper_of_failing

def raises():
    raise ValueError("too many\\nlayers.")

def leaves():
    raise SystemExit(3)

def below():
    return helper_of_failing.deeper()

def elsewhere():
    return json.loads("{")

def silent(n):
    raise RuntimeError

def refuses():
    from dosimeter.core.errors import InputError

    raise InputError("the data is not here.")
"""


@pytest.fixture
def failing(tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    (tmp_path / "helper_of_failing.py").write_text("\ndef deeper():\n    return {}['x']\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("raises", {}, "ValueError: too many layers (failing.py, line 5)"),
        ("leaves", {}, "SystemExit: 3 (failing.py, line 8)"),
        ("below", {}, "KeyError: 'x' (helper_of_failing.py, line 3)"),
        ("elsewhere", {}, "(char 1) (failing.py, line 14)"),
        ("silent", {"n": 1}, "RuntimeError (failing.py, line 17)"),
        ("silent", {"m": 1}, "TypeError: silent() got an unexpected keyword argument 'm'"),
    ],
)
def test_what_a_factory_raises_is_one_sentence_with_its_line(failing, name, arguments, said):
    with pytest.raises(InputError) as caught:
        call_factory(f"failing.py:{name}", failing, arguments)
    assert str(caught.value).startswith(f"factory 'failing.py:{name}' failed with ")
    assert str(caught.value).endswith(f"{said}. Correct it, or its 'arguments' in the spec.")


def test_the_traceback_is_kept_for_those_who_look(failing, caplog):
    with caplog.at_level(logging.INFO, "dosimeter"), pytest.raises(InputError):
        call_factory("failing.py:raises", failing, {})
    assert caplog.text == ""
    with caplog.at_level(logging.DEBUG, "dosimeter"), pytest.raises(InputError):
        call_factory("failing.py:below", failing, {})
    assert "line 11, in below" in caplog.text
    assert "line 3, in deeper" in caplog.text


def test_what_a_factory_refuses_itself_is_said_as_it_stands(failing):
    with pytest.raises(InputError, match=re.escape("the data is not here.")) as caught:
        call_factory("failing.py:refuses", failing, {})
    assert "factory" not in str(caught.value)


def test_lines_of_an_environment_below_the_spec_are_not_the_users(tmp_path):
    installed = tmp_path / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "library_of_others.py").write_text("def load():\n    return 1 / 0\n")
    (tmp_path / "mine.py").write_text(
        f"import sys\nsys.path.append({str(installed)!r})\nimport library_of_others\n\ndef load():\n    return library_of_others.load()\n"
    )
    with pytest.raises(InputError, match=r"division by zero \(mine\.py, line 6\)"):
        call_factory("mine.py:load", tmp_path, {})
    with pytest.raises(InputError, match=r"division by zero \(library_of_others\.py, line 2\)"):
        call_factory("library_of_others:load", tmp_path, {})
