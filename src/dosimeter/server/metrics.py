"""What Prometheus sees: requests, records, latency, work in flight, passes of the model, usage by name of key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dosimeter.server.keys import KeyStore

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one service, in a registry of their own; usage is read from ``keys`` when asked for."""

    def __init__(self, keys: KeyStore, default_quota: int | None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        from prometheus_client.registry import Collector

        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "dosimeter_requests",
            "Requests by endpoint and status.",
            ["endpoint", "status"],
            registry=registry,
        )
        self._records = Counter(
            "dosimeter_records", "Records answered, by endpoint.", ["endpoint"], registry=registry
        )
        self._seconds = Histogram(
            "dosimeter_request_seconds",
            "Time from the head of a request to its response, by endpoint.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "dosimeter_requests_in_flight", "Requests being worked on.", registry=registry
        )
        self._pass_records = Histogram(
            "dosimeter_pass_records", "Records in one pass of the model.", buckets=_RECORDS, registry=registry
        )
        self._pass_seconds = Histogram(
            "dosimeter_pass_seconds", "Time of one pass of the model.", buckets=_SECONDS, registry=registry
        )
        self._children: dict[tuple[str, int], tuple[Any, Any, Any]] = {}

        class Usage(Collector):
            """Reads the key file at every scrape."""

            def collect(self) -> Iterator[Any]:
                return _usage(keys, default_quota)

        registry.register(Usage())

    def begun(self) -> None:
        """A request is being worked on."""
        self._in_flight.inc()

    def ended(self, endpoint: str, status: int, records: int, seconds: float) -> None:
        """A request was answered or refused."""
        children = self._children.get((endpoint, status))
        if children is None:
            children = self._children[endpoint, status] = (
                self._requests.labels(endpoint, str(status)),
                self._records.labels(endpoint),
                self._seconds.labels(endpoint),
            )
        children[0].inc()
        if records:
            children[1].inc(records)
        children[2].observe(seconds)
        self._in_flight.dec()

    def passed(self, records: int, seconds: float) -> None:
        """The model answered ``records`` records in one pass."""
        self._pass_records.observe(records)
        self._pass_seconds.observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """Everything in the text format of Prometheus, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST


def _usage(keys: KeyStore, default_quota: int | None) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily

    used = GaugeMetricFamily(
        "dosimeter_key_records", "Records counted for the keys of a name.", labels=["key"]
    )
    quotas = GaugeMetricFamily(
        "dosimeter_key_quota", "Records that the valid key of a name may ask in all.", labels=["key"]
    )
    sums: dict[str, int] = {}
    for key in keys.list():
        if key.role != "ask":
            continue
        sums[key.name] = sums.get(key.name, 0) + key.used
        quota = key.quota if key.quota is not None else default_quota
        if key.revoked_at is None and quota is not None:
            quotas.add_metric([key.name], quota)
    for name, total in sums.items():
        used.add_metric([name], total)
    yield used
    yield quotas
