"""A function as a teacher: what it may return, and that a failure spoils only its own list."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from recdistill.config import TeacherSettings, load_function
from recdistill.errors import ConfigError, TeacherError
from recdistill.loops.teachers import open_teacher
from recdistill.records import Candidate, Impression, Item
from recdistill.teachers import Scores
from recdistill.teachers.function import FunctionTeacher

LISTS = [Impression(name, 1, candidates=(Candidate("x"), Candidate("yy"))) for name in ("a", "b", "c")]


def teacher(function: Any) -> FunctionTeacher:
    return FunctionTeacher(function, "f", "1", "unbounded")


def lengths(impressions: Sequence[Impression]) -> list[list[float]]:
    return [[float(len(candidate.item)) for candidate in one.candidates] for one in impressions]


def test_a_list_of_numbers_each() -> None:
    answers = teacher(lengths).score(LISTS)
    for answer in answers:
        assert isinstance(answer, Scores)
        assert answer.values_L.dtype == np.float32
        assert answer.values_L.tolist() == [1.0, 2.0]
        assert answer.scored_L.all()


def test_none_masks_and_an_exception_is_that_lists_error() -> None:
    answers = teacher(lambda lists: [[None, 3], ValueError("too hard"), np.array([1.0, 2.0])]).score(LISTS)
    assert isinstance(answers[0], Scores)
    assert answers[0].scored_L.tolist() == [False, True]
    assert isinstance(answers[1], TeacherError)
    assert "impression b" in str(answers[1])
    assert "too hard" in str(answers[1])
    assert isinstance(answers[2], Scores)


def test_a_batch_that_raises_is_tried_list_by_list() -> None:
    calls: list[int] = []

    def fussy(impressions: Sequence[Impression]) -> list[list[float]]:
        calls.append(len(impressions))
        if any(one.id == "b" for one in impressions):
            raise RuntimeError("no b")
        return lengths(impressions)

    answers = teacher(fussy).score(LISTS)
    assert calls == [3, 1, 1, 1]
    assert [type(answer) for answer in answers] == [Scores, TeacherError, Scores]
    assert "no b" in str(answers[1])


def test_a_function_that_cannot_answer_just_now_spoils_no_list_while_each_is_tried_alone() -> None:
    """The scorer waits after a `TeacherError`. Lists that were not answered meanwhile are no dead letters."""

    def leaves(impressions: Sequence[Impression]) -> list[list[float]]:
        if len(impressions) > 1:
            raise RuntimeError("a batch is too much")
        if impressions[0].id == "b":
            raise TeacherError("the ranker is away")
        return lengths(impressions)

    with pytest.raises(TeacherError, match="the ranker is away"):
        teacher(leaves).score(LISTS)


@pytest.mark.parametrize("answer", ["ab", [["x"], 3], [object(), None], 7])
def test_what_is_no_list_of_numbers_is_an_error_of_that_list(answer: Any) -> None:
    [first, second] = teacher(lambda lists: [[1.0, 2.0], answer][: len(lists)]).score(LISTS[:2])
    assert isinstance(first, Scores)
    assert isinstance(second, TeacherError)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_or_too_many_numbers_are_an_error_of_that_list(count: int) -> None:
    """Nobody who asks has to look: the judge would compare them with the list's labels."""
    first, second = teacher(lambda lists: [[1.0, 2.0], [1.0] * count][: len(lists)]).score(LISTS[:2])
    assert isinstance(first, Scores)
    assert isinstance(second, TeacherError)
    assert str(second) == f"impression b: 2 candidates, but scores of shape ({count},)"


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 1e39, -1e300, 2e12, None])
def test_what_is_no_number_to_learn_from_is_masked(odd: float | None) -> None:
    three = Impression("a", 1, candidates=tuple(map(Candidate, "xyz")))
    [answer] = teacher(lambda lists: [[1.0, odd, 3.0]]).score([three])
    assert isinstance(answer, Scores)
    assert answer.values_L.tolist() == [1.0, 0.0, 3.0]
    assert answer.scored_L.tolist() == [True, False, True]


def test_answering_too_few_is_the_teachers_failure() -> None:
    with pytest.raises(TeacherError, match="answered 1 of 3"):
        teacher(lambda lists: [[1.0, 2.0]]).score(LISTS)


def test_items_go_to_the_functions_own_hook() -> None:
    got: list[Item] = []

    class Ranker:
        def __call__(self, impressions: Sequence[Impression]) -> list[list[float]]:
            return lengths(impressions)

        def apply_items(self, items: Sequence[Item]) -> None:
            got.extend(items)

    teacher(Ranker()).apply_items([Item("x")])
    teacher(lengths).apply_items([Item("y")])
    assert [one.id for one in got] == ["x"]


def test_settings_name_the_function() -> None:
    opened = open_teacher(TeacherSettings(kind="callable", function="builtins:len", id="i", version="9", scale="rank"))
    assert (opened.id, opened.version, opened.scale) == ("i", "9", "rank")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "package.module:function"),
        ("json", "package.module:function"),
        (":dumps", "package.module:function"),
        ("no.such.module:f", "cannot be imported"),
        ("json:nothing", "cannot be imported"),
        ("json:__name__", "not a function"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_sentence(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        load_function(name)
    assert "\n" not in str(caught.value)
