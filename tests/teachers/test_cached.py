"""A cache that is never stale: what makes a question another one, what is kept, and what a file survives."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recdistill.errors import ConfigError, TeacherError
from recdistill.records import Candidate, Event, Impression, Item
from recdistill.teachers.cached import ENTRY_BYTES, CachedTeacher
from recdistill.teachers.contract import Scores, Teacher
from recdistill.teachers.ensemble import EnsembleTeacher
from recdistill.teachers.function import FunctionTeacher
from recdistill.teachers.logged import LoggedTeacher


class Titles:
    """A teacher that reads titles: it scores by the length of each, and says how often it was asked."""

    id, scale = "titles", "unbounded"

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.titles: dict[str, str] = {}
        self.calls: list[str] = []

    def apply_items(self, items: Sequence[Item]) -> None:
        self.titles |= {item.id: str(item.attributes.get("title", "")) for item in items}

    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        self.calls += [one.id for one in impressions]
        return [self._one(one) for one in impressions]

    def _one(self, one: Impression) -> Scores | TeacherError:
        if one.id == "bad":
            return TeacherError("bad")
        lengths = [len(self.titles.get(c.item, "")) for c in one.candidates]
        return Scores(np.array(lengths, np.float32), np.array([n > 0 for n in lengths]))


def asked(name: str = "r", **changes: object) -> Impression:
    base = Impression(
        name, 120_000_000, "u", (Event("a", 5, "click"),), {"x": 1.0}, (Candidate("b"), Candidate("c")), ("d",)
    )
    return msgspec.structs.replace(base, **changes)


ITEMS = [Item(name, 1, attributes={"title": "t" * n}) for n, name in enumerate("abcd", 1)]


def cached(teacher: Titles, **more: object) -> CachedTeacher:
    made = CachedTeacher(teacher, megabytes=1, **more)  # type: ignore[arg-type]
    made.apply_items(ITEMS)
    return made


def values(teacher: CachedTeacher, one: Impression) -> list[float]:
    [scores] = teacher.score([one])
    assert isinstance(scores, Scores)
    assert scores.scored_L.all()
    return scores.values_L.tolist()


SAME = [
    asked("other"),
    asked(user=None),
    asked(served_by="ab"),
    asked(candidates=(Candidate("b", 0.5), Candidate("c"))),
]
OTHER = [
    asked(time_us=120_000_001),
    asked(history=()),
    asked(history=(Event("a", 6, "click"),)),
    asked(history=(Event("a", 5, "buy"),)),
    asked(context={"x": 2.0}),
    asked(candidates=(Candidate("c"), Candidate("b"))),
    asked(exclude=()),
]


def test_the_same_question_is_asked_once() -> None:
    teacher = Titles()
    around = cached(teacher)
    assert values(around, asked()) == [2.0, 3.0]
    for one in SAME:
        assert values(around, one) == [2.0, 3.0]
    assert teacher.calls == ["r"]
    assert (around.asked, around.hits) == (2, 2 * len(SAME))
    for number, one in enumerate(OTHER, 2):
        values(around, one)
        assert len(teacher.calls) == number
    assert (around.id, around.version, around.scale) == ("titles", "1", "unbounded")


def test_within_one_call_too_and_errors_and_gaps_are_not_kept() -> None:
    teacher = Titles()
    around = cached(teacher)
    first, second, bad, gap = around.score(
        [asked("1"), asked("2"), asked("bad", context={}), asked("3", candidates=(Candidate("b"), Candidate("zz")))]
    )
    assert isinstance(first, Scores)
    assert isinstance(second, Scores)
    assert first.values_L.tolist() == second.values_L.tolist()
    assert isinstance(bad, TeacherError)
    assert isinstance(gap, Scores)
    assert gap.scored_L.tolist() == [True, False]
    around.score([asked("bad", context={}), asked("4", candidates=(Candidate("b"), Candidate("zz")))])
    assert teacher.calls == ["1", "bad", "3", "bad", "4"]
    assert (around.asked, around.hits) == (10, 2)


def test_an_item_that_changes_is_never_served_stale_and_others_do_not_matter() -> None:
    teacher = Titles()
    around = cached(teacher)
    values(around, asked())
    around.apply_items([Item("d", 2, attributes={"title": "new"}), Item("e", 1)])
    values(around, asked())
    assert len(teacher.calls) == 1
    around.apply_items([Item("c", 1, attributes={"title": "another"})])  # the same version, another record
    assert values(around, asked()) == [2.0, 7.0]
    around.apply_items([Item("a", 2)])  # in the history
    values(around, asked())
    assert len(teacher.calls) == 3


def test_a_new_version_of_the_teacher_answers_anew(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    for version, calls in (("1", 1), ("2", 1), ("1", 0)):
        teacher = Titles(version)
        around = cached(teacher, path=path)
        assert values(around, asked()) == [2.0, 3.0]
        assert len(teacher.calls) == calls
        around.close()


def test_requests_within_a_step_of_time_are_alike() -> None:
    teacher = Titles()
    around = cached(teacher, time_step_s=60.0)
    for time_us, calls in ((120_000_000, 1), (179_999_999, 1), (180_000_000, 2)):
        values(around, asked(time_us=time_us))
        assert len(teacher.calls) == calls


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    teacher = Titles()
    around = CachedTeacher(teacher, megabytes=3.5 * (ENTRY_BYTES + 8) / 1e6)
    around.apply_items(ITEMS)
    for name in "123":
        values(around, asked(name, context={"n": name}))
    values(around, asked("again", context={"n": "1"}))
    values(around, asked("4", context={"n": "4"}))  # "2" is the one that was used longest ago
    for name in "134":
        values(around, asked(name, context={"n": name}))
    assert teacher.calls == ["1", "2", "3", "4"]
    values(around, asked("2", context={"n": "2"}))
    assert teacher.calls[-1] == "2"


def test_a_file_is_bounded_and_survives(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite"
    around = cached(Titles(), path=path, file_megabytes=108 * 20 / 1e6)
    for n in range(50):
        values(around, asked(str(n), context={"n": str(n)}))
    around.close()
    [[rows]] = sqlite3.connect(path).execute("SELECT count(*) FROM answers").fetchall()
    assert 17 <= rows <= 20
    teacher = Titles()
    again = cached(teacher, path=path, file_megabytes=1)
    values(again, asked("x", context={"n": "49"}))
    assert teacher.calls == []
    values(again, asked("y", context={"n": "0"}))
    assert teacher.calls == ["y"]
    again.close()


def test_what_is_no_cache_is_refused_and_what_is_damaged_is_asked_again(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t(x)")
    db.close()
    with pytest.raises(ConfigError, match=r"other\.sqlite is a database of something else"):
        cached(Titles(), path=other)
    noise = tmp_path / "noise"
    noise.write_bytes(b"noise" * 1000)
    with pytest.raises(ConfigError, match="cannot be opened as a cache"):
        cached(Titles(), path=noise)
    path = tmp_path / "cache.sqlite"
    around = cached(Titles(), path=path)
    values(around, asked())
    around.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE answers SET scores = ?", (b"odd",))
    db.close()
    teacher = Titles()
    again = cached(teacher, path=path)
    assert values(again, asked()) == [2.0, 3.0]
    assert teacher.calls == ["r"]
    again.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE answers SET scores = ?", (np.zeros(5, "<f4").tobytes(),))
    db.close()
    teacher = Titles()
    again = cached(teacher, path=path)
    assert values(again, asked()) == [2.0, 3.0]
    assert teacher.calls == ["r"]
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE answers")
    db.close()
    assert values(again, asked("z", context={})) == [2.0, 3.0]  # goes on without the file


class Reading(Titles):
    """Scores by the user and by the product's score, and says so."""

    reads = frozenset({"user", "logged_score"})

    def _one(self, one: Impression) -> Scores | TeacherError:
        own = [len(one.user or "") + (c.logged_score or 0.0) for c in one.candidates]
        return Scores(np.array(own, np.float32), np.ones(len(own), bool))


