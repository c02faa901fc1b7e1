"""The linear teacher against dense algebra written out here, and its files against tampering."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from recdistill import linear
from recdistill.config import TeacherSettings
from recdistill.errors import TeacherError
from recdistill.loops.teachers import open_teacher
from recdistill.records import Candidate, Event, Example, Impression, Ranking
from recdistill.sealed import entry_of
from recdistill.teachers import Scores
from recdistill.teachers.linear import Blend
from recdistill.teachers.linear.teacher import LinearTeacher, train_linear_teacher

SETTINGS = Blend(l2=2.0, filter=0.5, popularity=0.25, half_life=2.0, history=4)


def liked(users: int, items: int, seed: int = 0) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    x = (random.random((users, items)) < 0.3).astype(float)
    x[np.arange(users), random.integers(0, items, users)] = 1.0
    return x[:, x.any(0)]


def lists(x: NDArray[np.float64]) -> list[Example]:
    made = []
    for user, row in enumerate(x):
        *before, last = (f"a{item}" for item in np.flatnonzero(row))
        asked = Impression(
            f"i{user}", 9, user=f"u{user}", history=tuple(Event(i, 1) for i in before), candidates=(Candidate(last),)
        )
        made.append(Example(Ranking(asked, "", "", "rank", (0.0,), (False,)), (1.0,), "closed"))
    return made


def ask(*history: str, candidates: tuple[str, ...]) -> Impression:
    events = tuple(Event(item, 1 + n) for n, item in enumerate(history))
    return Impression("q", 99, history=events, candidates=tuple(map(Candidate, candidates)))


def taught(folder: Path, x: NDArray[np.float64], settings: Blend = SETTINGS) -> LinearTeacher:
    train_linear_teacher(lists(x), settings, folder / "teacher")
    return LinearTeacher.load(folder / "teacher")


def standard(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return (scores - scores.mean()) / scores.std()


@pytest.mark.parametrize("shape", [(40, 12), (9, 30)], ids=["more users", "more items"])
def test_scores_are_the_weighted_sum_over_a_history_that_fades(tmp_path: Path, shape: tuple[int, int]) -> None:
    x = liked(*shape)
    count = x.shape[1]
    teacher = taught(tmp_path, x)
    # Five events of which four count; a1 again: only its newest event counts; the stranger takes a place.
    asked = ask("a0", "a1", "a3", "stranger", "a1", candidates=("a5", "a3", "nobody", "a0", "a4"))
    h = np.zeros(count)
    h[1], h[3] = 1.0, 0.5 ** (2 / 2.0)
    p = np.linalg.inv(x.T @ x + 2.0 * np.eye(count))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0.0)
    rn = x / np.sqrt(x.sum(1))[:, None] / np.sqrt(x.sum(0))
    total = standard(h @ b) + 0.5 * standard(h @ rn.T @ rn) + 0.25 * standard(np.log1p(x.sum(0)))
    [answer] = teacher.score([asked])
    assert isinstance(answer, Scores)
    assert answer.scored_L.tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(answer.values_L[answer.scored_L], total[[5, 3, 0, 4]], rtol=1e-4, atol=1e-5)


def test_a_stranger_gets_popularity_or_nothing(tmp_path: Path) -> None:
    x = liked(20, 8)
    stranger = ask("nobody", candidates=tuple(f"a{n}" for n in range(8)))
    (tmp_path / "b").mkdir()
    [scores] = taught(tmp_path, x).score([stranger])
    assert isinstance(scores, Scores)
    assert [np.argmax(scores.values_L), np.argmin(scores.values_L)] == [np.argmax(x.sum(0)), np.argmin(x.sum(0))]
    alone = taught(tmp_path / "b", x, msgspec.structs.replace(SETTINGS, popularity=0.0))
    [nothing, scored] = alone.score([stranger, ask("a0", candidates=("a1",))])
    assert isinstance(nothing, Scores)
    assert isinstance(scored, Scores)
    assert (nothing.scored_L.any(), scored.scored_L.tolist()) == (False, [True])


def test_only_the_most_popular_items_are_known_where_both_sides_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "MOST_INVERTED", 5)
    monkeypatch.setattr("recdistill.linear.closed.MOST_INVERTED", 5)
    x = liked(30, 9)
    [scores] = taught(tmp_path, x).score([ask("a0", candidates=tuple(f"a{n}" for n in range(9)))])
    assert isinstance(scores, Scores)
    assert scores.scored_L.sum() == 5
    assert x.sum(0)[scores.scored_L].min() >= x.sum(0)[~scores.scored_L].max()


def test_the_version_follows_what_was_learnt_and_how_it_is_read(tmp_path: Path) -> None:
    versions = []
    for n, (seed, half_life) in enumerate([(0, 2.0), (0, 2.0), (1, 2.0), (0, 3.0)]):
        (tmp_path / str(n)).mkdir()
        settings = msgspec.structs.replace(SETTINGS, half_life=half_life)
        versions.append(taught(tmp_path / str(n), liked(20, 8, seed), settings).version)
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


def test_blocks_and_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = taught(tmp_path, liked(20, 8))
    asked = [ask(f"a{n}", candidates=("a1", "a2")) for n in range(6)]
    whole = teacher.score(asked)
    monkeypatch.setattr("recdistill.teachers.linear.teacher._BLOCK", 20)
    for one, other in zip(whole, teacher.score(asked), strict=True):
        assert isinstance(one, Scores)
        assert isinstance(other, Scores)
        np.testing.assert_allclose(one.values_L, other.values_L, rtol=1e-5)
    late = teacher.score(asked, deadline_s=-1.0)
    assert all("the deadline of -1 s passed" in str(answer) for answer in late)


def test_the_settings_open_it(tmp_path: Path) -> None:
    teacher = taught(tmp_path, liked(20, 8))
    opened = open_teacher(TeacherSettings(kind="linear", path=str(tmp_path / "teacher")))
    assert (opened.id, opened.version, opened.scale) == ("linear", teacher.version, "unbounded")


def test_what_cannot_be_taught_says_so(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="neither a history nor a positive label"):
        train_linear_teacher([], SETTINGS, tmp_path / "teacher")
    taught(tmp_path, liked(20, 8))
    with pytest.raises(TeacherError, match="exists already"):
        train_linear_teacher(lists(liked(20, 8)), SETTINGS, tmp_path / "teacher")
    (tmp_path / "file").write_text("")
    with pytest.raises(TeacherError, match="cannot be written"):
        train_linear_teacher(lists(liked(20, 8)), SETTINGS, tmp_path / "file" / "teacher")


def _change(key: str, value: Any) -> Any:
    def change(folder: Path) -> None:
        file = folder / "teacher.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))

    return change


def _signed(change: Any) -> Any:
    """A forger who brings the hashes up to date."""

    def forge(folder: Path) -> None:
        from recdistill.teachers.linear.files import _Array, _Description

        change(folder)
        file = folder / "teacher.json"
        found = msgspec.json.decode(file.read_bytes(), type=_Description)
        arrays = {
            name: _Array(
                list(np.load(folder / f"{name}.npy").shape), entry_of((folder / f"{name}.npy").read_bytes()).sha256
            )
            for name in found.arrays
        }
        found = msgspec.structs.replace(found, arrays=arrays)
        file.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, version=found.digest())))

    return forge


def _array(name: str, change: Any) -> Any:
    return lambda folder: np.save(folder / f"{name}.npy", change(np.load(folder / f"{name}.npy")))


def _poison(array: NDArray[Any]) -> NDArray[Any]:
    array[0] = np.nan
    return array


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "teacher.json").unlink(), "teacher.json: is missing"),
        (lambda folder: (folder / "teacher.json").write_text("[" * 5000), "does not describe a linear teacher"),
        (lambda folder: (folder / "weights.npy").unlink(), "weights.npy: is missing"),
        (_change("items", ["a"]), "has been changed"),
        (_change("format", 9), "format 9 of 'linear' is not known"),
        (_change("kind", "builtin"), "of 'builtin' is not known"),
        (_array("weights", lambda a: 2 * a), "is not the file that teacher.json describes"),
        (_signed(_array("weights", _poison)), "do not fit each other"),
        (_signed(_array("weights", lambda a: a[:-1])), "do not fit each other"),
        (_signed(_array("weights", lambda a: a.astype(np.float64))), "weights.npy: holds float64"),
        (_signed(_array("indices", lambda a: a + 1)), "do not fit each other"),
        (_signed(_array("indptr", lambda a: a[::-1].copy())), "do not fit each other"),
    ],
)
def test_a_spoilt_folder_is_refused(tmp_path: Path, spoil: Any, sentence: str) -> None:
    taught(tmp_path, liked(20, 8))
    spoil(tmp_path / "teacher")
    with pytest.raises(TeacherError, match=sentence.replace("(", r"\(")):
        LinearTeacher.load(tmp_path / "teacher")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    taught(tmp_path, liked(20, 8))

    def pickled(folder: Path) -> None:
        np.save(folder / "weights.npy", np.array([{}]), allow_pickle=True)

    pickled(tmp_path / "teacher")
    text = json.loads((tmp_path / "teacher" / "teacher.json").read_text())
    from recdistill.teachers.linear.files import _Description

    text["arrays"]["weights"]["sha256"] = entry_of((tmp_path / "teacher" / "weights.npy").read_bytes()).sha256
    found = msgspec.convert(text, _Description)
    found = msgspec.structs.replace(found, version=found.digest())
    (tmp_path / "teacher" / "teacher.json").write_bytes(msgspec.json.encode(found))
    with pytest.raises(TeacherError, match=r"weights.npy: holds object"):
        LinearTeacher.load(tmp_path / "teacher")
