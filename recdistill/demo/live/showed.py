"""What a live demo is to show, each as one sentence that holds or does not (yet).

The lead of a student is its NDCG@10 less that of popularity, on the same lists. *Before* is the last third of the time
before the turn. *After* is the last third of the five minutes after it, or of what is left of a shorter stream. The
share of a student is its lead after the turn, divided by the lead of the live student before it. Its 95% interval comes
from 1,000 draws of lists with replacement.

It knows nothing of processes, logs or pages.

Example:
    >>> lists = [(t / 2, {"live": 0.5, "frozen": 0.3, "popularity": 0.3}) for t in range(200)]
    >>> found = recovered(lists, shift_s=40.0, seconds=100.0)
    >>> found["live"]["share"], found["frozen"]["share"]
    (1.0, 0.0)
    >>> counts = {"versions": {"judged": 3, "promoted": 2, "refused": 1}, "requests": 9, "failures": 0, "cost": None}
    >>> [(one["name"], one["holds"]) for one in facts(found, **counts)]
    [('back', True), ('frozen', True), ('versions', True), ('failed', True), ('cost', None)]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BACK: Final = 0.9
"""A student is back when it has this share of the earlier lead."""

WITHIN_S: Final = 300.0
"""So soon after the turn."""

CHEAPER: Final = 10.0
"""Answers of the teacher cost at least so many times what the student's cost."""

NAMES: Final = ("back", "frozen", "versions", "failed", "cost")
"""Of the sentences."""

STUDENTS: Final = ("live", "frozen", "control")
"""Whose share of the earlier lead is found. The sentences are about the first two."""

VERSIONS: Final = {"judged": 3, "promoted": 2, "refused": 1}
"""So many at least."""

_POPULARITY: Final = "popularity"
_DRAWS: Final = 1000
_FEWEST: Final = 20  # lists in each of the two times; with fewer nothing is said

Points = Sequence[tuple[float, Mapping[str, float]]]
"""The time of a list and the NDCG@10 of each contender on it."""


def recovered(points: Points, *, shift_s: float, seconds: float, now_s: float | None = None) -> dict[str, Any]:
    """How much of the earlier lead the live and the frozen student have after the turn.

    Args:
        points: All lists that were measured, in the order of time.
        shift_s: When all tastes turn, in seconds.
        seconds: How long the stream lasts.
        now_s: How far the lists are known; None: all of them.

    Returns:
        Empty until something is known. Then `lead` (before), `from_s` and `until_s` (the time of *after*, or the newest
        such stretch while that time has not come), `final` (it has come), and for each of `STUDENTS` its `share`. When
        it has come, each also has `low` and `high`, and `live` has `back_s`: how long after the turn a stretch of that
        length began in which it was back for the first time; None: there was none.
    """
    until_s = min(seconds, shift_s + WITHIN_S)
    third = (until_s - shift_s) / 3
    final = now_s is None or now_s >= until_s
    end_s = until_s if now_s is None else min(until_s, now_s)
    before = _leads(points, "live", shift_s * 2 / 3, shift_s)
    if end_s <= shift_s or len(before) < _FEWEST or before.mean() <= 0:
        return {}
    begin_s = max(shift_s, end_s - third)
    found: dict[str, Any] = {
        "lead": round(float(before.mean()), 4),
        "from_s": round(begin_s, 1),
        "until_s": round(end_s, 1),
        "final": final,
    }
    for name in STUDENTS:
        after = _leads(points, name, begin_s, end_s)
        if len(after) >= _FEWEST:
            found[name] = {"share": round(float(after.mean() / before.mean()), 4)}
            if final:
                found[name] |= _interval(before, after)
    if final and "live" in found:
        found["live"]["back_s"] = _back(points, float(before.mean()), shift_s, until_s, third)
    return found


def facts(
    found: Mapping[str, Any],
    *,
    versions: Mapping[str, int],
    requests: int,
    failures: int,
    cost: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """The sentences, each with `name`, `said` and `holds`; None: it is not known yet.

    Args:
        found: From `recovered`.
        versions: How many were judged, promoted and refused.
        requests: Answers that were asked for.
        failures: How many failed.
        cost: From `recdistill.demo.live.cost`; None: not measured yet.
    """
    live, frozen, final = found.get("live"), found.get("frozen"), found.get("final", False)
    enough = all(versions[name] >= least for name, least in VERSIONS.items())
    wanted = ", ".join(f"{least} {name}" for name, least in VERSIONS.items())
    made = ", ".join(f"{versions[name]} {name}" for name in VERSIONS)
    return [
        {
            "name": "back",
            "said": "Within five minutes after the turn the live student leads popularity by at least "
            f"{BACK:g} times its earlier lead{_words(live)}",
            "holds": live["share"] >= BACK if live and final else None,
        },
        {
            "name": "frozen",
            "said": f"The frozen student does not{_words(frozen)}",
            "holds": frozen["share"] < BACK if frozen and final else None,
        },
        {
            "name": "versions",
            "said": f"Versions, at least {wanted}: {made}.",
            "holds": True if enough else None,
        },
        {
            "name": "failed",
            "said": f"{failures:,} of {requests:,} requests have failed.",
            "holds": None if not requests else failures == 0,
        },
        {
            "name": "cost",
            "said": f"The teacher's answers cost at least {CHEAPER:g} times the student's"
            + (": not measured yet." if cost is None else f": {cost['ratio']:.1f} times."),
            "holds": None if cost is None else cost["ratio"] >= CHEAPER,
        },
    ]


def _words(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ": not known yet."
    below = " Popularity is better." if found["share"] < 0 else ""
    if "low" not in found:
        return f": {found['share']:.2f} times so far.{below}"
    return f": {found['share']:.2f} times (95% interval {found['low']:.2f} to {found['high']:.2f}).{below}"


def _leads(points: Points, name: str, begin_s: float, end_s: float) -> NDArray[np.float64]:
    """The leads of a student on each list between two times."""
    return np.array(
        [
            values[name] - values[_POPULARITY]
            for at_s, values in points
            if begin_s <= at_s < end_s and name in values and _POPULARITY in values
        ]
    )


def _interval(before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, float]:
    random = np.random.default_rng(0)
    drawn = [one[random.integers(len(one), size=(_DRAWS, len(one)))].mean(1) for one in (after, before)]
    low, high = np.percentile(drawn[0] / np.maximum(drawn[1], 1e-9), [2.5, 97.5])
    return {"low": round(float(low), 4), "high": round(float(high), 4)}


def _back(points: Points, lead: float, shift_s: float, until_s: float, third: float) -> float | None:
    begin_s = shift_s
    while begin_s + third <= until_s + 1e-9:
        leads = _leads(points, "live", begin_s, begin_s + third)
        if len(leads) >= _FEWEST and leads.mean() >= BACK * lead:
            return round(begin_s - shift_s, 1)
        begin_s += third / 20
    return None
