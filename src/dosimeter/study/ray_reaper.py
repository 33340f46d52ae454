"""Ends what a killed driver of a local Ray cluster leaves behind; runs on its own, with nothing but the standard library.

Ray's own processes follow a killed driver by themselves, except two agents that wait for a minute, and workers that were
starting at that moment. This program waits until its standard input closes, which says that the driver is gone or done. Then
it gives the processes that work for the cluster, which its folder gives away, a moment to end, ends those that do not, and
removes the folder.

    python ray_reaper.py FOLDER
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_GRACE_SECONDS = 1.0
_LONGEST_SECONDS = 15.0
_QUIET_SECONDS = 0.5


def working_for(folder: str) -> list[int]:
    """Processes that have a file of ``folder`` open, or name it in their command line or environment.

    Not this one, nor who started it; none where the system has no ``/proc``. Ray's agents overwrite their command line and
    environment, but keep their logs open.
    """
    spared = (os.getpid(), os.getppid())
    return [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if int(process.name) not in spared and any(folder in said for said in _said_by(process))
    ]


def _said_by(process: Path) -> Iterator[str]:
    with suppress(OSError):  # gone, or somebody else's
        for name in ("cmdline", "environ"):
            yield os.fsdecode((process / name).read_bytes())
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                yield str(link.readlink())


def main(folder: str) -> None:
    """Wait for standard input to close, then end who works for the cluster in ``folder`` and remove it."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    sys.stdin.read()
    began = time.monotonic()
    quiet_since = began
    # What is just starting may show a moment later, and make the folder anew.
    while (now := time.monotonic()) < min(quiet_since + _QUIET_SECONDS, began + _LONGEST_SECONDS):
        if left := working_for(folder):
            quiet_since = now
            for pid in left if now > began + _GRACE_SECONDS else ():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
