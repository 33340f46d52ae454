"""Ends what a killed driver of a local Ray cluster leaves behind; runs on its own, with nothing but the standard library.

Ray's own processes follow a killed driver by themselves, except two agents that wait for a minute, and a worker that was
starting or waiting at that moment. This program is told process ids on standard input; when that closes (the driver is gone, or
done) it ends those that are still there, and whatever else works for the cluster, which its folder gives away; then it removes
the folder.

    python ray_reaper.py FOLDER < process ids, one a line
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_GRACE_SECONDS = 1.0


def started(pid: int) -> str | None:
    """When the process began, in ticks since the machine did; ``None`` if there is none. Tells it from a later one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def working_for(folder: str) -> list[int]:
    """Processes whose command line or environment names ``folder``, but for this one and who started it; none where there is no ``/proc``."""
    name, found = os.fsencode(folder), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone, or somebody else's
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if name in said and int(process.name) not in (os.getpid(), os.getppid()):
                found.append(int(process.name))
    return found


def main(folder: str) -> None:
    """Wait for standard input to close, then end the processes that it named and remove ``folder``."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    known = {pid: started(pid) for pid in map(int, sys.stdin)}
    deadline = time.monotonic() + _GRACE_SECONDS
    while left := [
        *(pid for pid, begun in known.items() if begun is not None and started(pid) == begun),
        *working_for(folder),
    ]:
        if time.monotonic() > deadline:
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            deadline += _GRACE_SECONDS
            if not working_for(folder):
                break
        time.sleep(0.05)
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return
        time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1])
