"""The page of a canary tells the verdict, the course of the bets, both sides, and who is missing."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from support.trials import trial

from recdistill.errors import DataError
from recdistill.judge.canary_page import CanaryIs, CanaryTold, GuardAt, Reason, canary_page, write_canary_page

IT = CanaryIs(number="8", content_hash="ab" * 32, champion="cd" * 32, since_us=1_800_000_000_000_000)


def words(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]+>", " ", page.partition("<main>")[2])))


@pytest.mark.parametrize(
    ("fault", "say", "heads"),
    [
        ({}, "promote", ("Promote it", "Promoted")),
        ({"canary": 0.1}, "withdraw", ("Withdraw it", "Withdrawn")),
        ({"count": 100}, "wait", ("Goes on", "Ended")),
    ],
)
def test_the_verdict_comes_first_with_a_sentence_for_each_figure(
    fault: dict[str, float], say: str, heads: tuple[str, str]
) -> None:
    told = trial(**fault).told()  # type: ignore[arg-type]
    assert told.say == say
    for head, ended in zip(heads, (False, True), strict=True):
        page = canary_page(told, CanaryIs(number="8", content_hash="ab" * 32, champion="cd" * 32, ended=ended))
        said = words(page)
        assert said.index(head) < said.index("The verdict") < said.index("The course of the test")
        for reason in told.reasons:
            assert reason.sentence in said
    assert said.count("cd" * 32) == 1


def test_the_course_ends_where_the_bets_stand() -> None:
    one = trial(canary=0.1)
    told = one.told()
    assert told.course[-1].users == sum(told.users.values())
    assert max(moment.capital["clicks: worse"] for moment in told.course) >= told.limit
    assert told.course[-1].at_us > told.course[0].at_us > 0
    page = canary_page(told, IT)
    pictures = re.findall(r"<svg.*?</svg>", page.partition("The course of the test")[2])
    wanted = next(one for one in pictures if "Bets that it is well enough" in one)
    feared = next(one for one in pictures if "Bets that something is wrong" in one)
    assert wanted.count("<polyline") == 2
    assert feared.count("<polyline") == 3
    line = re.search(r'class="limit".*?y1="([\d.]+)"', feared)
    assert line is not None
    heights = [float(y) for y in re.findall(r"[\d.]+,([\d.]+)", feared)]
    assert min(heights) <= float(line[1]), "one line reaches the limit"
    heights = [float(y) for y in re.findall(r"[\d.]+,([\d.]+)", wanted)]
    assert min(heights) > float(line[1]) - 60


MARKS = {
    "better": ("yes", "✓", "well enough:"),
    "worse": ("no", "✗", "worse:"),
    "open": ("more", "…", "not sure yet:"),
    "failed": ("no", "✗", "failed:"),
    "note": ("more", "·", "note:"),
}


@pytest.mark.parametrize(
    "sentence", ["clicks: worse; more", "No colon at all", ": first", "figures are missing, they say"]
)
@pytest.mark.parametrize("says", MARKS)
def test_the_mark_of_a_reason_comes_from_its_data_and_never_from_its_words(sentence: str, says: str) -> None:
    told = CanaryTold(
        share=0.05,
        margin=0.01,
        alpha=0.05,
        most_users=9,
        say="wait",
        missing=True,
        figures=[GuardAt(name="clicks", champion=0.1, canary=0.1, margin=0.01, pairs=3, says="open")],
        reasons=[Reason(sentence, says)],  # type: ignore[arg-type]
    )
    [(kind, mark, said)] = re.findall(
        r'<li class="(\w+)"><b aria-hidden="true">(.)</b><span>(.*?)</span></li>', canary_page(told, IT)
    )
    assert (kind, mark) == MARKS[says][:2]
    assert html.unescape(re.sub("<[^>]+>", "", said)) == f"{MARKS[says][2]} {sentence}"


def test_users_who_do_not_come_are_told() -> None:
    told = trial(coming=0.3).told()
    said = words(canary_page(told, IT))
    assert told.missing
    assert "users are missing for sure" in said
    assert "failed: fewer users of the canary came than should: figures are missing" in said


def test_nobody_came_yet_and_hostile_names_are_text(tmp_path: Path) -> None:
    hostile = Reason("<script>alert(1)</script>: x")
    told = CanaryTold(share=0.05, margin=0.01, alpha=0.05, most_users=9, say="wait", reasons=[hostile])
    page = canary_page(told, CanaryIs(number="<8>", content_hash="<img>", champion="&"))
    assert "<script" not in page
    assert "<img" not in page
    assert "version &lt;8&gt;" in page.lower()
    with pytest.raises(DataError, match="the page of the canary cannot be written"):
        write_canary_page(told, IT, tmp_path / "none" / "canary.html")
