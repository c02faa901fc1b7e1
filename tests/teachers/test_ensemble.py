"""The ensemble: sums by hand, what is masked, what is an error, and that scales of members do not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from recdistill.config import parse_settings
from recdistill.errors import ConfigError, TeacherError
from recdistill.loops.teachers import open_teacher
from recdistill.records import Candidate, Impression, Item
from recdistill.teachers import Scores
from recdistill.teachers.ensemble import EnsembleTeacher
from recdistill.teachers.function import FunctionTeacher

LISTS = [Impression(name, 1, candidates=tuple(Candidate(c) for c in "abcd")) for name in ("x", "y")]
FIRST = [[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 5.0, 2.0]]
SECOND = [[7.0, 7.0, 9.0, 1.0], [3.0, 2.0, 1.0, 0.0]]


def says(answers: Sequence[object], name: str = "f", version: str = "1") -> FunctionTeacher:
    return FunctionTeacher(lambda asked: [answers[LISTS.index(one)] for one in asked], name, version, "unbounded")


def values(answer: Scores | TeacherError) -> list[float]:
    assert isinstance(answer, Scores)
    assert answer.scored_L.all()
    return answer.values_L.tolist()


def test_the_sum_of_standard_scores() -> None:
    teacher = EnsembleTeacher("e", [(says(FIRST), 1.0), (says(SECOND), 0.25)])
    for answer, one, other in zip(teacher.score(LISTS), FIRST, SECOND, strict=True):
        expected = sum(w * (np.array(s) - np.mean(s)) / np.std(s) for s, w in ((one, 1.0), (other, 0.25)))
        np.testing.assert_allclose(values(answer), expected, rtol=1e-5)


def test_the_scale_of_a_member_does_not_matter() -> None:
    scaled = [[1e4 * score - 3e3 for score in scores] for scores in FIRST]
    plain = EnsembleTeacher("e", [(says(FIRST), 1.0), (says(SECOND), 1.0)]).score(LISTS)
    other = EnsembleTeacher("e", [(says(scaled), 1.0), (says(SECOND), 1.0)]).score(LISTS)
    for one, two in zip(plain, other, strict=True):
        np.testing.assert_allclose(values(one), values(two), atol=1e-5)


def test_a_member_that_finds_all_alike_adds_nothing() -> None:
    alone = EnsembleTeacher("e", [(says(FIRST), 1.0)]).score(LISTS)
    both = EnsembleTeacher("e", [(says(FIRST), 1.0), (says([[0.1] * 4] * 2), 9.0)]).score(LISTS)
    assert list(map(values, alone)) == list(map(values, both))


def test_a_candidate_that_one_member_left_out_is_masked_and_counts_for_nobody() -> None:
    partly = [[7.0, None, 9.0, 1.0], [3.0, 2.0, float("nan"), 0.0]]
    for answer, one, other, left in zip(
        EnsembleTeacher("e", [(says(FIRST), 1.0), (says(partly), 1.0)]).score(LISTS),
        FIRST,
        SECOND,
        ([0, 2, 3], [0, 1, 3]),
        strict=True,
    ):
        assert isinstance(answer, Scores)
        assert np.flatnonzero(answer.scored_L).tolist() == left
        expected = sum(
            (np.array(s)[left] - np.mean(np.array(s)[left])) / np.std(np.array(s)[left]) for s in (one, other)
        )
        np.testing.assert_allclose(answer.values_L[left], expected, rtol=1e-5)


def test_a_list_that_a_member_fails_on_is_an_error_and_spoils_no_other() -> None:
    failing = says([SECOND[0], ValueError("no")], "tired")
    [fine, error] = EnsembleTeacher("e", [(says(FIRST), 1.0), (failing, 1.0)]).score(LISTS)
    assert isinstance(fine, Scores)
    assert str(error) == "impression y: no (member tired of ensemble e)"


def test_a_list_without_common_ground_is_masked() -> None:
    halves = [says([[1.0, 2.0, None, None]] * 2), says([[None, 2.0, 3.0, 4.0], [None, None, 3.0, 4.0]])]
    [one, nothing] = EnsembleTeacher("e", [(half, 1.0) for half in halves]).score(LISTS)
    assert isinstance(one, Scores)
    assert (one.scored_L.tolist(), one.values_L.tolist()) == ([False, True, False, False], [0.0] * 4)
    assert isinstance(nothing, Scores)
    assert (nothing.scored_L.any(), nothing.values_L.tolist()) == (False, [0.0] * 4)


def test_a_member_that_cannot_answer_at_all_raises() -> None:
    def down(asked: Sequence[Impression]) -> list[list[float]]:
        raise TeacherError("the server is away")

    with pytest.raises(TeacherError, match="the server is away"):
        EnsembleTeacher("e", [(says(FIRST), 1.0), (FunctionTeacher(down, "d", "1", "logit"), 1.0)]).score(LISTS)


def test_members_share_the_deadline() -> None:
    told: list[float | None] = []

    class Slow(FunctionTeacher):
        def score(
            self, impressions: Sequence[Impression], *, deadline_s: float | None = None
        ) -> list[Scores | TeacherError]:
            told.append(deadline_s)
            return super().score(impressions)

    slow = Slow(lambda asked: FIRST, "s", "1", "unbounded")
    EnsembleTeacher("e", [(slow, 1.0), (slow, 1.0)]).score(LISTS, deadline_s=5.0)
    EnsembleTeacher("e", [(slow, 1.0)]).score(LISTS)
    assert told[2] is None
    assert told[0] is not None
    assert told[1] is not None
    assert 0 < told[1] <= told[0] <= 5.0


def test_items_are_told_to_each_member() -> None:
    class Hearing:
        def __init__(self) -> None:
            self.heard: list[str] = []

        def __call__(self, asked: Sequence[Impression]) -> list[list[float]]:
            return FIRST

        def apply_items(self, items: Sequence[Item]) -> None:
            self.heard += [item.id for item in items]

    functions = [Hearing(), Hearing()]
    teacher = EnsembleTeacher("e", [(FunctionTeacher(f, "h", "1", "rank"), 1.0) for f in functions])
    teacher.apply_items([Item("a"), Item("b")])
    assert [f.heard for f in functions] == [["a", "b"]] * 2


def test_the_version_follows_members_versions_and_weights() -> None:
    def version(name: str = "f", member: str = "1", weight: float = 1.0) -> str:
        return EnsembleTeacher("e", [(says(FIRST, name, member), weight), (says(SECOND), 1.0)]).version

    made = [version(), version("g"), version(member="2"), version(weight=0.5)]
    assert len(set(made)) == 4
    assert version() == made[0]
    assert EnsembleTeacher("e", [(says(FIRST), 1.0)], "mine").version == "mine"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: EnsembleTeacher("e", []), "needs at least one member"),
        (lambda: EnsembleTeacher("e", [(says(FIRST), 0.0)]), "weight of f must be above 0, not 0.0"),
        (lambda: EnsembleTeacher("e", [(says(FIRST), float("nan"))]), "weight of f must be above 0, not nan"),
    ],
)
def test_what_is_no_ensemble(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_settings_open_members_within_members() -> None:
    settings = parse_settings(
        '[teacher]\nkind = "ensemble"\nid = "all"\n'
        '[[teacher.members]]\nkind = "logged"\nid = "a"\nversion = "3"\n'
        '[[teacher.members]]\nkind = "ensemble"\nweight = 0.5\n[[teacher.members.members]]\nkind = "logged"\nid = "b"\n'
    )
    teacher = open_teacher(settings.teacher)
    asked = Impression("i", 1, candidates=(Candidate("a", 2.0), Candidate("b", 1.0)))
    assert values(teacher.score([asked])[0]) == [1.5, -1.5]
    assert teacher.id == "all"


@pytest.mark.parametrize("wrong", [[1.0], [1.0, 2.0, 3.0], [1.0] * 5])
def test_a_member_that_answers_a_list_with_too_few_or_too_many_numbers_spoils_that_list_alone(
    wrong: list[float],
) -> None:
    """One number would stand for all candidates, and more of them would end the scorer with a traceback."""
    teacher = EnsembleTeacher("e", [(says(FIRST), 1.0), (says([SECOND[0], wrong], "g"), 1.0)])
    first, second = teacher.score(LISTS)
    assert isinstance(first, Scores)
    assert isinstance(second, TeacherError)
    assert f"impression y: 4 candidates, but scores of shape ({len(wrong)},) (member g of ensemble e)" in str(second)


def test_a_member_that_answers_too_few_lists_cannot_answer() -> None:
    class Few:
        id, version, scale = "few", "1", "unbounded"

        def apply_items(self, items: Sequence[Item]) -> None: ...

        def score(
            self, impressions: Sequence[Impression], *, deadline_s: float | None = None
        ) -> list[Scores | TeacherError]:
            return []

    with pytest.raises(TeacherError, match="member few answered 0 of 2 impressions"):
        EnsembleTeacher("e", [(says(FIRST), 1.0), (Few(), 1.0)]).score(LISTS)
