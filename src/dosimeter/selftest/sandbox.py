"""Runs loaders on hostile files in a child process with limits, and says what really happened.

The parent hands over one file at a time, so a crash or a hang belongs to its file; the child then dies and a fresh one
takes the next. The child limits its own address space and CPU time, and looks for the canary that a payload leaves.
Run as a module it is the child: paths as JSON lines on stdin, observations as JSON lines on stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from dosimeter.core.errors import DosimeterError, MissingExtra

Outcome = Literal[
    "refused", "loaded", "ran code", "exhausted memory", "hung", "crashed", "left a traceback", "not run"
]

CANARY_FILE = "canary"
CANARY_VARIABLE = "DOSIMETER_SELFTEST_CANARY"
MOST_MEMORY_BYTES = 512 << 20
_ADDRESS_SPACE_BYTES = 1 << 30
_CPU_SECONDS = 20
_START_SECONDS = 60


@dataclass(frozen=True)
class Observation:
    """What a loader did with one file. ``memory_bytes`` is how far its resident memory rose above the level before."""

    outcome: Outcome
    detail: str = ""
    memory_bytes: int = 0
    seconds: float = 0.0


class Sandbox:
    """A child process that loads files on request; started on first use and again after every death.

    Args:
        modules: imported by the child before its limits count.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = list(modules)
        self._child: subprocess.Popen[bytes] | None = None

    def observe(self, loader: str, path: Path, *, seconds: float) -> Observation:
        """Load ``path`` with ``loader`` (a key of :data:`LOADERS`) for at most ``seconds``."""
        if self._child is not None and self._child.poll() is not None:
            self.close()
        child = self._child or self._start()
        self._child = child
        self._send(child, {"loader": loader, "path": str(path)})
        reply = self._receive(child, seconds)
        if reply is None:
            self.close()
            return Observation("hung", f"no answer after {seconds:g} s", seconds=seconds)
        if not reply:
            code = child.wait()
            self.close()
            reason = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            return Observation("crashed", f"the process died with {reason}")
        return Observation(**json.loads(reply))

    def close(self) -> None:
        """End the child, if there is one. May be called twice."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    pipe.close()
            self._child = None

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            bufsize=0,
        )
        self._send(child, {"modules": self._modules})
        if not self._receive(child, _START_SECONDS):
            child.kill()
            raise RuntimeError("the process that tries the loaders did not start")
        return child

    @staticmethod
    def _send(child: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
        assert child.stdin is not None
        child.stdin.write(json.dumps(message).encode() + b"\n")

    @staticmethod
    def _receive(child: subprocess.Popen[bytes], seconds: float) -> bytes | None:
        """One line; empty if the child died, ``None`` if it was silent for ``seconds``."""
        assert child.stdout is not None
        deadline = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            part = os.read(child.stdout.fileno(), 1 << 16)
            if not part:
                return b""
            line += part
        return line


def _load_weights(path: Path) -> object:
    from dosimeter.loading.weights import load_weights

    return load_weights(path)


def _load_trusted_weights(path: Path) -> object:
    from dosimeter.loading.weights import load_weights

    return load_weights(path, trust=True)


def _load_arrays(path: Path) -> object:
    from dosimeter.loading.arrays import load_arrays

    return load_arrays(path)


def _load_images(path: Path) -> object:
    from dosimeter.loading.images import load_images

    return load_images(path)


def _load_text(path: Path) -> object:
    from dosimeter.loading.text import load_text

    return load_text(path)


def _load_table(path: Path) -> object:
    from dosimeter.loading.tables import load_table

    return load_table(path)


def _load_yaml(path: Path) -> object:
    from dosimeter.loading.documents import load_yaml

    return load_yaml(path)


def _unpickle(path: Path) -> object:
    with path.open("rb") as file:
        return pickle.load(file)


def _fill_memory(_: Path) -> object:
    return bytearray(os.urandom(1 << 20)) * 700


def _ask_for_too_much(_: Path) -> object:
    return bytearray(8 << 30)


def _sleep(_: Path) -> NoReturn:
    while True:
        time.sleep(1)


def _abort(_: Path) -> NoReturn:
    os.abort()


def _raise(_: Path) -> NoReturn:
    raise ZeroDivisionError("not an error for users")


#: What can be tried on a file: the loaders, and the controls that do what a loader must not.
LOADERS: dict[str, Callable[[Path], object]] = {
    "weights": _load_weights,
    "arrays": _load_arrays,
    "images": _load_images,
    "text": _load_text,
    "table": _load_table,
    "yaml": _load_yaml,
    "weights with trust": _load_trusted_weights,
    "plain pickle.load": _unpickle,
    "fills memory": _fill_memory,
    "asks for too much memory": _ask_for_too_much,
    "hangs": _sleep,
    "crashes": _abort,
    "raises": _raise,
}


def observe_here(loader: str, path: Path) -> Observation:
    """Load ``path`` in this process, under its limits."""
    canary = path.parent.parent / CANARY_FILE
    os.chdir(path.parent)
    os.environ.pop(CANARY_VARIABLE, None)
    before = _restart_peak()
    started = time.monotonic()
    _limit()
    outcome, detail = _load(loader, path)
    seconds = time.monotonic() - started
    memory = max(0, _peak() - before)
    if canary.exists() or CANARY_VARIABLE in os.environ:
        outcome, detail = "ran code", f"the payload ran; then: {outcome}, {detail}"
    elif memory > MOST_MEMORY_BYTES:
        outcome, detail = "exhausted memory", f"took {memory >> 20} MiB; then: {outcome}, {detail}"
    return Observation(outcome, detail, memory, round(seconds, 3))


def _load(loader: str, path: Path) -> tuple[Outcome, str]:
    try:
        loaded = LOADERS[loader](path)
    except MissingExtra as error:
        return "not run", str(error)
    except DosimeterError as error:
        if _caused_by_memory(error):
            return "exhausted memory", str(error)
        lines = str(error).splitlines()
        if len(lines) != 1 or not lines[0].isprintable():
            return "left a traceback", f"a message that is not one printable line: {str(error)!r}"
        return "refused", lines[0]
    except MemoryError:
        return "exhausted memory", "MemoryError"
    except BaseException as error:
        return "left a traceback", f"{type(error).__name__}: {error}"
    return "loaded", type(loaded).__name__


def _caused_by_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _limit() -> None:
    """Address space and CPU time for the next file, counted from what is used now."""
    hard_memory = resource.getrlimit(resource.RLIMIT_AS)[1]
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        resource.setrlimit(
            resource.RLIMIT_AS, (pages * resource.getpagesize() + _ADDRESS_SPACE_BYTES, hard_memory)
        )
    except OSError:
        pass  # not Linux: resident memory is still measured
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    resource.setrlimit(
        resource.RLIMIT_CPU, (spent + _CPU_SECONDS, resource.getrlimit(resource.RLIMIT_CPU)[1])
    )


def _restart_peak() -> int:
    """Make the peak of resident memory count from now, where the system can; returns the level now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """The child: answers every line until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        request = json.loads(line)
        if "modules" in request:
            for module in request["modules"]:
                try:
                    importlib.import_module(module)
                except ImportError:
                    continue
            reply: dict[str, Any] = {"ready": True}
        else:
            reply = asdict(observe_here(request["loader"], Path(request["path"])))
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
