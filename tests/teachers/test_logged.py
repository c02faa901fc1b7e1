"""Logged scores are handed on as they are."""

from __future__ import annotations

import numpy as np

from recdistill.config import TeacherSettings
from recdistill.loops.teachers import open_teacher
from recdistill.records import Candidate, Impression, Item
from recdistill.teachers import Scores, masked
from recdistill.teachers.logged import LoggedTeacher

TEACHER = LoggedTeacher("ranker", "7", "probability")


def test_settings_open_it() -> None:
    settings = TeacherSettings(kind="logged", id="r", version="v", scale="rank")
    assert open_teacher(settings) == LoggedTeacher("r", "v", "rank")


def test_scores_are_those_of_the_list_and_absent_ones_are_masked() -> None:
    one = Impression("a", 1, candidates=(Candidate("x", 0.25), Candidate("y"), Candidate("z", 0.0)))
    [answer] = TEACHER.score([one])
    assert isinstance(answer, Scores)
    np.testing.assert_array_equal(answer.values_L, np.array([0.25, 0, 0], np.float32))
    assert answer.scored_L.tolist() == [True, False, True]  # a score of 0 is a score


def test_a_list_without_any_score_is_masked_whole() -> None:
    good = Impression("good", 1, candidates=(Candidate("x", 1.5),))
    bare = Impression("bare", 1, candidates=(Candidate("x"), Candidate("y")))
    first, second, third = TEACHER.score([good, bare, good], deadline_s=1.0)
    assert isinstance(first, Scores)
    assert isinstance(second, Scores)
    assert second.scored_L.tolist() == [False, False]
    assert isinstance(third, Scores)


def test_items_do_not_matter() -> None:
    one = Impression("a", 1, candidates=(Candidate("x", 0.25),))
    TEACHER.apply_items([Item("x", withdrawn=True)])
    assert isinstance(TEACHER.score([one])[0], Scores)
    assert TEACHER.score([]) == []


def test_a_list_without_a_candidate_has_no_score() -> None:
    """A product may have nothing left to show. The scorer must go on."""
    (answer,) = TEACHER.score([Impression(id="i", time_us=1)])
    assert isinstance(answer, Scores)
    found = masked(answer)
    assert (found.values_L.shape, found.scored_L.dtype) == ((0,), np.dtype(bool))
