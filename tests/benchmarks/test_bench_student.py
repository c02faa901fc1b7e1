"""The lists that the student of MovieLens 1M learns from, and a whole run on lines made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.lines import write_lines

from benchmarks import bench_student, bench_teacher
from benchmarks.bench_student import draw, places


class Knows:
    """A teacher that likes films with a high number, and lists them in another order."""

    item_ids = tuple(str(n) for n in reversed(range(40)))

    def catalogue_scores(self, asked: list[object]) -> np.ndarray:
        return np.tile(np.arange(40, dtype=np.float32)[::-1], (len(asked), 1))


def test_no_list_has_the_last_two_films_as_its_choice() -> None:
    lines = [[str(n) for n in range(length)] for length in (3, 4, 9)]
    user_M, at_M = places(lines, 50, np.random.default_rng(0))
    assert user_M.tolist() == [1, *[2] * 6]
    assert at_M.tolist() == [1, *range(1, 7)]


def test_a_list_holds_the_choice_then_the_teachers_best_then_others_and_no_film_of_the_history() -> None:
    line = [str(n) for n in (39, 5, 38, 7, 1, 2)]
    drawn = draw([line], [str(n) for n in range(40)], Knows(), each=9, best=3, others=4)  # type: ignore[arg-type]
    assert drawn.at_M.tolist() == [1, 2, 3]
    assert drawn.films_MK[:, 0].tolist() == [5, 38, 7]
    assert [sorted(row) for row in drawn.films_MK[:, 1:4].tolist()] == [[36, 37, 38], [35, 36, 37], [35, 36, 37]]
    for at, films in zip(drawn.at_M, drawn.films_MK.tolist(), strict=True):
        assert len(set(films)) == 8
        assert not set(films) & set(map(int, line[:at]))
    assert np.array_equal(drawn.scores_MK, drawn.films_MK.astype(np.float32))


@pytest.mark.slow
def test_a_whole_run_on_a_few_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path)
    where = ["x", "--data", str(tmp_path)]
    teach = [*where, "--keep", str(tmp_path / "t"), "--settings", '{"epochs": 2, "dim": 8, "layers": 1}']
    monkeypatch.setattr("sys.argv", teach)
    bench_teacher.main()
    words = [*where, "--teacher", str(tmp_path / "t"), "--keep", str(tmp_path / "s"), "--dim", "8", "--passes", "2"]
    words += ["--best", "4", "--others", "4", "--each", "3", "--json", str(tmp_path / "out.json")]
    monkeypatch.setattr("sys.argv", words)
    capsys.readouterr()
    bench_student.main()
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["lists"] == 90
    assert list(found["kept"]) == ["teacher", "undistilled", "student"]
    assert [len(found["kept"][name]["passes"]) for name in ("undistilled", "student")] == [2, 2]
    assert "of the gain" in printed
    bench_student.main()  # nothing is learnt again
    assert capsys.readouterr().out == printed
    assert json.loads((tmp_path / "out.json").read_text()) == found
    # Of fewer users, other lists are drawn and other rows are made.
    monkeypatch.setattr("sys.argv", [*words, "--users", "12"])
    bench_student.main()
    fewer = json.loads((tmp_path / "out.json").read_text())
    assert fewer["lists"] == 36
    assert fewer["kept"]["teacher"] != found["kept"]["teacher"]


def test_without_a_teacher_it_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--data", str(tmp_path), "--teacher", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        bench_student.main()
    assert ended.value.code == 77
    assert "make one with bench_teacher" in capsys.readouterr().err
