"""Quality over time is drawn from what a bundle says, and nothing foreign comes through."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from support.judgements import make_judgement

from recdistill.judge import overtime
from recdistill.judge.gates import Asked, checks
from recdistill.judge.report import render

HOUR_US = 3_600_000_000


def figure(mean: float, n: int = 40) -> dict[str, Any]:
    return {"n": n, "groups": 9, "mean": mean, "low": mean - 0.02, "high": mean + 0.02}


def row(hour: int, **means: float) -> dict[str, Any]:
    found = {line: figure(mean) for line, mean in means.items()}
    return {"begin_us": hour * HOUR_US, "end_us": (hour + 1) * HOUR_US, "lists": 99, "ndcg": found, "agreement": {}}


def plain(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"rows": list(rows), "now": rows[-1]}


def test_each_line_is_drawn_and_a_gap_stays_a_gap() -> None:
    told = overtime.read(
        plain(
            row(1, champion=0.2, teacher=0.4),
            row(2, champion=0.3, teacher=0.4),
            row(3, teacher=0.4),
            row(4, champion=0.4, teacher=0.4),
        )
    )
    assert told is not None
    svg = overtime.drawn(told.rows)
    lines = re.findall(r'<polyline class="([^"]+)" points="([^"]+)"', svg)
    assert [(hue, len(points.split())) for hue, points in lines] == [("teacher", 4), ("student", 2)]
    assert svg.count("<circle") == 1  # the champion alone, behind its gap
    heights = [float(point.split(",")[1]) for point in lines[1][1].split()]
    assert heights[0] > heights[1]  # .3 stands above .2
    assert "1970-01-01 01:00" in svg
    assert "1970-01-01 04:00" in svg


def test_what_is_no_figure_is_nothing() -> None:
    assert overtime.read(None) is None
    assert overtime.read({"rows": []}) is None
    assert overtime.read(plain({"begin_us": -1, "ndcg": {"champion": figure(0.1)}})) is None
    assert overtime.read(plain({"begin_us": 10**30, "ndcg": {"champion": figure(0.1)}})) is None
    assert overtime.read(plain({"begin_us": 1, "ndcg": {"champion": {"n": 1, "mean": "<script>"}}})) is None


def test_the_report_has_the_picture_the_newest_figures_and_no_raw_rows() -> None:
    told = plain(row(1, champion=0.21, weights=0.25), row(2, champion=0.31, weights=0.33, **{"</svg><b>": 0.5}))
    judgement = make_judgement()
    judgement = msgspec.structs.replace(judgement, provenance={**judgement.provenance, "prequential": told})
    page = render(judgement, checks(judgement, Asked()))
    assert "On what came next" in page
    assert page.count("<polyline") == 2
    part = page[page.index("On what came next") :]
    part = part[: part.index("</section>")]
    assert "0.3100<small>0.2900 to 0.3300</small>" in part
    assert "</svg><b>" not in part
    assert "begin_us" not in page
    assert "On what came next" not in render(make_judgement(), checks(make_judgement(), Asked()))


def test_lines_that_nobody_here_knows_are_nothing() -> None:
    assert overtime.read(plain(row(1, another=0.5))) is None
    judgement = make_judgement()
    told = {"rows": [row(1, champion=0.2)], "now": row(2, another=0.5)}
    judgement = msgspec.structs.replace(judgement, provenance={**judgement.provenance, "prequential": told})
    page = render(judgement, checks(judgement, Asked()))
    assert "0.2000<small>0.1800 to 0.2200</small>" in page[page.index("On what came next") :]
