import copy
import pickle

import pytest

from dosimeter.core.errors import (
    BudgetExceeded,
    CapabilityError,
    DosimeterError,
    InputError,
    MissingExtra,
    SpecError,
    TargetError,
)

ERRORS = [
    (InputError("give a file"), 4),
    (SpecError("audit.yaml", ["line 1: name: is missing", "line 2: x: unknown key"]), 4),
    (CapabilityError("no"), 4),
    (MissingExtra("target 'torch'", "torch"), 4),
    (TargetError("gone"), 3),
    (BudgetExceeded("queries", used=3, limit=4, wanted=2), 2),
]


@pytest.mark.parametrize(("error", "exit_code"), ERRORS, ids=lambda value: type(value).__name__)
def test_exit_codes_are_those_of_the_command_line(error, exit_code):
    assert isinstance(error, DosimeterError)
    assert error.exit_code == exit_code


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("error", [error for error, _ in ERRORS], ids=lambda value: type(value).__name__)
def test_errors_cross_processes_whole(error, again):
    arrived = again(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


def test_budget_error_says_what_is_limited_in_full_numbers():
    error = BudgetExceeded("queries", used=1_234_567, limit=2_345_678, wanted=1_200_000)
    assert (error.kind, error.used, error.limit, error.wanted) == ("queries", 1_234_567, 2_345_678, 1_200_000)
    assert str(error) == (
        "budget of 2345678 queries reached: 1234567 used, 1200000 more wanted. "
        "Raise budget.queries in the spec, or choose a smaller attack."
    )


def test_time_limit_error_does_not_speak_of_more_wanted():
    assert "60 seconds reached: 60.5 used. Raise budget.seconds" in str(
        BudgetExceeded("seconds", used=60.5, limit=60, wanted=0)
    )


def test_spec_error_lists_every_problem():
    assert str(SpecError("a.yaml", ["one"])) == "a.yaml: 1 problem\n  - one"
    assert str(SpecError("a.yaml", ["one", "two"])) == "a.yaml: 2 problems\n  - one\n  - two"


def test_missing_extra_says_what_to_run():
    assert str(MissingExtra("x", "torch")).endswith("Run: pip install 'dosimeter[torch]'")
