"""Draws quality over time as an inline SVG: one line for each contender, on lists that nobody had learnt from yet.

The figures come from the provenance of a bundle, which others may have written. What is not a figure is left out.

It knows nothing of judgements, or of how the figures were made.

Example:
    >>> figure = {"n": 9, "mean": 0.5, "low": 0.4, "high": 0.6}
    >>> rows = [{"begin_us": hour * 3_600_000_000, "ndcg": {"champion": figure}} for hour in (1, 2)]
    >>> told = read({"rows": rows, "now": rows[-1]})
    >>> told.now.ndcg["champion"].mean, drawn(told.rows).count("<polyline"), read("nonsense") is None
    (0.5, 1, True)
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

LINES: Final = {
    "champion": "student",
    "weights": "student dashed",
    "teacher": "teacher",
    "popularity": "nokd",
    "itemknn": "other",
}
"""Each line and its colour class, in the order of the legend."""

_WIDTH, _HEIGHT = 360.0, 210.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 12.0, 10.0, 24.0

Part = Annotated[float, Meta(ge=-1.0, le=1e6)]


class Point(Struct, frozen=True):
    """A mean over lists, with its interval. `low` and `high` are None where there is no interval."""

    n: int
    mean: Part
    low: Part | None = None
    high: Part | None = None


class Moment(Struct, frozen=True):
    """The figures of one window of time, by line."""

    begin_us: Annotated[int, Meta(ge=0, le=32_503_680_000_000_000)]
    ndcg: dict[str, Point] = {}


class Told(Struct, frozen=True):
    """What a bundle says: its newest finished windows, the oldest first, and all open windows together as `now`."""

    rows: list[Moment] = []
    now: Moment | None = None


def read(plain: object) -> Told | None:
    """Reads the figures from a provenance. None: there is nothing that can be drawn."""
    try:
        told = msgspec.convert(plain, Told)
    except msgspec.ValidationError:
        return None
    rows = [_known(row) for row in told.rows]
    told = Told(rows, None if told.now is None else _known(told.now))
    return told if any(row.ndcg for row in rows) else None


def _known(moment: Moment) -> Moment:
    """Only the lines that have a place in the picture: a newer version, or somebody else, may write more."""
    return Moment(moment.begin_us, {line: point for line, point in moment.ndcg.items() if line in LINES})


def drawn(rows: Sequence[Moment]) -> str:
    """The picture. A line has a gap where a window has no figure for it."""
    rows = sorted(rows, key=lambda row: row.begin_us)
    first_us, last_us = rows[0].begin_us, rows[-1].begin_us
    means = [point.mean for row in rows for line, point in row.ndcg.items() if line in LINES]
    top = max([*means, 1e-9]) * 1.1
    span_us = max(1, last_us - first_us)

    def place(row: Moment, point: Point) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * (row.begin_us - first_us) / span_us
        return x, _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * max(0.0, point.mean) / top

    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share
        parts.append(f'<line x1="{_LEFT:.0f}" x2="{_WIDTH - _RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5:.0f}" y="{y + 4:.1f}" text-anchor="end">{top * share:.2f}</text>')
    parts.append(f'<text x="{_LEFT:.0f}" y="{_HEIGHT - 6:.0f}">{_moment(first_us)}</text>')
    if last_us > first_us:
        x = _WIDTH - _RIGHT
        parts.append(f'<text x="{x:.0f}" y="{_HEIGHT - 6:.0f}" text-anchor="end">{_moment(last_us)}</text>')
    for line, hue in reversed(LINES.items()):  # the champion is drawn last, over the others
        for run in _runs(rows, line):
            points = [place(row, row.ndcg[line]) for row in run]
            if len(points) == 1:
                parts.append(f'<circle class="{hue}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"/>')
            else:
                written = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
                parts.append(f'<polyline class="{hue}" points="{written}"/>')
    label = "Quality over time"
    return f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _runs(rows: Sequence[Moment], line: str) -> list[list[Moment]]:
    """The windows that have a figure for this line, cut into runs without gaps."""
    runs: list[list[Moment]] = [[]]
    for row in rows:
        if line in row.ndcg:
            runs[-1].append(row)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _moment(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
