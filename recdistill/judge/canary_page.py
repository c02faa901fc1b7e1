"""Writes the page of a canary: the verdict, the course of the test, the guard figures, and which users are missing.

The page is built from the same parts as the report. It is one file, without scripts, and it loads no other file.

It knows nothing of logs, nor of how a bet is made.

Example:
    >>> told = CanaryTold(share=0.05, margin=0.01, alpha=0.05, most_users=1000, say="wait", reasons=[])
    >>> "Goes on" in canary_page(told, CanaryIs(number="8", content_hash="ab" * 32, champion="cd" * 32))
    True
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from recdistill.errors import DataError
from recdistill.judge.page import page, section, spoken, table, text, tile

_HEADS: Final = {"promote": "Promote it", "withdraw": "Withdraw it", "wait": "Goes on"}
_ENDED: Final = {"promote": "Promoted", "withdraw": "Withdrawn", "wait": "Ended"}
_CLASSES: Final = {"promote": "yes", "withdraw": "no", "wait": "more"}
_SAYS: Final = {
    "better": ("yes", "✓", "well enough"),
    "worse": ("no", "✗", "worse"),
    "open": ("more", "…", "not sure yet"),
}
_MARKS: Final = {**_SAYS, "failed": ("no", "✗", "failed"), "note": ("more", "·", "note")}
_HUES: Final = ("student", "teacher dashed", "nokd dotted")

_WIDTH, _HEIGHT = 360.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 12.0, 16.0, 26.0
_LOWEST: Final = -3.0
"""Lower capitals are drawn at this height. A gambler who has lost so much will hardly win it back."""

_HIGHEST: Final = 1.3
"""Higher capitals are drawn at this multiple of the limit (both are logarithms). What was sure once stays sure."""

Say = Literal["promote", "withdraw", "wait"]


class GuardAt(Struct, frozen=True, kw_only=True):
    """The present state of one figure, for both sides.

    Attributes:
        name: The name of the figure.
        champion: Its mean over the champion's users; None: nobody came.
        canary: Its mean over the canary's users; None: nobody came.
        margin: The canary may be worse by so much and still be well enough.
        pairs: How many pairs of users were compared.
        says: better (surely well enough), worse (surely worse), or open (not sure yet).
        guard: Whether it is a guard: a figure that only must not become worse.
    """

    name: str
    champion: float | None
    canary: float | None
    margin: float
    pairs: int
    says: Literal["better", "worse", "open"]
    guard: bool = False


class Reason(Struct, frozen=True):
    """A sentence of the verdict, and what it says of the canary.

    Attributes:
        sentence: The sentence.
        says: What it means: better, worse or open as for a figure; failed: the canary is withdrawn for this alone;
            note: it only tells.
    """

    sentence: str
    says: Literal["better", "worse", "open", "failed", "note"] = "note"


class Moment(Struct, frozen=True, kw_only=True):
    """The state of the test after some number of users.

    Attributes:
        users: Users of both sides so far.
        at_us: When the last of them came, in microseconds; 0: it is not known.
        capital: log10 of each gambler's capital, by the name of the bet. Each began with 0.
        clicks: The share of users with a click, on the champion's side and on the canary's; None: nobody came.
    """

    users: int
    at_us: int
    capital: dict[str, float]
    clicks: tuple[float | None, float | None] = (None, None)


class CanaryTold(Struct, frozen=True, kw_only=True):
    """What the test of a canary says.

    Attributes:
        share: Share of the users whom the canary answers.
        margin: The canary may have so many clicks fewer for each list.
        alpha: The chance that the test ends with the wrong verdict.
        most_users: The test ends after so many users of the canary.
        say: What to do now.
        reasons: One for each figure, and one for each other thing that counts.
        users: How many users each side has: champion, canary.
        failed: Users of the canary whom the champion had to answer instead.
        figures: Each figure, of both sides.
        wanted: Names (in `Moment.capital`) of the bets that must be sure for a promotion.
        feared: Names of the bets of which one that is sure means withdrawal.
        limit: log10 of the capital at which a bet is sure.
        missing: Whether it is sure that users of the canary are missing.
        course: The states of the test so far, the oldest first.
    """

    share: float
    margin: float
    alpha: float
    most_users: int
    say: Say
    reasons: list[Reason]
    users: dict[str, int] = {}
    failed: int = 0
    figures: list[GuardAt] = []
    wanted: list[str] = []
    feared: list[str] = []
    limit: float = 0.0
    missing: bool = False
    course: list[Moment] = []


class CanaryIs(Struct, frozen=True, kw_only=True):
    """Which canary a page is about.

    Attributes:
        number: Number of its version.
        content_hash: Its content hash.
        champion: Content hash of the champion beside it.
        since_us: When it began, in microseconds; 0: it is not known.
        ended: Whether it has ended.
    """

    number: str
    content_hash: str
    champion: str
    since_us: int = 0
    ended: bool = False


def write_canary_page(told: CanaryTold, of: CanaryIs, path: Path) -> None:
    """Writes the page.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        path.write_text(canary_page(told, of), encoding="utf-8")
    except OSError as e:
        raise DataError(f"{path}: the page of the canary cannot be written ({e.strerror})") from e


