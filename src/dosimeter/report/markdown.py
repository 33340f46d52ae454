"""Text, tables and code as Markdown that shows them as they are, whatever they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from dosimeter.report.wording import clean_text

_SPECIAL = re.compile(r"[\\`*_{}\[\]<>|~$^&@#]|:(?=//)")
#: What begins a list, a heading or a rule at the start of a line.
_START = re.compile(r"(?P<sign>[-+=])|(?P<number>\d+)(?P<stop>[.)])(?=\s|$)")


def one_line(text: str) -> str:
    """``text`` on one line, with what may disguise it replaced."""
    return " ".join(clean_text(text).split())


def shortened(text: str, most: int) -> str:
    """``text`` of at most ``most`` characters; what was cut ends in an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def escaped(text: str) -> str:
    """``text`` on one line, shown as it is: no emphasis, link, heading, HTML or mention comes of it."""
    made = _SPECIAL.sub(r"\\\g<0>", one_line(text))
    if match := _START.match(made):
        place = match.start("stop") if match["stop"] else 0
        made = f"{made[:place]}\\{made[place:]}"
    return made


def code(text: str) -> str:
    """``text`` as code within a line, or as escaped text where it has a pipe, which would end the cell of a table."""
    text = one_line(text) or " "
    if "|" in text:
        return escaped(text)
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def code_block(text: str, language: str = "") -> str:
    """``text`` as a block of code."""
    text = clean_text(text.rstrip("\n"))
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already, in one line each."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
