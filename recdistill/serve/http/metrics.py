"""The metrics at `/metrics`, in the text form of Prometheus.

Each endpoint has its own registry of metrics, so two endpoints in one process (in tests) do not mix. The loop that
follows the registry and the log has its own counter. This counter is read at each request for metrics.

It does not know requests, only their results.

Example:
    >>> metrics = Metrics(Counter(swaps=2), lambda: {"overlay_position": 7.0})
    >>> metrics.observe("/v1/recommend", 200, 0.0004)
    >>> text = metrics.text().decode()
    >>> "recdistill_swaps_total 2.0" in text, "recdistill_overlay_position 7.0" in text
    (True, True)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client import Counter as Tally
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from recdistill import hops

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
HELP: Final = {
    "swaps": "Bundles that began to serve",
    "warm_swaps": "Bundles that began to serve and were still open, as after a rollback",
    "canaries": "Canaries that began to answer a share of the users",
    "canary_answers": "Requests that a canary answered. Each request of a batch counts",
    "canary_failures": "Requests that the champion answered because a canary failed. Each request of a batch counts",
    "refused_canaries": "Canaries that could not be served; the champion answers all users",
    "shadow_asked": "Requests on which a canary was asked too, only to compare",
    "shadow_failed": "Requests on which a canary failed when it was asked only to compare",
    "shadow_dropped": "Requests that a canary was not asked, because too many others waited",
    "shadow_items": "Items of the champion's answers that were compared",
    "shadow_same": "Items that both the champion's and the canary's answer hold",
    "refused_bundles": "Champions that could not be served; the champion before kept serving",
    "registry_failures": "Times that the registry could not be read",
    "log_failures": "Times that the log could not be read",
    "items": "Catalogue records that were applied",
    "bad_items": "Catalogue records that could not be read, or that did not fit the features",
    "refused_connections": "Connections that were refused, because there were too many",
    "evicted_connections": "Waiting connections that were closed, to make room for new ones",
    "late_connections": "Connections that were closed, because their client took too long",
    "bad_requests": "Requests that were not HTTP",
    "large_heads": "Requests whose head was too large",
    "large_bodies": "Connections that were closed, because far more bytes came than a body may have",
    "pipelined_requests": "Connections that were closed, because too many requests waited on one of them",
    "ended_threads": "Threads of the process that ended before it did. It is not ready any more",
    "impressions_written": "Answers written to `impressions`",
    "impressions_dropped": "Answers that should have been written to `impressions` but were not",
}


class Metrics:
    """Counts and times.

    Args:
        counts: The counts of the loop that follows the registry and the log. The keys of `HELP` are shown.
        gauges: Gives the gauges and their values. It is called at each request for metrics.
    """

    def __init__(self, counts: Counter[str], gauges: Callable[[], Mapping[str, float]]) -> None:
        # These would be a second series for each count, and nobody needs them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Tally(
            "recdistill_requests",
            "HTTP requests answered. A batch of requests counts once.",
            ["path", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "recdistill_request_seconds",
            "Time from the end of a request's head to its answer.",
            ["path"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._answers = Tally(
            "recdistill_answers", "Answers by where their order comes from.", ["source"], registry=self._registry
        )
        self._unknown = Tally(
            "recdistill_unknown_history",
            "Events of histories that were ignored: their items are not in the catalogue.",
            registry=self._registry,
        )
        self._registry.register(_Loop(counts, gauges))
        self._requests_of: dict[tuple[str, int], Tally] = {}
        self._seconds_of: dict[str, Histogram] = {}
        self._answers_of: dict[str, Tally] = {}

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Counts one answered request. `path` must be one of a few."""
        # Each call of `labels` builds a new object, which takes longer than the count itself. So the objects are kept.
        if (path, status) not in self._requests_of:
            self._requests_of[path, status] = self._requests.labels(path, str(status))
        self._requests_of[path, status].inc()
        if path not in self._seconds_of:
            self._seconds_of[path] = self._seconds.labels(path)
        self._seconds_of[path].observe(seconds)

    def answered(self, source: str, unknown_history: int) -> None:
        """Counts one answer."""
        if source not in self._answers_of:
            self._answers_of[source] = self._answers.labels(source)
        self._answers_of[source].inc()
        if unknown_history:
            self._unknown.inc(unknown_history)

    def text(self) -> bytes:
        """All metrics as text."""
        return generate_latest(self._registry)


class _Loop(Collector):
    """Metrics that are counted outside this module."""

    def __init__(self, counts: Counter[str], gauges: Callable[[], Mapping[str, float]]) -> None:
        self._counts, self._gauges = counts, gauges

    def collect(self) -> Iterator[Metric]:
        """The metrics with their present values."""
        for key, text in HELP.items():
            yield CounterMetricFamily(f"recdistill_{key}", f"{text}.", value=self._counts[key])
        for key, value in self._gauges().items():
            yield GaugeMetricFamily(f"recdistill_{key}", key.replace("_", " ") + ".", value=value)
        if isinstance(self._counts, hops.Counts) and self._counts.hops:
            fresh = HistogramMetricFamily(hops.FRESHNESS, hops.HELP[hops.FRESHNESS], labels=["hop"])
            newest = GaugeMetricFamily(hops.NEWEST, hops.HELP[hops.NEWEST], labels=["hop"])
            at = GaugeMetricFamily(hops.PASSED, hops.HELP[hops.PASSED], labels=["hop"])
            for hop, passed in sorted(self._counts.hops.items()):
                fresh.add_metric([hop], [(end, float(n)) for end, n in passed.cumulated()], passed.sum_s)
                newest.add_metric([hop], passed.newest_us / 1e6)
                at.add_metric([hop], passed.at_us / 1e6)
            yield from (fresh, newest, at)
