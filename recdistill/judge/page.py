"""The parts of every page of the judge: a frame with colours, sections, bars, and a way to make foreign text safe.

A page is one file. It has no script and loads nothing; a content policy in the file forbids both.

It knows nothing of how anything was measured.

Example:
    >>> text("<b>bold & brash</b>")
    '<bdi>&lt;b&gt;bold &amp; brash&lt;/b&gt;</bdi>'
    >>> section("Two words", "A note.", "")[:60]
    '<section class="" aria-labelledby="two-words"><h2 id="two-wo'
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping
from importlib import resources
from string import Template
from typing import Final

from recdistill.judge.judgement import CHAMPION, CHANCE, CONTROL, LOGGED, PINNED, STUDENT, TEACHER
from recdistill.metrics import Interval
from recdistill.text import cut

NAMES: Final = {
    STUDENT: "Student",
    TEACHER: "Teacher",
    CHAMPION: "Champion",
    PINNED: "Pinned version",
    CONTROL: "Without distillation",
    "device": "Device file",
    CHANCE: "Chance",
    LOGGED: "As it was shown",
    "best possible": "Best possible",
    "popularity": "Popularity",
    "popularity_recent": "Recent popularity",
    "itemknn": "ItemKNN",
    "ease": "EASE",
    "weights": "The trainer's weights",
}
_HUES: Final = {STUDENT: "student", "weights": "student", "device": "student", TEACHER: "teacher", CONTROL: "nokd"}
_LONGEST: Final = 120


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: Its title, as plain text.
        parts: Sections; empty ones are left out.
    """
    template = Template(resources.files("recdistill.judge").joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(title=html.escape(title), body="\n".join(filter(None, parts)))


def text(value: object, longest: int = _LONGEST) -> str:
    """Foreign text in a form that is safe in the page."""
    # A page cannot show control characters and lone surrogates. <bdi> keeps a change of text direction inside.
    shown = "".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in str(value))
    return f"<bdi>{html.escape(cut(shown, longest))}</bdi>"


def name_of(contender: str) -> str:
    """The name of a contender for people."""
    return html.escape(NAMES.get(contender, contender))


def hue_of(contender: str) -> str:
    """The CSS class that gives a contender its colour."""
    return _HUES.get(contender, "other")


def size_text(count: float) -> str:
    """A number of bytes, written for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} bytes"


def section(title: str, note: str, body: str, kind: str = "") -> str:
    """A part of a page with its heading. A screen reader can jump to it."""
    mark = re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")
    return (
        f'<section class="{kind}" aria-labelledby="{mark}"><h2 id="{mark}">{title}</h2>'
        f'<p class="note">{note}</p>{body}</section>'
    )


def tile(value: str, what: str) -> str:
    """A figure and the words that explain it, for the head of a page."""
    return f'<div class="tile"><b>{value}</b><span>{what}</span></div>'


def spoken(words: str) -> str:
    """Words that only a screen reader says. Nobody sees them."""
    return f'<span class="sr">{words}</span>'


def bar(name: str, interval: Interval, scale: float) -> str:
    """One contender's mean as a bar with its interval."""
    width, low, high = (100 * max(0.0, v) / scale for v in (interval.mean, interval.low, interval.high))
    return (
        f'<div class="row {hue_of(name)}"><span class="who">{name_of(name)}</span>'
        f'<span class="num">{interval.mean:.4f}<small>{interval.low:.4f} to {interval.high:.4f}</small></span>'
        f'<div class="track"><i style="width:{width:.2f}%"></i>'
        f'<span class="ci" style="left:{low:.2f}%;width:{max(0.2, high - low):.2f}%"></span></div></div>'
    )


def bars(intervals: Mapping[str, Interval]) -> str:
    """Contenders as bars, the best first."""
    scale = max([i.high for i in intervals.values()] + [1e-9]) * 1.02
    ordered = sorted(intervals.items(), key=lambda pair: -pair[1].mean)
    return "".join(bar(name, interval, scale) for name, interval in ordered)


def table(caption: str, first: str, heads: Iterable[str], rows: Iterable[str], kind: str = "") -> str:
    """A table.

    Args:
        caption: What it holds, for screen readers.
        first: Head of the first column, for screen readers.
        heads: Heads of the other columns, as HTML.
        rows: Rows, as HTML; each begins with a `th` whose scope is `row`.
        kind: Its class.
    """
    head = "".join(f'<th scope="col">{one}</th>' for one in heads)
    return (
        f'<table class="{kind}"><caption class="sr">{caption}</caption>'
        f'<thead><tr><th scope="col">{spoken(first)}</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )
