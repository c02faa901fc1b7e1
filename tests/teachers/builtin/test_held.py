"""What is held out of a training, and what each question's user had before, against counting by hand."""

from __future__ import annotations

import numpy as np
from support.circle import ITEMS, SPEC, circle

from recdistill.features import Catalogue, Vocabulary
from recdistill.records import Example, Item
from recdistill.teachers.builtin.held import had, hold_out
from recdistill.teachers.builtin.sequences import Timelines, cut, timelines, windows


def lines_of(examples: list[Example]) -> Timelines:
    catalogue = Catalogue(SPEC, Vocabulary(SPEC))
    for item in ITEMS:
        catalogue.apply(Item(item), admit=True)
    return timelines(SPEC, catalogue, examples)


def test_the_last_choice_of_some_timelines_is_held_out_and_no_other() -> None:
    lines = lines_of(circle(40))
    learnt, held = hold_out(lines, 3, 3, np.random.default_rng(0))
    assert len(held.cuts) == 3
    # By hand: a timeline has 5 events and the choice, 6 questions; the held ones are the last, after 3 events.
    for begin, end, first, last in held.cuts.tolist():
        assert last - first == 1
        assert last in lines.first_question_T1
        assert end in lines.first_T1
        assert end - begin == 3
    gone = {int(row[2]) for row in held.cuts}
    kept = [n for n in range(len(lines.question_slot_M)) if n not in gone]
    assert learnt.question_slot_M.tolist() == lines.question_slot_M[kept].tolist()
    assert np.diff(learnt.first_question_T1).tolist().count(5) == 3
    assert np.diff(learnt.first_question_T1).tolist().count(6) == 37
    assert len(hold_out(lines, 3, 1000, np.random.default_rng(0))[1].cuts) == 4  # a tenth at most


def test_without_overlap_each_question_comes_once_in_a_pass() -> None:
    lines = lines_of(circle(7, length=11))
    for seed in range(5):
        cuts = cut(lines, 4, np.random.default_rng(seed), overlapping=False)
        assert sorted(q for row in cuts.tolist() for q in range(row[2], row[3])) == list(
            range(len(lines.question_slot_M))
        )


def test_what_a_user_had_is_found_as_by_counting() -> None:
    lines = lines_of(circle(3, length=11))
    cuts = cut(lines, 4, np.random.default_rng(1))
    _, question_BQ = windows(lines, cuts, 100, np.random.default_rng(0))
    column_N = np.arange(12)
    column_N[5] = -1
    got = set(zip(*(a.tolist() for a in had(lines, cuts, question_BQ, column_N)), strict=True))
    wanted = set()
    for number, question in enumerate(q for row in question_BQ.tolist() for q in row if q >= 0):
        line = np.searchsorted(lines.first_question_T1, question, side="right") - 1
        first = lines.first_T1[line]
        for slot in lines.slots_E[first : first + lines.question_at_M[question]].tolist():
            if slot != 5:
                wanted.add((number, slot))
    assert got == wanted
    only_B = np.arange(len(cuts)) == 2
    before = int((question_BQ[:2] >= 0).sum())
    inside = range(before, before + int((question_BQ[2] >= 0).sum()))
    some = set(zip(*(a.tolist() for a in had(lines, cuts, question_BQ, column_N, only_B)), strict=True))
    assert some == {pair for pair in wanted if pair[0] in inside}
