"""Tests of what is shown while work goes on."""

import io
import logging
from types import SimpleNamespace

import pytest

from dosimeter.cli import display
from dosimeter.core.progress import ProgressEvent, emit, track


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(display, "_SECONDS_BETWEEN_LINES", 0.0)
    with display.reporting():
        emit(ProgressEvent("asking service", 3, 10, "7 queries left"))
        logging.getLogger("dosimeter.study").info("resuming")
    out, error = capsys.readouterr()
    assert out == ""
    assert error == "asking service: 3 of 10, 7 queries left\nresuming\n"


def test_lines_of_progress_are_short_and_ten_seconds_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    now = 0.0
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: now))
    name = "asking\n" + "service " * 100
    with display.reporting():
        for step in range(1, 4001):
            now = step / 100
            emit(ProgressEvent(name if step % 2 else "cells", step * 1000, 4_000_000))
            emit(ProgressEvent("another task", 1, None, finished=True))
    error = capsys.readouterr().err
    assert error.splitlines() == [
        "cells: 1,000,000 of 4,000,000",
        "cells: 2,000,000 of 4,000,000",
        "cells: 3,000,000 of 4,000,000",
        "cells: 4,000,000 of 4,000,000",
    ]
    with display.reporting():
        now += 10
        emit(ProgressEvent(name, 0.5, None))
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("asking service service")
    assert line.endswith("…: 0.5")
    assert len(line) == 115


def test_on_a_terminal_progress_is_bars_with_what_is_left(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with display.reporting(), track("asking [service]", 10) as bar:
        bar.advance(4, left="96 queries left")
        logging.getLogger("dosimeter.study").info("a note")
        with track("without a total") as other:
            other.advance()
    shown = terminal.getvalue()
    for expected in ("asking [service]", "4/10", "96 queries left", "a note"):
        assert expected in shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def narrow(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 columns as standard output; not a fixture, as pytest puts its own stream back before the test."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    return terminal


def test_on_a_terminal_entries_are_wrapped_at_spaces(monkeypatch: pytest.MonkeyPatch):
    terminal = narrow(monkeypatch)
    path = "/a" * 50
    display.print_entry("Next", f"{'word ' * 30}{path} end")
    lines = terminal.getvalue().splitlines()
    assert lines[0].startswith("Next    word word")
    assert all(line.startswith("        ") for line in lines[1:])
    assert all(len(line) <= 80 for line in lines if path not in line)
    assert sum(path in line for line in lines) == 1


def test_without_a_terminal_an_entry_is_one_line(capsys: pytest.CaptureFixture[str]):
    display.print_entry("Next", "word " * 100 + "end")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_on_a_narrow_terminal_short_columns_stay_whole(monkeypatch: pytest.MonkeyPatch):
    terminal = narrow(monkeypatch)
    row = ["encoder-inference", "none", "undetermined", "236", "a finding of many words " * 4]
    display.print_table("title", ["attack", "defence", "verdict", "queries", "finding"], [row])
    shown = terminal.getvalue()
    for word in ("encoder-inference", "undetermined", "defence", "verdict", "queries"):
        assert word in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_where_not_even_short_columns_fit_nothing_is_cut(monkeypatch: pytest.MonkeyPatch):
    terminal = narrow(monkeypatch)
    row = ["a-rather-long-name.of-a-metric", *["undetermined"] * 5]
    display.print_table("", ["metric", *"abcde"], [row])
    shown = terminal.getvalue()
    assert all(len(line) <= 80 for line in shown.splitlines())
    cells = [[cell.strip() for cell in line.split("│")] for line in shown.splitlines() if "│" in line]
    assert "".join(cell[2] for cell in cells) == "undetermined"


def test_tables_without_rows(capsys: pytest.CaptureFixture[str]):
    display.print_table("nothing", ["a", "b"], [])
    assert "nothing" in capsys.readouterr().out


def test_tables_do_not_read_markup(capsys: pytest.CaptureFixture[str]):
    display.print_table("t [b]", ["a"], [["[red]x[/red]"], [None]])
    shown = capsys.readouterr().out
    assert "[red]x[/red]" in shown
    assert "–" in shown
