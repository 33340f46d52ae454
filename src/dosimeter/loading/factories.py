"""The user's own code by name: ``package.module:name`` or ``path/to/file.py:name``.

This runs that code, by design: the reference is the user's, like the program on a command line. Nothing else in
``loading`` runs anything.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from dosimeter.core.errors import DosimeterError, InputError
from dosimeter.loading.sources import shown

logger = logging.getLogger(__name__)


def call_factory(reference: str, folder: Path, arguments: Mapping[str, Any]) -> Any:
    """What the callable that ``reference`` names returns for the keyword ``arguments``; the rest as in :func:`load_factory`.

    Raises:
        InputError: as :func:`load_factory`, or what the callable raised, with the line of its file; the traceback is
            logged at debug level.
    """
    factory = load_factory(reference, folder)
    try:
        return factory(**arguments)
    except DosimeterError:
        raise
    except (Exception, SystemExit) as error:
        file = getattr(sys.modules.get(getattr(factory, "__module__", "")), "__file__", None)
        raise InputError(
            f"factory '{shown(reference)}' failed with {_failure(error, Path(file).parent if file else folder)}. "
            "Correct it, or its 'arguments' in the spec."
        ) from error


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
        raise InputError(
            f"importing '{shown(reference)}' failed with {_failure(error, file.resolve().parent)}. Correct the code or the name."
        ) from error
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


def _failure(error: BaseException, folder: Path) -> str:
    """Class and message of ``error``, with the deepest line of a file that lies below ``folder`` and is not installed."""
    logger.debug("code named by the spec failed", exc_info=error)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    frame = next((frame for frame in reversed(frames) if _lies_below(folder, frame.filename)), None)
    frame = frame or next(reversed(frames), None)
    place = f" ({shown(Path(frame.filename).name)}, line {frame.lineno})" if frame else ""
    said = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}{f': {shown(said)}' if said else ''}{place}"


def _lies_below(folder: Path, file: str) -> bool:
    """Whether ``file`` is in ``folder`` or deeper, but not in an environment that is kept there."""
    path = Path(file)
    return path.is_relative_to(folder) and "site-packages" not in path.relative_to(folder).parts


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
