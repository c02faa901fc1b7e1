"""What `/metrics` says, in Prometheus' text form.

Each endpoint has a registry of its own, so that two of them in one process (tests) do not meet. What the loop behind
the endpoint counts is read from its counter when somebody asks.

It does not know requests, only their outcomes.

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
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
HELP: Final = {
    "swaps": "Bundles that began to serve",
    "refused_bundles": "Champions that could not be served; the one before went on serving",
    "registry_failures": "Looks at the registry that failed",
    "log_failures": "Looks at the log that failed",
    "items": "Catalogue records taken in",
    "bad_items": "Catalogue records that could not be read, or that did not fit the features",
    "impressions_written": "Answers written to `impressions`",
    "impressions_dropped": "Answers that were to be written to `impressions` but were not",
}


class Metrics:
    """Counts and times.

    Args:
        counts: What the loop behind the endpoint counts; the keys of `HELP` are shown.
        gauges: Asked for the gauges and their values whenever somebody looks.
    """

    def __init__(self, counts: Counter[str], gauges: Callable[[], Mapping[str, float]]) -> None:
        # A second series for each count, which nothing here needs.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Tally("recdistill_requests", "Requests answered.", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "recdistill_request_seconds",
            "From the whole head of a request to its answer.",
            ["path"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._answers = Tally(
            "recdistill_answers", "Answers by where their order comes from.", ["source"], registry=self._registry
        )
        self._unknown = Tally(
            "recdistill_unknown_history",
            "Events of histories passed over: not in the catalogue.",
            registry=self._registry,
        )
        self._registry.register(_Loop(counts, gauges))
        self._requests_of: dict[tuple[str, int], Tally] = {}
        self._seconds_of: dict[str, Histogram] = {}
        self._answers_of: dict[str, Tally] = {}

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Takes note of one answered request; `path` must be one of a few."""
        # The client builds a child anew for each call of `labels`, which costs more than the count itself.
        if (path, status) not in self._requests_of:
            self._requests_of[path, status] = self._requests.labels(path, str(status))
        self._requests_of[path, status].inc()
        if path not in self._seconds_of:
            self._seconds_of[path] = self._seconds.labels(path)
        self._seconds_of[path].observe(seconds)

    def answered(self, source: str, unknown_history: int) -> None:
        """Takes note of one answer."""
        if source not in self._answers_of:
            self._answers_of[source] = self._answers.labels(source)
        self._answers_of[source].inc()
        if unknown_history:
            self._unknown.inc(unknown_history)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)


class _Loop(Collector):
    """What is counted elsewhere."""

    def __init__(self, counts: Counter[str], gauges: Callable[[], Mapping[str, float]]) -> None:
        self._counts, self._gauges = counts, gauges

    def collect(self) -> Iterator[Metric]:
        """Metrics as they are now."""
        for key, text in HELP.items():
            yield CounterMetricFamily(f"recdistill_{key}", f"{text}.", value=self._counts[key])
        for key, value in self._gauges().items():
            yield GaugeMetricFamily(f"recdistill_{key}", key.replace("_", " ") + ".", value=value)
