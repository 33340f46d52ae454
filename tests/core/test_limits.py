import time

import pytest

from dosimeter.core.errors import BudgetExceeded
from dosimeter.core.limits import check_time, time_limit
from dosimeter.core.progress import track


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves: ``clock(seconds)``."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def test_without_a_limit_time_never_runs_out(clock):
    check_time()
    with time_limit(None):
        clock(1e9)
        check_time()


def test_the_limit_raises_once_it_has_passed(clock):
    with time_limit(10):
        clock(10)
        check_time()
        clock(0.26)
        with pytest.raises(BudgetExceeded, match="budget of 10 seconds reached") as caught:
            check_time()
    assert (caught.value.kind, caught.value.used, caught.value.limit) == ("seconds", 10.3, 10)
    check_time()


def test_tracked_work_stops_between_two_steps(clock):
    done = []
    with pytest.raises(BudgetExceeded), time_limit(2), track("work", 10) as bar:
        for step in range(10):
            clock(0.9)
            done.append(step)
            bar.advance()
    assert done == [0, 1, 2]


def test_the_inner_limit_counts_and_the_outer_comes_back(clock):
    with time_limit(1):
        with time_limit(100):
            clock(50)
            check_time()
        with pytest.raises(BudgetExceeded):
            check_time()
