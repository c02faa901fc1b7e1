"""The report is one file that asks for nothing, lets no foreign text act, and fits a phone."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest
from support.judgements import MEANS, around, make_judgement

from recdistill.errors import DataError
from recdistill.judge.gates import checks, gate
from recdistill.judge.judgement import NO_TEACHER, Control, Part, Spending
from recdistill.judge.page import size_text
from recdistill.judge.policy import Asked
from recdistill.judge.report import render, write_report
from recdistill.judge.said import told as told_again
from recdistill.judge.scatter import scatter

HOSTILE = '</bdi><script>alert(1)</script><img src=x onerror="alert(2)"> \u202egnp\x00 $body ${title} ' + "W" * 400
VOID = {"meta", "br", "line", "circle", "path"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; `open` must be empty at its end."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def page_of(judgement):
    return render(judgement, checks(judgement, Asked()))


def failing():
    return msgspec.structs.replace(make_judgement(), retention=around(0.9, 0.02), lists=20)


@pytest.mark.parametrize(
    "judgement", [make_judgement(), make_judgement(HOSTILE), failing()], ids=["fine", "hostile", "failing"]
)
def test_the_page_is_whole_and_asks_for_nothing(judgement):
    page = Page(page_of(judgement))
    assert page.open == []
    assert set(page.tags).isdisjoint({"script", "img", "link", "iframe", "object", "a", "form"})
    named = {name for name, _ in page.attributes}
    assert named.isdisjoint({"src", "href", "action", "srcset", "data"})
    assert not any(name.startswith("on") for name in named)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_hostile_titles_are_shown_as_text_and_cut():
    source = page_of(make_judgement(HOSTILE))
    assert "<script" not in source
    assert "&lt;script&gt;alert(1)" in source
    assert "$body ${title}" in source
    assert "\x00" not in source
    # An opened direction stays within its own element.
    assert all(re.search(r"<bdi>[^<]*$", source[: m.start()]) for m in re.finditer("\u202e", source))
    assert "W" * 300 not in source


@pytest.mark.parametrize(
    ("judgement", "verdict"), [(make_judgement(), "Passed the gate"), (failing(), "Did not pass the gate")]
)
def test_every_figure_and_reason_is_there(judgement, verdict):
    page = Page(page_of(judgement))
    words = " ".join(page.words)
    assert verdict in words
    for check in checks(judgement, Asked()):
        assert check.sentence.partition(": ")[2] in words
    for mean in MEANS.values():
        assert f"{mean:.4f}" in words
    for part in judgement.slices:
        assert f"{part.n:,} lists" in words
    assert "Fargo (1996)" in words
    assert judgement.content_hash in words
    assert f"{judgement.retention.mean:.1%}" in words
    assert words.count("✗") == sum(c.verdict == "refused" for c in checks(judgement, Asked()))


def test_a_verdict_that_needs_more_lists_is_neither_passed_nor_refused():
    few = msgspec.structs.replace(make_judgement(), lists=20)
    for page in (page_of(few), render(few, [told_again(each, False) for each in gate(few, Asked()).reasons])):
        assert "Not enough evidence yet" in page
        assert '<li class="more"><b aria-hidden="true">…</b><span><span class="sr">not enough evidence:</span>' in page
        assert "✗" not in page


def test_what_was_not_measured_is_left_out_not_invented():
    bare = msgspec.structs.replace(
        make_judgement(),
        retention=None,
        differences=[],
        disagreements=[],
        sizes={},
        contenders=make_judgement().contenders[:1],
    )
    words = " ".join(Page(page_of(bare)).words)
    assert "No teacher to compare with" in words
    assert "Student against each" not in words
    assert "Size against quality" not in words
    assert "disagree most" not in words


def as_shown():
    """A judgement of lists as they were shown: nobody chose from the catalogue, so coverage means nothing."""
    whole = make_judgement()
    contenders = [
        msgspec.structs.replace(
            quality,
            coverage=None,
            popularity=None,
            metrics=dict.fromkeys(("ndcg@10", "ndcg@5", "mrr", "auc"), quality.metrics["ndcg@10"]),
        )
        for quality in whole.contenders
    ]
    return msgspec.structs.replace(
        whole,
        protocol="shown",
        protocol_why="half of the lists have 25 candidates or fewer",
        contenders=[*contenders, msgspec.structs.replace(contenders[-1], name="logged")],
        disagreements=[msgspec.structs.replace(d, tau=-0.25) for d in whole.disagreements],
        part=Part(learnt="examples/0:7", begins="examples/0:9", ends="examples/0:30", first="1970", last="1971"),
    )


def test_lists_as_they_were_shown_are_told_as_such():
    page = Page(page_of(as_shown()))
    words = " ".join(page.words)
    assert page.open == []
    for told in (
        "NDCG@10 of the order of what was shown",
        "half of the lists have 25 candidates or fewer",
        "held-out lists, as they were shown",
        "AUC",
        "NDCG@5",
        "As it was shown",
        "Chance",
        "Popularity is counted up to the moment of each list",
        "Kendall's τ -0.25",
        "examples/0:9 to examples/0:30, lists of 1970 to 1971",
        "lists as they were shown, on this machine",
    ):
        assert told in words, told
    assert "Coverage" not in words
    assert "over the whole catalogue." not in words.split("Time")[0]


def test_a_teacher_that_is_not_above_chance_is_no_claim():
    why = "the teacher is not above chance: its lead is +0.0001"
    words = " ".join(Page(page_of(msgspec.structs.replace(as_shown(), retention=None, retention_why=why))).words)
    assert "The teacher is not above chance" in words
    assert "its lead is +0.0001" in words
    # On pools and on logged lists a teacher has no row of its own, and there is one all the same.
    found = make_judgement()
    alone = [one for one in found.contenders if one.name != "teacher"]
    changed = msgspec.structs.replace(found, contenders=alone, retention=None, retention_why=why)
    words = " ".join(Page(page_of(changed)).words)
    assert "The teacher is not above chance" in words
    assert "No teacher to compare with" not in words
    missing = msgspec.structs.replace(changed, retention_why=NO_TEACHER)
    assert "No teacher to compare with" in " ".join(Page(page_of(missing)).words)


def test_what_a_budget_spared_is_told():
    spent = Spending(lists=1000, lists_scored=300, candidates=64_000, scored=19_200, seconds=12.34, cost=5.6)
    words = " ".join(Page(page_of(msgspec.structs.replace(make_judgement(), spending=spent))).words)
    for told in ("64,000 in 1,000 lists", "19,200 in 300 lists, 30.0%", "44,800 scores", "12.3 s", "5.60"):
        assert told in words
    free = msgspec.structs.replace(spent, seconds=None, cost=None)
    words = " ".join(Page(page_of(msgspec.structs.replace(make_judgement(), spending=free))).words)
    assert "44,800 scores" in words
    assert "money spared" not in words
    assert "asked for" not in " ".join(Page(page_of(make_judgement())).words)


def test_bars_and_intervals_stay_within_their_track():
    source = page_of(make_judgement())
    for left, width in re.findall(r"left:(-?[\d.]+)%;width:(-?[\d.]+)%", source):
        assert float(left) >= 0
        assert float(left) + float(width) <= 100.01


def test_names_in_the_scatter_cover_neither_points_nor_each_other():
    points = [(f"Name {n}", "other", 1000.0 * (1 + n % 2), 0.1 + n * 1e-4) for n in range(8)]
    drawn = scatter(points, size_text)
    names = re.findall(r'class="name" x="([\d.]+)" y="([\d.]+)"', drawn)
    assert len(names) == 8
    spots = [(float(x), float(y)) for x, y in names]
    for n, (x, y) in enumerate(spots):
        assert all(abs(y - b) >= 12.9 or abs(x - a) > 30 for a, b in spots[:n])
    assert scatter([("only", "other", 1.0, 0.0)], size_text).count("<circle") == 1


def test_what_distillation_adds_is_a_line_of_every_report():
    kept = Control(content_hash="c0" * 32, kept=around(0.93, 0.02))
    words = " ".join(Page(page_of(msgspec.structs.replace(make_judgement(), control=kept))).words)
    for told in (
        "Control: labels only",
        "+0.0086 (+0.0056 to +0.0116)",
        "93.0% is kept (91.0% to 95.0%)",
        "c0c0c0c0c0c0",
    ):
        assert told in words, told
    unknown = Control(content_hash="c0" * 32, why="the teacher is not above the control")
    assert "no share: <bdi>the teacher is not above" in page_of(
        msgspec.structs.replace(make_judgement(), control=unknown)
    )
    without = msgspec.structs.replace(
        make_judgement(),
        contenders=[one for one in make_judgement().contenders if one.name != "student_no_kd"],
        differences=[one for one in make_judgement().differences if one.b != "student_no_kd"],
    )
    for judgement, why in (
        (without, "nobody looked for one"),
        (
            msgspec.structs.replace(without, control=Control(why="type: recdistill distil --control")),
            "distil --control",
        ),
    ):
        words = " ".join(Page(page_of(judgement)).words)
        assert "So this report cannot say what distillation adds" in words
        assert why in words
        assert "Control: labels only" not in words


def test_it_is_written_and_an_impossible_place_is_a_clear_error(tmp_path):
    write_report(make_judgement(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    harsh = gate(make_judgement(), Asked(retention=2.0))
    write_report(make_judgement(), tmp_path / "harsh.html", harsh)
    words = " ".join(Page((tmp_path / "harsh.html").read_text(encoding="utf-8")).words)
    assert "Did not pass the gate" in words
    assert "at least 2.000 is asked" in words
    other = msgspec.structs.replace(harsh, content_hash="0" * 64)
    with pytest.raises(DataError, match="the evidence is about 000000000000"):
        write_report(make_judgement(), tmp_path / "other.html", other)
    with pytest.raises(DataError, match="the report cannot be written"):
        write_report(make_judgement(), tmp_path / "none" / "report.html")
