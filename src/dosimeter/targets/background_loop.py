"""An event loop on a thread of its own, for asynchronous clients under a synchronous interface."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any


class BackgroundLoop:
    """A running event loop; stops when closed, when no longer referred to, or with the interpreter."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._at_close: list[Callable[[], Coroutine[Any, Any, None]]] = []
        thread = threading.Thread(target=_run, args=(self._loop, self._at_close), name=name, daemon=True)
        thread.start()
        self._finalizer = weakref.finalize(self, _stop, self._loop, thread)

    @property
    def closed(self) -> bool:
        """Whether the loop was stopped; it cannot be started again."""
        return not self._finalizer.alive

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run ``coroutine`` on the loop; the future gives its result, and cancelling it cancels the coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call ``function`` on the loop soon, without its result; never, if the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def at_close(self, cleanup: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await ``cleanup()`` on the loop before it ends."""
        self._at_close.append(cleanup)

    def close(self) -> None:
        """Cancel what runs, stop the loop and end the thread. May be called twice."""
        self._finalizer()


def _run(loop: asyncio.AbstractEventLoop, at_close: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for cleanup in at_close:
            loop.run_until_complete(cleanup())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(timeout=10)
