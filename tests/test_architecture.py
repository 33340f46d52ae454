"""The rules of the layout, checked by parsing the source: who may import whom, who may print, how big, what is said."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import dosimeter

ROOT = Path(dosimeter.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
MOST_LINES = 400
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}
FRAMEWORKS = ("torch", "transformers", "sentence_transformers", "diffusers", "jax", "tensorflow")


def name_of(path: Path) -> str:
    parts = ("dosimeter", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> set[str]:
    """Every dotted name that the module imports, at its top or inside a function, for types or in earnest."""
    name = name_of(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def modules_in(*packages: str) -> list[Path]:
    return [
        path for path in MODULES if any(inside(name_of(path), f"dosimeter.{package}") for package in packages)
    ]


def forbidden(packages: tuple[str, ...], is_forbidden) -> list[str]:
    return [
        f"{name_of(path)} imports {imported}"
        for path in modules_in(*packages)
        for imported in sorted(imports_of(path))
        if is_forbidden(imported)
    ]


def test_the_parser_sees_relative_and_nested_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "core").mkdir()
    path = tmp_path / "core" / "x.py"
    path.write_text("def f():\n    from ..study import run\n    from . import y\n    import torch.nn\n")
    assert imports_of(path) == {"dosimeter.study.run", "dosimeter.core.y", "torch.nn"}


def test_stats_imports_nothing_of_ours():
    ours = forbidden(
        ("stats",), lambda name: inside(name, "dosimeter") and not inside(name, "dosimeter.stats")
    )
    assert ours == []


def test_core_imports_no_other_package_of_ours():
    ours = forbidden(("core",), lambda name: inside(name, "dosimeter") and not inside(name, "dosimeter.core"))
    assert ours == []


@pytest.mark.parametrize("package", ["attacks", "defenses"])
def test_methods_know_nothing_of_those_who_run_and_show_them(package):
    above = ("dosimeter.report", "dosimeter.cli", "dosimeter.study")
    assert forbidden((package,), lambda name: any(inside(name, upper) for upper in above)) == []


def test_reports_are_made_from_results_not_from_attacks():
    assert forbidden(("report",), lambda name: inside(name, "dosimeter.attacks")) == []


def test_nothing_but_the_command_line_imports_the_command_line():
    rest = tuple({path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES} - {"cli"})
    assert forbidden(rest, lambda name: inside(name, "dosimeter.cli")) == []


def test_only_the_command_line_prints():
    found = []
    for path in MODULES:
        if inside(name_of(path), "dosimeter.cli"):
            continue
        found += [f"{name_of(path)} imports {name}" for name in imports_of(path) if inside(name, "rich")]
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write"):
                found.append(f"{name_of(path)}:{node.lineno} prints")
    assert found == []


@pytest.mark.parametrize(
    "module",
    [
        "dosimeter",
        *[name_of(path) for path in modules_in("core") if path.name != "__init__.py"],
        *[name_of(path) for path in modules_in("stats")],
        "dosimeter.study.spec",
        "dosimeter.report.html",
    ],
)
def test_import_brings_no_framework(module, framework_imports):
    assert framework_imports[module] == []


@pytest.fixture(scope="module")
def framework_imports() -> dict[str, list[str]]:
    """For each module that must load without a framework: the frameworks there were after importing it."""
    light = ["dosimeter", *[name_of(path) for path in modules_in("core", "stats")]]
    light += ["dosimeter.study.spec", "dosimeter.report.html"]
    code = (
        "import importlib, json, sys\n"
        "found = {}\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module(name)\n"
        f"    found[name] = [heavy for heavy in {FRAMEWORKS!r} if heavy in sys.modules]\n"
        "json.dump(found, sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(done.stdout)


def test_the_package_itself_imports_next_to_nothing():
    code = (
        "import sys; before = set(sys.modules); import dosimeter;"
        "heavy = {'numpy', 'scipy', 'pydantic', 'sqlalchemy', 'altair', 'httpx', 'rich'} & set(sys.modules) - before;"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_modules_are_small():
    sizes = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in sizes.items() if lines > MOST_LINES} == {}


def test_no_module_is_a_drawer():
    assert [
        name_of(path) for path in MODULES if DRAWERS & set(path.with_suffix("").parts[len(ROOT.parts) :])
    ] == []


def test_every_package_says_what_it_is_for():
    empty = [path for path in MODULES if path.name == "__init__.py" and not ast.get_docstring(tree_of(path))]
    assert [name_of(path) for path in empty] == []


def test_every_folder_of_modules_is_a_package():
    assert {path.parent for path in MODULES if not (path.parent / "__init__.py").exists()} == set()


SAYING_NOTHING = {"ABC", "BaseModel", "Exception", "Generic", "NamedTuple", "Protocol", "StrEnum"}


def classes() -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


def base_names(owner: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in owner.bases]


def documents(owner: ast.ClassDef, method: str) -> bool:
    return any(node.name == method and ast.get_docstring(node) for node in functions(owner.body))


def inherits_words(module: str, owner: ast.ClassDef, method: str) -> bool:
    """Whether a class above ``owner``, ours or a framework's, or a protocol of ours says what ``method`` does."""
    above = [found for name in base_names(owner) for found in CLASSES.get(name, [])]
    if any(documents(found, method) or inherits_words(module, found, method) for found in above):
        return True
    protocols = [found for same in CLASSES.values() for found in same if "Protocol" in base_names(found)]
    if any(documents(protocol, method) for protocol in protocols):
        return True
    if all(name in CLASSES or name in SAYING_NOTHING for name in base_names(owner)):
        return False
    made = getattr(importlib.import_module(module), owner.name)
    foreign = [base for base in made.__mro__ if not base.__module__.startswith("dosimeter")]
    return any(hasattr(base, method) for base in foreign)


CLASSES = classes()


def functions(body: list[ast.stmt]) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def is_restated(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    return "overload" in decorators or any(
        decorator.endswith((".setter", ".deleter")) for decorator in decorators
    )


def wordless(path: Path) -> Iterator[str]:
    """Public functions, classes and methods of a module that say nothing about themselves."""
    body = tree_of(path).body
    for node in functions(body):
        if not node.name.startswith("_") and not ast.get_docstring(node):
            yield f"{name_of(path)}.{node.name}"
    for owner in [node for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]:
        if not ast.get_docstring(owner):
            yield f"{name_of(path)}.{owner.name}"
        for node in functions(owner.body):
            if node.name.startswith("_") or ast.get_docstring(node) or is_restated(node):
                continue
            if not inherits_words(name_of(path), owner, node.name):
                yield f"{name_of(path)}.{owner.name}.{node.name}"


def test_everything_public_says_what_it_is():
    assert [missing for path in MODULES for missing in wordless(path)] == []