def canary_page(told: CanaryTold, of: CanaryIs) -> str:
    """The page as HTML."""
    said = (_ENDED if of.ended else _HEADS)[told.say]
    parts = [
        _head(told, of, said),
        _why(told),
        _course(told),
        _sides(told),
        _guards(told),
        _missing(told),
        _about(told, of),
    ]
    return page(f"{said}: canary, version {of.number}", parts)


def _head(told: CanaryTold, of: CanaryIs, said: str) -> str:
    champion, canary = told.users.get("champion", 0), told.users.get("canary", 0)
    clicks = next((one for one in told.figures if not one.guard), None)
    tiles = [tile(f"{canary:,}", f"users of the canary, {champion:,} of the champion")]
    if clicks is not None and clicks.canary is not None and clicks.champion is not None:
        tiles.append(
            tile(
                f"{100 * (clicks.canary - clicks.champion):+.2f}",
                f"points of clicks: {clicks.canary:.2%} beside {clicks.champion:.2%}",
            )
        )
    came = canary / max(1, canary + champion)
    tiles.append(tile(f"{came:.2%}", f"of the users who came are the canary's; its share is {told.share:.2%}"))
    tiles.append(tile(f"{told.failed:,}", "users of the canary had to be answered by the champion"))
    verb = "answered" if of.ended else "answers"
    begun = f", since {_moment(of.since_us)}" if of.since_us else ""
    return (
        f'<header><span class="pill {_CLASSES[told.say]}">{said}</span>'
        f"<h1>Version {html.escape(of.number)} {verb} {told.share:.2%} of the users</h1>"
        f'<p class="soft">Bundle {text(of.content_hash[:12])} beside champion {text(of.champion[:12])}{begun}</p>'
        f'<div class="tiles">{"".join(tiles)}</div></header>'
    )


def _why(told: CanaryTold) -> str:
    lines = []
    for reason in told.reasons:
        kind, mark, said = _MARKS[reason.says]
        lines.append(
            f'<li class="{kind}"><b aria-hidden="true">{mark}</b>'
            f"<span>{spoken(said + ':')} {text(reason.sentence, 400)}</span></li>"
        )
    note = (
        "The canary is promoted when every figure is surely well enough. It is withdrawn when a figure is surely "
        "worse, or when its users do not come."
    )
    return section("The verdict", note, f'<ul class="checks">{"".join(lines) or "<li>Nobody came yet.</li>"}</ul>')


def _course(told: CanaryTold) -> str:
    if not told.course:
        return ""
    boxes = [
        _box("Bets that it is well enough", told, told.wanted),
        _box("Bets that something is wrong", told, told.feared),
    ]
    note = (
        "Each line is the capital of a gambler, on a logarithmic axis. It begins at 1, and the gambler bets on one "
        "user after the other. At the dashed line the bet is sure. A wrong bet gets there with a chance of "
        f"{10**-told.limit:.3g} at most, however often somebody looks."
    )
    return section("The course of the test", note, f'<div class="grid">{"".join(boxes)}</div>')


def _box(title: str, told: CanaryTold, names: Sequence[str]) -> str:
    most = _HIGHEST * told.limit
    lines = {
        name: [(one.users, min(most, max(_LOWEST, one.capital[name]))) for one in told.course if name in one.capital]
        for name in names
    }
    label = "; ".join(f"{name}: {_times(run[-1][1])}" for name, run in lines.items() if run)
    svg = _lines(title, label, told.course, lines, limit=told.limit, write=_times)
    return f'<div class="box"><h3>{title}</h3>{svg}{_legend(names)}</div>'


def _sides(told: CanaryTold) -> str:
    sides = ("champion", "canary")
    lines = {
        name: [(one.users, share) for one in told.course if (share := one.clicks[side]) is not None]
        for side, name in enumerate(sides)
    }
    if not any(lines.values()):
        return ""
    label = "; ".join(f"{name}: {run[-1][1]:.2%}" for name, run in lines.items() if run)
    drawn = {"canary": lines["canary"], "champion": lines["champion"]}
    svg = _lines("Clicks of both sides", label, told.course, drawn, limit=None, write=lambda value: f"{value:.1%}")
    note = "Share of the users who took something, over all who came so far."
    return section("Clicks of both sides", note, svg + _legend(("canary", "champion")))


