"""Reading a label or a number out of a reply in words. What is not clear stays unread rather than guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence


def parse_label(reply: str, classes: Sequence[str]) -> int | None:
    """The one class that ``reply`` names as a whole word, whatever the case; ``None`` if it names none or several.

    A class inside a longer one counts only where the longer one does not match.

    >>> parse_label("I would call it very positive.", ["positive", "very positive"])
    1
    """
    places = {label.casefold(): place for place, label in enumerate(classes)}
    longest_first = sorted(places, key=len, reverse=True)
    pattern = r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)"
    found = {places[match] for match in re.findall(pattern, reply.casefold())}
    return found.pop() if len(found) == 1 else None


_DIGITS = re.compile(r"[0-9.,]+")


def parse_score(reply: str) -> float | None:
    """The only decimal number in ``reply`` if it lies in 0..1, else ``None``.

    Whole numbers count only where there is no number with a point ("Image 1 and image 2: 0.8" is 0.8). Two numbers,
    a sign, a percent sign, a decimal comma, or letters attached to the number leave the reply unread.

    >>> parse_score("I rate them 0.83."), parse_score("between 0.2 and 0.4"), parse_score("8/10")
    (0.83, None, None)
    """
    runs = [(match.group().rstrip(".,"), match.start()) for match in _DIGITS.finditer(reply)]
    numbers = [(digits, start) for digits, start in runs if digits]
    decimals = [number for number in numbers if not number[0].isdigit()] or numbers
    if len(decimals) != 1:
        return None
    digits, start = decimals[0]
    before, after = reply[:start], reply[start + len(digits) :]
    negative = re.search(r"(?<!\w)[-\u2212]$", before) is not None
    attached = before[-1:].isalnum() or after[:1].isalnum() or after.lstrip()[:1] == "%"
    if negative or attached or not re.fullmatch(r"[0-9]+|[0-9]*\.[0-9]+", digits):
        return None
    value = float(digits)
    return value if value <= 1.0 else None
