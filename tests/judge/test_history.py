"""The pictures and the table of what was judged: every version is there, and each mark stands where its figure is."""

from __future__ import annotations

import html
import re
from itertools import pairwise

import pytest

from recdistill.judge.history import LISTED, MOST, Past, Spread, drawn_history

PASSED = Past(
    content_hash="aa" * 32,
    at="2026-01-02T03:04:05+00:00",
    verdict="passed",
    number="7",
    became="served",
    figures={"kept": Spread(0.9, 0.8, 1.0), "champion": Spread(0.01, 0.0, 0.02)},
)
REFUSED = Past(content_hash="bb" * 32, at="2026-01-03", verdict="refused", number="8", figures={"kept": Spread(0.5)})
MORE = Past(
    content_hash="cc" * 32,
    at="2026-01-04",
    verdict="not enough evidence",
    looks=2,
    this=True,
    figures={"kept": Spread(0.8, 0.6, 1.0)},
)


def test_every_version_is_told_with_its_verdict_and_what_became_of_it() -> None:
    page = drawn_history([PASSED, REFUSED, MORE])
    rows = re.findall(r"<tr class.*?</tr>", page)
    assert [" ".join(html.unescape(re.sub("<[^>]+>", " ", row)).split()) for row in rows] == [
        (
            "No number yet (this one) cccccccc · 2026-01-04, look 2 · never served … not enough evidence "
            "80.0% 60.0% to 100.0% – not measured"
        ),
        "Version 8 bbbbbbbb · 2026-01-03 · never served ✗ refused 50.0% – not measured",
        "Version 7 aaaaaaaa · 2026-01-02 · has served ✓ passed 90.0% 80.0% to 100.0% +0.0100 +0.0000 to +0.0200",
    ]
    assert "3 judged, 1 of them became champion" in page


def test_a_mark_stands_at_its_figure_and_its_shape_says_the_verdict() -> None:
    kept, lead = re.findall("<svg.*?</svg>", drawn_history([PASSED, REFUSED, MORE]))
    assert re.findall(r'class="mark (\w+)"', kept) == ["yes", "no", "more"]
    assert kept.count('class="ring') == lead.count('class="ring') == 1
    spans = re.findall(r'class="span (\w+)" x1="([\d.]+)".*?y1="([\d.]+)" y2="([\d.]+)"', kept)
    (_, first, low, high), (_, third, other, top) = spans  # the refused one has no interval
    assert float(high) == float(top)  # both end at 100%
    assert float(low) < float(other)  # 80% stands above 60%
    passed = re.search(r'class="mark yes" cx="([\d.]+)" cy="([\d.]+)"', kept)
    assert passed is not None
    assert float(passed[1]) == float(first) < float(third)
    assert float(passed[2]) == pytest.approx((float(low) + float(high)) / 2, abs=0.1)  # 90% lies between 80% and 100%


def test_of_many_versions_the_newest_are_drawn() -> None:
    many = [
        Past(
            content_hash=f"{n:064x}",
            at="2026-01-02",
            verdict="passed",
            number=str(n),
            figures={"kept": Spread(n / 1e4)},
        )
        for n in range(5000)
    ]
    page = drawn_history(many)
    assert "5,000 judged" in page
    assert page.count('class="mark') == MOST
    assert page.count("<tr class") == LISTED
    assert "Version 4999" in page
    assert len(page) < 50_000
    below = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="163"', page)]
    assert below
    assert all(a - b >= 25.9 for a, b in pairwise(below))


def test_what_is_not_known_is_left_out() -> None:
    assert drawn_history([]) == ""
    bare = drawn_history([Past(content_hash="aa" * 32, at="?", verdict="<b>")])
    assert "<svg" not in bare
    assert "&lt;b&gt;" in bare
