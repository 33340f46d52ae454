"""The token bucket against a count of what it let through."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dosimeter.server.limits import RateLimiter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate():
    clock = Clock()
    limiter = RateLimiter(clock)
    paces = [limiter.take("a", requests_per_minute=60, burst=3) for _ in range(5)]
    assert [pace.allowed for pace in paces] == [True, True, True, False, False]
    assert paces[0].headers == {"RateLimit-Limit": "60", "RateLimit-Remaining": "2", "RateLimit-Reset": "1"}
    assert paces[3].headers["Retry-After"] == "1"
    clock.now = 1.0
    assert limiter.take("a", requests_per_minute=60, burst=3).allowed
    assert not limiter.take("a", requests_per_minute=60, burst=3).allowed
    assert limiter.take("b", requests_per_minute=60, burst=3).allowed


def test_waiting_as_long_as_it_says_is_enough():
    clock = Clock()
    limiter = RateLimiter(clock)
    assert limiter.take("a", requests_per_minute=1, burst=1).allowed
    clock.now = 0.5
    refused = limiter.take("a", requests_per_minute=1, burst=1)
    assert not refused.allowed and refused.wait_seconds == 60
    clock.now += refused.wait_seconds
    assert limiter.take("a", requests_per_minute=1, burst=1).allowed


@given(
    st.lists(st.floats(0, 20), min_size=1, max_size=200),
    st.integers(1, 120),
    st.integers(1, 30),
)
def test_no_minute_sees_more_than_rate_and_burst(gaps, per_minute, burst):
    clock = Clock()
    limiter = RateLimiter(clock)
    allowed = []
    for gap in gaps:
        clock.now += gap
        if limiter.take("a", requests_per_minute=per_minute, burst=burst).allowed:
            allowed.append(clock.now)
    times = np.array(allowed)
    assert allowed[0] == gaps[0]
    for start in times:
        assert ((times >= start) & (times < start + 60)).sum() <= per_minute + burst
