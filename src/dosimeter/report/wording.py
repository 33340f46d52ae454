"""Numbers, sizes and verdicts as a person reads them."""

from __future__ import annotations

import json
import math
import re
import sys
from datetime import UTC, datetime
from numbers import Real
from typing import Any

from dosimeter.core.result import Verdict

NONE = "–"
MOST_CHARACTERS = 1_000
#: Word, sign and meaning of each verdict; the sign stands beside the word so that colour never speaks alone.
VERDICT_WORDS: dict[Verdict, str] = {
    "pass": "Pass",
    "fail": "Fail",
    "undetermined": "Undetermined",
    "error": "Error",
}
VERDICT_SIGNS: dict[Verdict, str] = {"pass": "✓", "fail": "✕", "undetermined": "?", "error": "!"}
RELATION_SIGNS = {"<=": "≤", ">=": "≥", "==": "=", "<": "<", ">": ">"}
_NOT_SHOWN = re.compile(
    "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


def clean_text(text: str) -> str:
    """``text`` with what may break or disguise a page shown as U+FFFD: control characters, halves of characters,
    marks that reverse the text around them. XML and UTF-8 hold the rest."""
    return _NOT_SHOWN.sub("\ufffd", text)


def number_text(value: float) -> str:
    """Whole numbers in full, others with four significant digits; thousands are grouped from 10,000 on."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:.4g}"


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number that a float can hold, and not a truth value."""
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def cell_text(value: Any) -> str:
    """One cell of a table; ``None`` and NaN (``null`` in the JSON) as a dash, long texts cut with a note."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        return number_text(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    left_out = len(text) - MOST_CHARACTERS
    return (
        f"{text[:MOST_CHARACTERS]}… ({left_out:,} more characters in report.json)" if left_out > 0 else text
    )


def seconds_text(seconds: float) -> str:
    """A duration: ``0.42 s``, ``38 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def bytes_text(count: int) -> str:
    """A size in units of 1,000 bytes: ``512 B``, ``1.4 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.4g} TB"


def date_text(stamp: str) -> str:
    """``2026-03-14T10:22:05Z`` as ``14 March 2026, 10:22 UTC``; what is not such a stamp stays as it is."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def listed(items: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def counted(count: int, noun: str) -> str:
    """``1 attack``, ``12,000 queries``; ``noun`` in the singular."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number_text(count)} {noun if count == 1 else plural}"
