"""The user's own code by name: ``package.module:name`` or ``path/to/file.py:name``.

This runs that code, by design: the reference is the user's, like the program on a command line. Nothing else in
``loading`` runs anything.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from dosimeter.core.errors import DosimeterError, InputError
from dosimeter.loading.sources import shown


def load_factory(reference: str, folder: Path) -> Callable[..., Any]:
    """The callable that ``reference`` names.

    Args:
        reference: ``package.module:name`` or ``path/to/file.py:name``; ``name`` may be dotted (``Class.method``).
        folder: what paths are relative to, and where modules are looked for first; usually the folder of the spec.

    Raises:
        InputError: not such a reference, nothing of that name, code that fails when imported, or not callable.
    """
    module_name, colon, name = reference.rpartition(":")
    if not colon or not module_name or not all(part.isidentifier() for part in name.split(".")):
        raise InputError(
            f"expected 'package.module:name' or 'path/to/file.py:name', but got '{shown(reference)}'."
        )
    folder = Path(folder).resolve()
    file = folder / module_name if module_name.endswith(".py") else folder / f"{module_name}.py"
    if module_name.endswith(".py") and not file.is_file():
        raise InputError(f"there is no file {shown(file)}, which '{shown(reference)}' names. Check the path.")
    try:
        module = _module_of_file(file) if file.is_file() else _installed_module(module_name, folder)
    except DosimeterError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(_import_failure(reference, error)) from error
    return _callable(module, name, reference)


def _module_of_file(file: Path) -> ModuleType:
    """A file is a module of its own, named after its path, so that two files of one name never meet."""
    file = file.resolve()
    name = f"_dosimeter_{file.stem}_{hashlib.blake2b(str(file).encode(), digest_size=8).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{shown(file)} cannot be imported as Python. Give a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _add_to_path(file.parent)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _installed_module(name: str, folder: Path) -> ModuleType:
    _add_to_path(folder)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def _add_to_path(folder: Path) -> None:
    """At the end: what is installed is never shadowed by a file beside the spec."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _import_failure(reference: str, error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if "importlib" not in frame.filename), None)
    inside = frame is not None and Path(frame.filename).name != Path(__file__).name
    place = f" ({shown(Path(frame.filename).name)}, line {frame.lineno})" if inside and frame else ""
    reason = shown(str(error).partition("\n")[0])
    return f"importing '{shown(reference)}' failed with {type(error).__name__}: {reason}{place}. Correct the code or the name."


def _callable(module: ModuleType, name: str, reference: str) -> Callable[..., Any]:
    try:
        found = reduce(getattr, name.split("."), module)
    except AttributeError:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(
            f"'{shown(reference)}' names nothing: the module has no '{name}', but {shown(', '.join(public)) or 'nothing'}."
        ) from None
    if not callable(found):
        raise InputError(f"expected '{shown(reference)}' to be callable, but it is a {type(found).__name__}.")
    return found
