"""A run that makes nothing says so: one sentence with the likely cause and the next command, and exit code 8.

Everything goes through the command line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import world
from support.small_shop import FEATURES, SETTINGS, Terminal, prepare

from recdistill.config import LogSettings
from recdistill.records import Example, Feedback, Impression, Item, Ranking, encode
from recdistill.stream import open_log


class Logged(Terminal):
    """A terminal whose errors hold what was logged as well."""

    def __init__(self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        super().__init__(capsys)
        self.caplog = caplog

    def __call__(self, line: str, *more: str, code: int = 0) -> str:
        self.caplog.clear()
        out = super().__call__(line, *more, code=code)
        self.errors = self.caplog.text + self.errors
        return out

    def nothing(self, line: str) -> str:
        """The one sentence of a run that made nothing."""
        self(line, code=8)
        [*_, last] = self.errors.strip().splitlines()
        assert last.startswith("error: ")
        assert "Traceback" not in self.errors
        return last

    def write(self, kind: str, records: Sequence[Any]) -> None:
        self.take_in(kind, kind, records)


@pytest.fixture
def terminal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Logged:
    prepare(tmp_path, monkeypatch, SETTINGS + "publish = false\n")
    made = Logged(capsys, caplog)
    made("topics create")
    return made


LISTS = world.impressions(60)
CLICKS = world.feedback(LISTS)
LAST = Feedback("end", "none", "item-1", "click", time_us=LISTS[-1].time_us + 100 * world.SECOND)
"""Closes every window."""


def scored_and_joined(terminal: Logged) -> None:
    terminal.write("impressions", LISTS)
    terminal("score --drain --quiet")
    terminal.write("feedback", [*CLICKS, LAST])
    terminal("join --drain --quiet")


# What was never there


def test_topics_that_were_always_empty_name_the_step_before(terminal: Logged) -> None:
    assert "the topic impressions is empty; write your lists there" in terminal.nothing("score --drain")
    assert "`recdistill score --drain`" in terminal.nothing("join --drain")
    assert "the topic examples is empty; join first" in terminal.nothing("distil --drain")


@pytest.mark.slow
def test_nothing_new_is_no_fault(terminal: Logged) -> None:
    terminal.write("items", world.items())
    scored_and_joined(terminal)
    terminal("distil --drain --quiet")
    for verb in ("score", "join", "distil"):
        terminal(f"{verb} --drain")


# Learning from nothing


def assert_no_bundle(terminal: Logged) -> None:
    assert not list(Path("recdistill-data/student/bundles").glob("*"))
    terminal("evaluate", code=6)
    assert "holds no bundle yet" in terminal.errors


@pytest.mark.slow
def test_no_items_at_all(terminal: Logged) -> None:
    scored_and_joined(terminal)
    said = terminal.nothing("distil --drain")
    assert "nothing was learnt from 60 examples: the topic items is empty" in said
    assert "import the items first, then the lists" in said
    assert_no_bundle(terminal)
    # Asked again there is nothing new, and it is still said.
    assert "the topic items is empty" in terminal.nothing("distil --drain")


def test_items_that_came_after_the_lists_were_scored(terminal: Logged) -> None:
    terminal.write("impressions", LISTS)
    terminal("score --drain")
    assert "catalogue is empty" in terminal.errors  # said where it can still be helped
    terminal.write("items", world.items())
    terminal.write("feedback", [*CLICKS, LAST])
    terminal("join --drain --quiet")
    said = terminal.nothing("distil --drain")
    assert "the lists were scored before the first of them (their catalogue_as_of is 0)" in said
    assert_no_bundle(terminal)


def test_every_item_refused(terminal: Logged) -> None:
    terminal.write("items", [Item(f"item-{n}", attributes={"price": "cheap"}) for n in range(20)])
    Path("features.toml").write_text(FEATURES + '[item.price]\nkind = "number"\n')  # after the import has looked
    scored_and_joined(terminal)
    said = terminal.nothing("distil --drain")
    assert "all 20 records of items were refused; `recdistill inspect dead-letters --from-end -n 1` says why" in said
    assert "price" in terminal("inspect dead-letters --from-end -n 1")
    assert_no_bundle(terminal)


def test_all_items_withdrawn(terminal: Logged) -> None:
    terminal.write("items", [msgspec.structs.replace(item, withdrawn=True) for item in world.items()])
    scored_and_joined(terminal)
    assert "all items are withdrawn" in terminal.nothing("distil --drain")
    assert_no_bundle(terminal)


def test_imported_examples_without_the_stamp_of_a_catalogue(terminal: Logged) -> None:
    terminal.write("items", world.items())
    terminal.write("examples", [example(one) for one in LISTS])
    said = terminal.nothing("distil --drain")
    assert "imported examples and rankings need the field catalogue_as_of" in said
    assert_no_bundle(terminal)


def test_ids_that_never_meet_the_catalogue(terminal: Logged) -> None:
    terminal.write("items", [Item(f"sku:{n}", attributes={"genre": "a"}) for n in range(20)])
    scored_and_joined(terminal)
    said = terminal.nothing("distil --drain")
    assert "none of" in said
    assert "lists name 'item-" in said
    assert "items are called 'sku:0'; give both the same ids" in said
    assert_no_bundle(terminal)


def example(impression: Impression) -> Example:
    scores = tuple(world.by_hash([impression])[0])
    return Example(
        Ranking(impression, "t", "1", "logit", scores, (True,) * len(scores)), (0.0,) * len(scores), "closed"
    )


# Labels that meet nothing


def joined_with(terminal: Logged, feedback: Sequence[Feedback], lists: Sequence[Impression] = LISTS) -> str:
    terminal.write("items", world.items())
    terminal.write("impressions", lists)
    terminal("score --drain --quiet")
    terminal.write("feedback", [*feedback, LAST])
    return terminal.nothing("join --drain")


def test_feedback_whose_ids_are_no_lists(terminal: Logged) -> None:
    strange = [msgspec.structs.replace(one, impression_id=one.impression_id.removeprefix("imp-")) for one in CLICKS]
    said = joined_with(terminal, strange)
    assert f"feedback names {strange[0].impression_id!r}, lists are called 'imp-0'" in said


def test_feedback_of_an_action_without_a_weight(terminal: Logged) -> None:
    said = joined_with(terminal, [msgspec.structs.replace(one, action="purchase") for one in CLICKS])
    assert "their action is not in join.labels (click): it is 'purchase'" in said
    assert "--set join.labels.ACTION=1" in said


def test_feedback_on_items_that_were_not_in_the_list(terminal: Logged) -> None:
    said = joined_with(terminal, [msgspec.structs.replace(one, item=one.item.upper()) for one in CLICKS])
    assert "their item is not in the list that they name, as with 'ITEM-" in said


def test_feedback_of_another_unit_of_time(terminal: Logged) -> None:
    said = joined_with(terminal, [msgspec.structs.replace(one, time_us=one.time_us * 1000) for one in CLICKS])
    assert "they came later than join.window_s = 5 s" in said


def test_all_lists_of_one_moment_stay_open(terminal: Logged) -> None:
    terminal.write("impressions", [msgspec.structs.replace(one, time_us=10**15, history=()) for one in LISTS])
    terminal("score --drain --quiet")
    said = terminal.nothing("join --drain")
    assert "all 60 lists are still open, since no record is 5 s newer (join.window_s)" in said
    assert "--flush" in said


# What the teacher did not score


def refuses(lists: Sequence[Impression]) -> list[Any]:
    return [ValueError("not today") for _ in lists]


def mostly_none(lists: Sequence[Impression]) -> list[list[float | None]]:
    return [[1.0, *[None] * (len(one.candidates) - 1)] for one in lists]


def test_every_list_refused_by_the_teacher(terminal: Logged) -> None:
    terminal.write("impressions", LISTS)
    said = terminal.nothing("score --drain --set teacher.function=commands.test_nothing:refuses")
    assert "all 60 impressions went to the dead letters" in said
    assert "not today" in terminal("inspect dead-letters --from-end -n 1")


def test_missing_scores_are_told_with_figures_and_stop_beyond_a_bound(terminal: Logged) -> None:
    terminal.write("items", world.items())
    terminal.write("impressions", LISTS)
    line = "score --drain --set teacher.function=commands.test_nothing:mostly_none"
    terminal(f"{line} --set score.most_missing=0.8", code=5)
    assert "gave no score for 300 of 360 candidates (83.3%)" in terminal.errors
    assert "score.most_missing = 0.8, so nothing of this batch was written" in terminal.errors
    out = json.loads(terminal(f"{line} --json"))  # nothing is lost
    assert (out["rankings"], out["missing"]) == (60, 300)
    assert "gave no score for 300 of 360 candidates (83.3%)" in terminal.errors


# Names that nobody has


def test_attributes_actions_and_contexts_that_nobody_has(terminal: Logged) -> None:
    Path("features.toml").write_text(
        FEATURES.replace('"click"', '"view"') + '[item.titel]\nkind = "text"\n[context.weekday]\nkind = "category"\n'
    )
    terminal.write("items", world.items())
    scored_and_joined(terminal)
    terminal("distil --drain")
    assert "no item has the attribute 'titel' of the feature specification, [item.titel]; did you mean 'title'?" in (
        terminal.errors
    )
    assert "no request has the context 'weekday'" in terminal.errors
    assert "has an action of the feature specification, [history] actions = ['view']" in terminal.errors
    assert "events have 'click'" in terminal.errors


def test_records_that_do_not_decode_do_not_hide_the_cause(terminal: Logged) -> None:
    log = open_log(LogSettings())
    stage = log.stage("hostile")
    with stage.transaction() as transaction:
        transaction.send("items", b"junk", key=b"x", partition=0)
        transaction.send("impressions", encode(LISTS[0]), key=b"k")
    stage.close()
    log.close()
    scored_and_joined(terminal)
    assert "no record of items can be read" in terminal.nothing("distil --drain")
