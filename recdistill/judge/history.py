"""Draws the versions that were judged and what became of them: two pictures and a table.

It knows nothing of ledgers, nor of how anything was measured.

Example:
    >>> one = Past(content_hash="ab" * 32, at="2026-01-02T03:04:05+00:00", verdict="passed", number="3")
    >>> "version 3" in drawn_history([one]).lower(), drawn_history([])
    (True, '')
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from recdistill.judge.page import section, spoken, table, text

MOST: Final = 40
"""Versions in the pictures."""

LISTED: Final = 20
"""Versions in the table."""

KEPT: Final = "kept"
LEAD: Final = "champion"
ADDS: Final = "control"

Became = Literal["serves", "served", "withdrawn", ""]
"""What became of a version: it serves now, it served before, it was replaced by a rollback, or it never served."""

_BECAME: Final[dict[str, str]] = {
    "serves": "serves now",
    "served": "has served",
    "withdrawn": "rolled back",
    "": "never served",
}
_MARKS: Final = {"passed": "✓", "refused": "✗"}
_CLASSES: Final = {"passed": "yes", "refused": "no"}

_WIDTH, _HEIGHT = 360.0, 170.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 12.0, 12.0, 24.0
_APART = 26.0  # the least distance between two numbers below the picture


class Spread(NamedTuple):
    """A mean with its 95% interval; None where the ledger has only the mean."""

    mean: float
    low: float | None = None
    high: float | None = None


class Past(Struct, frozen=True, kw_only=True):
    """A version, with the results of its last judgement.

    Attributes:
        content_hash: Its content hash.
        at: When it was judged, in ISO 8601.
        verdict: passed, refused, or not enough evidence.
        number: Its number; empty: it is not known.
        became: What became of it.
        figures: `kept` (share of the teacher's lead over chance), `champion` (lead over the champion of that time, in
            NDCG@10), `control` (what distillation added). A figure that was not measured is left out.
        looks: How often it was looked at.
        this: Whether it is the version that the page is about.
    """

    content_hash: str
    at: str
    verdict: str
    number: str = ""
    became: Became = ""
    figures: dict[str, Spread] = {}
    looks: int = 1
    this: bool = False


def drawn_history(past: Sequence[Past]) -> str:
    """The section of the page as HTML. It is empty where nothing was judged.

    Args:
        past: Versions, the oldest judgement first.
    """
    if not past:
        return ""
    shown = past[-MOST:]
    pictures = [
        _picture(shown, KEPT, "Share of the teacher kept", lambda value: f"{value:.0%}", None),
        _picture(shown, LEAD, "Lead over the champion of that time", lambda value: f"{value:+.3f}", 0.0),
    ]
    boxes = "".join(f'<div class="box"><h3>{title}</h3>{svg}</div>' for title, svg in filter(None, pictures))
    promoted = sum(bool(one.became) for one in past)
    earlier = f" The newest {len(shown)} are drawn." if len(past) > len(shown) else ""
    note = (
        f"{len(past):,} judged, {promoted:,} of them became champion. Oldest first, with 95% intervals.{earlier} "
        "<b>●</b> passed, <b>○</b> not enough evidence, <b>×</b> refused; a ring: it became champion."
    )
    listed = table(
        "The versions that were judged last, the newest first",
        "Version",
        ("Verdict", "Keeps", "Lead"),
        (_row(one) for one in reversed(past[-LISTED:])),
        "history",
    )
    return section("The versions so far", note, f'<div class="grid">{boxes}</div>{listed}')


def _row(one: Past) -> str:
    name = f"Version {html.escape(one.number)}" if one.number else "No number yet" if one.this else "No number"
    name += " (this one)" if one.this else ""
    looks = f", look {one.looks}" if one.looks > 1 else ""
    facts = f"{text(one.content_hash[:8])} · {_day(one.at)}{looks} · {_BECAME[one.became]}"
    said = f"{_MARKS.get(one.verdict, '…')} {html.escape(one.verdict)}"
    kept = _cell(one.figures.get(KEPT), lambda value: f"{value:.1%}")
    lead = _cell(one.figures.get(LEAD), lambda value: f"{value:+.4f}")
    return (
        f'<tr class="{"this" if one.this else ""}"><th scope="row">{name}<small>{facts}</small></th>'
        f'<td class="{_CLASSES.get(one.verdict, "more")}">{said}</td><td>{kept}</td><td>{lead}</td></tr>'
    )


def _cell(figure: Spread | None, write: Callable[[float], str]) -> str:
    if figure is None:
        return f'<span aria-hidden="true">–</span>{spoken("not measured")}'
    if figure.low is None or figure.high is None:
        return write(figure.mean)
    return f"{write(figure.mean)}<small>{write(figure.low)}&nbsp;to {write(figure.high)}</small>"


def _picture(
    past: Sequence[Past], name: str, title: str, write: Callable[[float], str], line: float | None
) -> tuple[str, str] | None:
    """Draws one figure over the versions. None: no version has this figure."""
    found = [(place, one, one.figures[name]) for place, one in enumerate(past) if name in one.figures]
    if not found:
        return None
    ends = [value for _, _, figure in found for value in figure if value is not None]
    ends += [] if line is None else [line]
    low, high = min(ends), max(ends)
    room = 0.08 * (high - low) or 0.05 * max(abs(high), 1e-3)
    low, high = low - room, high + room

    def x_of(place: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place + 0.5) / len(past)

    def y_of(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    parts: list[str] = []
    taken: list[float] = []
    for value in (line if line is not None else (low + high) / 2, low + room, high - room):
        y = y_of(value)
        if any(abs(y - other) < 13 for other in taken):
            continue
        taken.append(y)
        parts.append(f'<line x1="{_LEFT:.0f}" x2="{_WIDTH - _RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5:.0f}" y="{y + 4:.1f}" text-anchor="end">{write(value)}</text>')
    if line is not None:
        y = y_of(line)
        parts.append(f'<line class="zero" x1="{_LEFT:.0f}" x2="{_WIDTH - _RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for place, one, figure in found:
        parts += _mark(one, figure, x_of(place), y_of)
    parts += _numbers(past, x_of)
    *_, (_, last, newest) = found
    what = f"version {last.number}" if last.number else "the newest"
    label = html.escape(
        f"{title}, {len(found)} versions; {what}: {write(newest.mean)}. The table below has the figures."
    )
    svg = f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return title, svg


def _mark(one: Past, figure: Spread, x: float, y_of: Callable[[float], float]) -> Iterator[str]:
    """The mark of a version. Its shape says the verdict, so a reader needs no colours."""
    kind = _CLASSES.get(one.verdict, "more")
    y = y_of(figure.mean)
    if figure.low is not None and figure.high is not None:
        yield (
            f'<line class="span {kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y_of(figure.low):.1f}" '
            f'y2="{y_of(figure.high):.1f}"/>'
        )
    if one.became:
        yield f'<circle class="ring {kind}" cx="{x:.1f}" cy="{y:.1f}" r="7.5"/>'
    if kind == "no":
        yield f'<path class="mark {kind}" d="M{x - 3.5:.1f} {y - 3.5:.1f}l7 7m0 -7l-7 7"/>'
    else:
        yield f'<circle class="mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


def _numbers(past: Sequence[Past], x_of: Callable[[int], float]) -> Iterator[str]:
    """Numbers below the picture, as many as fit. The newest version gets one first."""
    free = _WIDTH
    for place in range(len(past) - 1, -1, -1):
        x, number = x_of(place), past[place].number or ("this" if past[place].this else "")
        if number and x <= free:
            free = x - _APART
            yield f'<text x="{x:.1f}" y="{_HEIGHT - 7:.0f}" text-anchor="middle">{html.escape(number[:6])}</text>'


def _day(moment: str) -> str:
    return html.escape(moment[:10])
