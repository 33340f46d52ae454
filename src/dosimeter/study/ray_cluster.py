"""A Ray cluster for the length of a study: one started on this machine, or one that is there.

A cluster of our own listens on loopback only, asks for a token that nobody else knows, has no dashboard page, reports
nothing to anybody, and leaves neither processes nor files behind, not even if this process is killed.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dosimeter.core.errors import DosimeterError, InputError, MissingExtra
from dosimeter.study import ray_reaper

_OBJECT_STORE_BYTES = 128 * 2**20
_CONNECT_SECONDS = 5.0
# Unix sockets in it must not have longer names than the system allows.
_LONGEST_FOLDER_NAME = 40
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a cell sees the accelerators that it would see without Ray
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1",  # weights are often ignored by git, and needed all the same
}


@dataclass(frozen=True)
class Connection:
    """To a cluster.

    Attributes:
        copied: the folder of the spec was copied to its nodes.
        place: folder that is removed with the cluster; ``None`` for one that stays.
    """

    copied: bool = False
    place: Path | None = None


class ClusterError(DosimeterError):
    """The Ray cluster failed, not a cell on it."""


def import_ray() -> Any:
    """The module ``ray``, set to be quiet.

    Raises:
        MissingExtra: it is not installed.
    """
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise MissingExtra("the engine 'ray'", "ray") from error
    return ray


@contextmanager
def connected(
    address: str | None, *, cpus: int, folder: Path, leave_out: Sequence[Path]
) -> Iterator[Connection]:
    """Be connected to a cluster inside the block.

    Args:
        address: of a cluster that this machine is a node of, as ``host:port`` or ``auto``. Without it one is started
            here, unless this process is connected already, which is then used and left as it is.
        cpus: of a cluster that is started.
        folder: of the spec; copied to the nodes of a cluster that is there.
        leave_out: what is not copied, where it lies in ``folder``.

    Raises:
        InputError: the address cannot be used, or the folder is too large.
        ClusterError: the cluster cannot be started or reached.
    """
    started_by_us = address is None and "ray" not in sys.modules
    if started_by_us:
        # Read when Ray is first imported, so they stay as they are for the life of this process.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # which also means: listen on loopback only
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    ray = import_ray()
    if ray.is_initialized():
        if address is not None:
            raise InputError(
                f"this process is connected to a Ray cluster already; leave the address {address} out."
            )
        yield Connection()
        return
    with _signals_kept(), _without_warnings():
        if address is None:
            with _reaped() as (place, watch):
                _start(ray, place, cpus)
                try:
                    watch(_descendants())
                    yield Connection(place=place)
                finally:
                    ray.shutdown()
            return
        _connect(ray, address, folder, leave_out)
        try:
            yield Connection(copied=True)
        finally:
            ray.shutdown()


def _start(ray: Any, place: Path, cpus: int) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            logging_level=logging.ERROR,
            _temp_dir=str(place),
            _system_config={"enable_metrics_collection": False},
        )
    except Exception as error:
        raise ClusterError(
            f"no Ray cluster could be started on this machine: {_line(error)}. Use --engine local, or repair Ray."
        ) from error


def _connect(ray: Any, address: str, folder: Path, leave_out: Sequence[Path]) -> None:
    if "://" in address:
        raise InputError(
            f"cannot use the Ray address {address}: answers and bills are kept on this machine, so it must be a node of "
            "the cluster. Run 'ray start --address HOST:PORT' here, then give --address HOST:PORT or --address auto."
        )
    if address != "auto":
        _look_for(address)
    inside = [path.relative_to(folder).as_posix() for path in leave_out if path.is_relative_to(folder)]
    environment = {
        "working_dir": str(folder),
        "excludes": [*(f"/{name}" for name in inside if name != "."), ".git", ".venv", "__pycache__"],
    }
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            configure_logging=False,
            logging_level=logging.ERROR,
            runtime_env=environment,
        )
    except Exception as error:
        ray.shutdown()
        if "exceeds the maximum size" in str(error):
            raise InputError(
                f"the folder {folder} of the spec is copied to every node and too large for that: {_line(error)}. Put "
                "large files where every node finds them under the same absolute path."
            ) from error
        raise ClusterError(
            f"cannot connect to the Ray cluster at {address}: {_line(error)}. Check that it runs ('ray status') and that "
            "this machine is a node of it."
        ) from error


def _look_for(address: str) -> None:
    """Ray would wait for minutes where nobody answers."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise InputError(f"expected a Ray address such as 10.0.0.1:6379 or auto, but got '{address}'.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}: {error}. Start one with 'ray start --head', and make this machine a "
            "node of it."
        ) from None


@contextmanager
def _reaped() -> Iterator[tuple[Path, Any]]:
    """A folder for a cluster, and a function that is told its processes; both end with this process, however it ends."""
    base = tempfile.gettempdir()
    place = Path(
        tempfile.mkdtemp(prefix="dosimeter-ray-", dir=base if len(base) < _LONGEST_FOLDER_NAME else "/tmp")
    )
    command = [sys.executable, "-I", "-S", str(Path(ray_reaper.__file__)), str(place)]
    # In a session of its own, so that it outlives a kill of this process's whole group.
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    assert reaper.stdin is not None
    pipe = reaper.stdin

    def watch(processes: Sequence[int]) -> None:
        pipe.writelines(f"{pid}\n" for pid in processes)
        pipe.flush()

    try:
        yield place, watch
    finally:
        pipe.close()
        reaper.wait()
        shutil.rmtree(place, ignore_errors=True)


def _descendants() -> list[int]:
    """Processes below this one; none where the system has no ``/proc``."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return [pid for pid in found[1:] if not _is_reaper(pid)]


def _is_reaper(pid: int) -> bool:
    try:
        return ray_reaper.__file__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts a handler of its own for SIGTERM, and leaves it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _without_warnings() -> Iterator[None]:
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")
