"""What the page draws and what the summary says: lines over time, versions with their verdicts, counts, lag, costs.

It knows nothing of processes, logs or HTTP.

Example:
    >>> Figures(seconds=100.0, shift_s=40.0).page()["shift_s"]
    40.0
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from recdistill.demo.live.showed import facts, recovered
from recdistill.ledger import Change
from recdistill.registry import Version

if TYPE_CHECKING:
    from recdistill.demo.live.asking import Asking
    from recdistill.demo.live.quality import Quality
    from recdistill.demo.live.stream import Stream

SPAN_S: Final = 10.0
"""A point of a line is the mean over the lists of so many seconds."""

STEP_S: Final = 2.0
"""Time between two points."""

LEAST: Final = 10
"""Of fewer lists no point is drawn: their mean would be chance."""

_OF_NOW: Final = frozenset({"now_s", "lag_s", "hops", "per_s", "asked", "facts"})  # for the page, not for the summary

_THIRD: Final = 3
"""Means of the summary are over the last third before the turn, and over the last third of the stream."""


class Figures:
    """The newest figures.

    Args:
        seconds: How long the stream lasts.
        shift_s: When all tastes turn, in seconds from its beginning.
    """

    def __init__(self, seconds: float, shift_s: float) -> None:
        self._seconds, self._shift_s = seconds, shift_s
        self._series: list[dict[str, Any]] = []
        self._versions: list[dict[str, Any]] = []
        self._promoted = 0
        self._counts: dict[str, Any] = {}
        self._lags: list[float] = []
        self._means: dict[str, dict[str, float]] = {}
        self._asked: deque[tuple[float, int]] = deque()
        self._judged: list[str] = []  # contents of the versions, newest first
        self._champion = ""
        self._recovered: dict[str, Any] = {}
        self.cost: dict[str, Any] | None = None
        self.runtime = False
        self.acts: dict[str, Any] = {"names": [], "running": None, "told": []}
        self.ended = False

    def take(
        self,
        *,
        begin_s: float,
        now_s: float,
        stream: Stream,
        asking: Asking,
        quality: Quality,
        learnt: int | None,
        worked_s: float | None = None,
    ) -> None:
        """Takes the newest figures.

        Args:
            begin_s: When the stream began, in seconds since 1970.
            now_s: Seconds since then.
            stream: What the log says.
            asking: What the ranker answered.
            quality: Figures of the contenders.
            learnt: Examples that the distiller has learnt; None: it does not say.
            worked_s: Processor seconds of the ranker's whole process so far; None: they are not known.
        """
        settled = quality.points[-1][0] if quality.points else 0.0
        while (at := (self._series[-1]["t"] if self._series else 0.0) + STEP_S) <= settled:
            self._series.append({"t": at, **_rounded(quality.means(at - SPAN_S, at, least=LEAST))})
        lag = None if learnt is None else stream.learnt.lag(learnt, now_s=begin_s + now_s)
        if lag is not None and now_s <= self._seconds:
            self._lags.append(lag)
        if not self._recovered.get("final"):
            # The newest list that has a figure came some seconds ago at most: the last ones need not be waited for.
            self._recovered = recovered(
                quality.points, shift_s=self._shift_s, seconds=self._seconds, now_s=settled + STEP_S
            )
        times = asking.percentiles()
        self._asked.append((now_s, asking.requests))
        while self._asked[0][0] < now_s - SPAN_S:
            self._asked.popleft()
        self._counts = {
            "now_s": round(now_s, 1),
            "lists": stream.lists,
            "measured": stream.measured,
            "learnt": learnt,
            "lag_s": None if lag is None or now_s > self._seconds else round(lag, 2),
            "hops": self._hops(stream, asking.bundle, lag, clock_s=begin_s + now_s) if now_s <= self._seconds else {},
            "requests": asking.requests,
            "per_s": _slope(self._asked),
            "failures": asking.failures,
            "asked": asking.latest,
            "p50_ms": None if times is None else round(times[0], 2),
            "p99_ms": None if times is None else round(times[1], 2),
            "cost": self.cost,
            "ranker_s": round(1000 * worked_s / asking.requests, 2) if worked_s and asking.requests else None,
            "facts": facts(
                self._recovered,
                versions=self._counted(),
                requests=asking.requests,
                failures=asking.failures,
                cost=self.cost,
            ),
        }
        before, end = self._shift_s, min(now_s, self._seconds)
        self._means = {
            "before": _rounded(quality.means(before * (1 - 1 / _THIRD), before)),
            "after": _rounded(quality.means(before, before + SPAN_S)),
            "end": _rounded(quality.means(end - (self._seconds - before) / _THIRD, end)),
        }

    def _hops(self, stream: Stream, served: str, learnt_s: float | None, *, clock_s: float) -> dict[str, float]:
        """How long ago the newest list was shown of which each stage has heard, in seconds."""
        heard_s = {
            "scored": stream.scored_s,
            "learnt": None if learnt_s is None else clock_s - learnt_s,
            "exported": max(stream.heard_s.values(), default=None),
            "judged": next((stream.heard_s[one] for one in self._judged if one in stream.heard_s), None),
            "promoted": stream.heard_s.get(self._champion),
            "served": stream.heard_s.get(served),
        }
        return {name: round(max(0.0, clock_s - value), 2) for name, value in heard_s.items() if value is not None}

    def _counted(self) -> dict[str, int]:
        """How many versions were judged, promoted and refused."""
        return {
            "judged": sum(one["passed"] is not None for one in self._versions),
            "promoted": self._promoted,
            "refused": sum(one["passed"] is False for one in self._versions),
        }

    def versions(self, versions: Sequence[Version], ledger: Sequence[Change], *, begin_s: float) -> None:
        """Takes the versions, newest first, and the changes of champion."""
        promoted = {
            entry.after or "": _since(entry.at, begin_s) for entry in sorted(ledger, key=lambda entry: entry.step)
        }
        self._promoted = sum(entry.kind == "promote" for entry in ledger)
        self._judged = [one.content_hash for one in versions]
        self._champion = next((one.content_hash for one in versions if "champion" in one.aliases), "")
        self._versions = [
            {
                "number": int(one.number),
                "at_s": _since(one.created_at, begin_s),
                "passed": one.passed,
                "promoted_s": promoted.get(one.number),
                "champion": "champion" in one.aliases,
                "reason": one.reason,
            }
            for one in versions
        ]

    def page(self) -> dict[str, Any]:
        """What the page draws."""
        return {
            "seconds": self._seconds,
            "shift_s": self._shift_s,
            "ended": self.ended,
            "runtime": self.runtime,
            "series": self._series,
            "versions": self._versions,
            "acts": self.acts,
            **self._counts,
        }

    def summary(self) -> dict[str, Any]:
        """What is said at the end."""
        lag = None if not self._lags else [round(float(q), 2) for q in np.percentile(self._lags, [50, 99])]
        return {
            "shift_s": self._shift_s,
            "ndcg@10": self._means,
            "recovered": self._recovered,
            "showed": {one["name"]: one["holds"] for one in self._counts.get("facts", [])},
            "versions": self._counted(),
            "lag_s": None if lag is None else {"p50": lag[0], "p99": lag[1]},
            "acts": self.acts["told"],
            **{name: value for name, value in self._counts.items() if name not in _OF_NOW},
            "refusals": [f"{one['number']}: {one['reason']}" for one in self._versions if one["passed"] is False],
        }


def _rounded(means: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in means.items()}


def _slope(counts: deque[tuple[float, int]]) -> float:
    (first_s, first), (last_s, last) = counts[0], counts[-1]
    return 0.0 if last_s <= first_s else round((last - first) / (last_s - first_s), 1)


def _since(moment: str, begin_s: float) -> float:
    return round(datetime.fromisoformat(moment).timestamp() - begin_s, 1)
