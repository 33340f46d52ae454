"""How fast each key may ask: a token bucket, in memory, and what a client is told about it.

A bucket holds at most ``burst`` requests and gains ``requests_per_minute`` of them a minute, so that no 60 seconds see
more than the sum of both. A request that is refused costs nothing. Restarting the service fills the buckets.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Bucket:
    tokens: float
    at: float


@dataclass(frozen=True)
class Pace:
    """What the bucket of a key said to one request.

    Attributes:
        allowed: whether the request may go on.
        limit: requests a minute.
        left: requests that would be allowed right now.
        full_in_seconds: until the bucket is full.
        wait_seconds: until the next request is allowed; 0 if it is now.
    """

    allowed: bool
    limit: int
    left: int
    full_in_seconds: int
    wait_seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """``RateLimit-*`` as in the IETF draft (draft-ietf-httpapi-ratelimit-headers-06), and ``Retry-After`` with a refusal."""
        said = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.left),
            "RateLimit-Reset": str(self.full_in_seconds),
        }
        return said if self.allowed else {**said, "Retry-After": str(self.wait_seconds)}


class RateLimiter:
    """One bucket per key, by the key's id. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str, *, requests_per_minute: int, burst: int) -> Pace:
        """Take one request from the bucket of ``key``, if there is one in it."""
        now, rate = self._clock(), requests_per_minute / 60
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(float(burst), now)
        bucket.tokens = min(float(burst), bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        allowed = bucket.tokens >= 1
        if allowed:
            bucket.tokens -= 1
        return Pace(
            allowed=allowed,
            limit=requests_per_minute,
            left=int(bucket.tokens),
            full_in_seconds=math.ceil((burst - bucket.tokens) / rate),
            wait_seconds=0 if bucket.tokens >= 1 else max(1, math.ceil((1 - bucket.tokens) / rate)),
        )
