"""The error classes, one per audience.

``InputError`` is for the user and shown without a traceback; ``TargetError`` says that something outside could not
be completed; ``BudgetExceeded`` is a limit doing its work. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import copyreg
from typing import Any


class DosimeterError(Exception):
    """Base of every error that is shown as one sentence instead of a traceback."""

    exit_code = 3

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call __init__ with the message alone, so errors with fields could not cross processes.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class InputError(DosimeterError):
    """What the user gave cannot be used. The message says what was given, what is needed and what to do."""

    exit_code = 4


class SpecError(InputError):
    """An audit spec has one or more problems; all of them are in ``problems``."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{source}: {count}\n" + "\n".join(f"  - {problem}" for problem in problems))


class CapabilityError(InputError):
    """A method needs more than the target gives. Found before any work."""


class MissingExtra(InputError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(
            f"{feature} needs the extra '{extra}', which is not installed. Run: pip install 'dosimeter[{extra}]'"
        )


class TargetError(DosimeterError):
    """The target failed, or answered something that cannot be an answer."""


class WriteError(DosimeterError):
    """Something could not be written, most often for want of room. Nothing is left half written."""


class BudgetExceeded(DosimeterError):
    """A hard cap would be passed by the next step; nothing was sent.

    ``kind`` is what is limited (``queries`` or ``seconds``), ``used`` what was spent, ``limit`` the cap and
    ``wanted`` what the next step would have added.
    """

    exit_code = 2

    def __init__(self, kind: str, *, used: float, limit: float, wanted: float) -> None:
        self.kind, self.used, self.limit, self.wanted = kind, used, limit, wanted
        more = f", {wanted:.12g} more wanted" if wanted else ""
        super().__init__(
            f"budget of {limit:.12g} {kind} reached: {used:.12g} used{more}. "
            f"Raise budget.{kind} in the spec, or choose a smaller attack."
        )
