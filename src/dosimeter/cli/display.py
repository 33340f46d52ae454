"""What commands show: tables on stdout, progress and log lines on stderr."""

from __future__ import annotations

import json
import logging
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dosimeter.core.progress import ProgressEvent, listening

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from dosimeter.core.result import Verdict

_STYLES: dict[str, str] = {
    "pass": "green",
    "fail": "bold red",
    "undetermined": "yellow",
    "error": "bold magenta",
}
_SECONDS_BETWEEN_LINES = 10.0
_MOST_CHARACTERS_OF_A_TASK = 110
_WIDTH_WITHOUT_TERMINAL = 120
_LONGEST_UNBROKEN = 12


def print_json(document: Any) -> None:
    """The one document of a ``--json`` run."""
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def print_text(text: str = "", *, indent: int = 0) -> None:
    """Text on stdout, never read as markup: one line, but wrapped at spaces on a terminal, ``indent`` deep from the second on."""
    if sys.stdout.isatty():
        width = _console(stderr=False).width
        text = textwrap.fill(
            text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
        )
    sys.stdout.write(text + "\n")


def print_entry(name: str, text: str, *, width: int = 8) -> None:
    """``name    text``; further lines of the text begin where the first one does."""
    print_text(f"{name:<{width}}{text}", indent=width)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on stdout. Cells are text; a verdict gets its colour, nothing is read as markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold")
    console = _console(stderr=False)
    cells = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells)]
    needed = sum(width if width <= _LONGEST_UNBROKEN else _LONGEST_UNBROKEN for width in widths[1:])
    fits = widths[0] + needed + 3 * len(widths) + 1 <= console.width
    for number, column in enumerate(columns):
        unbroken = number == 0 or (fits and widths[number] <= _LONGEST_UNBROKEN)
        table.add_column(column, overflow="fold", no_wrap=unbroken)
    for row in cells:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(table)


def verdict_line(verdict: Verdict, text: str) -> None:
    """``PASS  text`` in the verdict's colour."""
    from rich.text import Text

    line = Text.assemble((verdict.upper(), _STYLES[verdict]), "  ", text)
    _console(stderr=False).print(line, soft_wrap=not sys.stdout.isatty())


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL, highlight=False)


@contextmanager
def reporting() -> Iterator[None]:
    """Inside the block, progress and log lines of the library appear on stderr."""
    console = _console(stderr=True)
    logger = logging.getLogger("dosimeter")
    level = logger.level
    logger.setLevel(logging.INFO)
    if not console.is_terminal:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        logger.addHandler(handler)
        try:
            with listening(_Lines()):
                yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
        return
    from rich.logging import RichHandler

    handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False)
    logger.addHandler(handler)
    try:
        with _progress(console) as progress, listening(_Bars(progress)):
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        console=console,
        transient=True,
    )


class _Bars:
    """Progress events as bars of a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: ProgressEvent) -> None:
        if event.finished:
            task = self._tasks.pop(event.task, None)
            if task is not None:
                self._progress.remove_task(task)
            return
        if event.task not in self._tasks:
            self._tasks[event.task] = self._progress.add_task(event.task, total=event.total, left="")
        self._progress.update(
            self._tasks[event.task], completed=event.done, total=event.total, left=event.left or ""
        )


class _Lines:
    """Progress events as a short line now and then, of whatever runs at the time, where there is no terminal."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        if event.finished or now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        from dosimeter.report.wording import number_text

        task = " ".join(event.task.split())
        if len(task) > _MOST_CHARACTERS_OF_A_TASK:
            task = task[: _MOST_CHARACTERS_OF_A_TASK - 1] + "…"
        total = "" if event.total is None else f" of {number_text(event.total)}"
        left = f", {event.left}" if event.left else ""
        sys.stderr.write(f"{task}: {number_text(event.done)}{total}{left}\n")