def test_what_a_teacher_reads_makes_another_question() -> None:
    scored = [asked(user=user, candidates=(Candidate("b", p), Candidate("c"))) for user in ("u", "vw") for p in (1, 2)]
    around = cached(Reading())
    assert [values(around, one) for one in scored] == [[2.0, 1.0], [3.0, 1.0], [3.0, 2.0], [4.0, 2.0]]
    assert [values(around, one)[0] for one in scored] == [2.0, 3.0, 3.0, 4.0]
    assert (around.asked, around.hits) == (8, 8)


@pytest.mark.parametrize("together", [False, True])
def test_logged_scores_are_those_of_their_own_list(together: bool) -> None:
    logged: Teacher = LoggedTeacher("ranker", "7", "logit")
    if together:
        logged = EnsembleTeacher("one", [(logged, 1.0)])
    around = CachedTeacher(logged, megabytes=1)
    for scores in ((1.0, 2.0), (2.0, 1.0)):
        [found] = around.score([asked(candidates=tuple(map(Candidate, "bc", scores)))])
        assert isinstance(found, Scores)
        assert np.argsort(found.values_L).tolist() == np.argsort(scores).tolist()


def test_a_function_may_look_at_the_user() -> None:
    def by_user(lists: Sequence[Impression]) -> list[list[float]]:
        return [[float(one.user == "ann")] * len(one.candidates) for one in lists]

    around = CachedTeacher(FunctionTeacher(by_user, "f", "1", "unbounded"), megabytes=1)
    found = [around.score([asked(user=user)])[0] for user in ("ann", "ben")]
    assert [one.values_L.tolist() for one in found if isinstance(one, Scores)] == [[1.0, 1.0], [0.0, 0.0]]