def _guards(told: CanaryTold) -> str:
    def share(value: float | None) -> str:
        return f"{value:.2%}" if value is not None else f'<span aria-hidden="true">–</span>{spoken("nobody came")}'

    rows = []
    for one in told.figures:
        kind, mark, said = _SAYS[one.says]
        rows.append(
            f'<tr><th scope="row">{html.escape(one.name.capitalize())}<small>{"guard, " if one.guard else ""}margin '
            f"{one.margin:.3g}, {one.pairs:,} pairs</small></th>"
            f"<td>{share(one.canary)}</td><td>{share(one.champion)}</td>"
            f'<td class="{kind}"><span aria-hidden="true">{mark} </span>{said}</td></tr>'
        )
    note = "The mean of each figure over the users of a side. Of each user only the first list counts."
    listed = table("Figures of both sides", "Figure", ("Canary", "Champion", "Sure"), rows, "history")
    return section("Figures of both sides", note, listed) if rows else ""


def _missing(told: CanaryTold) -> str:
    champion, canary = told.users.get("champion", 0), told.users.get("canary", 0)
    expected = told.share * (champion + canary)
    facts = {
        "expected users of the canary": f"{expected:,.0f}",
        "users of the canary who came": f"{canary:,}",
        "answered by the champion instead": f"{told.failed:,}",
        "so": "users are missing for sure" if told.missing else "nothing shows that users are missing",
    }
    lines = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    note = (
        "Missing figures count as failure: a user to whom the canary gave nothing has no click, and is bad in every "
        "guard."
    )
    return section("Who is missing", note, f"<dl>{lines}</dl>")


def _about(told: CanaryTold, of: CanaryIs) -> str:
    last_us = told.course[-1].at_us if told.course else 0
    facts = {
        "version": html.escape(of.number),
        "content hash": text(of.content_hash),
        "champion beside it": text(of.champion),
        "began": _moment(of.since_us),
        "newest list": _moment(last_us),
        "canary.share": f"{told.share:g}",
        "canary.margin": f"{told.margin:g}",
        "canary.alpha": f"{told.alpha:g}",
        "canary.most_users": f"{told.most_users:,}",
    }
    lines = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    return section("What it is", "The trial and its settings.", f"<dl>{lines}</dl>")


def _legend(names: Sequence[str]) -> str:
    items = "".join(
        f'<li><svg viewBox="0 0 26 8" aria-hidden="true"><polyline class="{hue}" points="1,4 25,4"/></svg>'
        f"{html.escape(name)}</li>"
        for name, hue in zip(names, _HUES, strict=False)
    )
    return f'<ul class="legend">{items}</ul>'


def _lines(
    title: str,
    label: str,
    course: Sequence[Moment],
    lines: Mapping[str, Sequence[tuple[int, float]]],
    *,
    limit: float | None,
    write: Callable[[float], str],
) -> str:
    """Draws lines over the number of users. The times of the first and the last moment are written below."""
    values = [value for run in lines.values() for _, value in run] + ([] if limit is None else [limit, 0.0])
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05 * max(abs(high), 1e-3)
    low, high = low - room, high + room
    most = max(1, course[-1].users)

    def x_of(users: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * users / most

    def y_of(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    marks = [low + room, (low + high) / 2, high - room] if limit is None else [low + room, 0.0, limit]
    parts: list[str] = []
    taken: list[float] = []
    for value in marks:
        y = y_of(value)
        if any(abs(y - other) < 13 for other in taken):
            continue
        taken.append(y)
        kind = "limit" if value == limit else ""
        parts.append(f'<line class="{kind}" x1="{_LEFT:.0f}" x2="{_WIDTH - _RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5:.0f}" y="{y + 4:.1f}" text-anchor="end">{write(value)}</text>')
    for hue, run in reversed(list(zip(_HUES, lines.values(), strict=False))):
        written = " ".join(f"{x_of(users):.1f},{y_of(value):.1f}" for users, value in run)
        parts.append(f'<polyline class="{hue}" points="{written}"/>')
    bottom = f"{_HEIGHT - 8:.0f}"
    first, last = _moment(course[0].at_us), f"{most:,} users, {_moment(course[-1].at_us)}"
    parts.append(f'<text x="{_LEFT:.0f}" y="{bottom}">{first}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT:.0f}" y="{bottom}" text-anchor="end">{last}</text>')
    named = html.escape(f"{title}. {label}.")
    return f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{named}">{"".join(parts)}</svg>'


def _times(power: float) -> str:
    """A capital from its logarithm."""
    capital = 10**power
    return f"{capital:,.0f}" if capital >= 10 else f"{capital:.2g}"


def _moment(time_us: int) -> str:
    if time_us <= 0:
        return "not known"
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
