"""The protocol of the teacher's benchmark on sequences made by hand, and its whole run on a few of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.lines import write_lines

from benchmarks import bench_teacher
from benchmarks.bench_teacher import examples_of, measure, popularity, transitions

LINES = [["1", "2", "3", "4"], ["2", "3", "1", "4"], ["4", "2", "3", "1"]]
ITEMS = ["1", "2", "3", "4"]


def test_the_last_two_films_of_a_line_are_never_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_teacher, "STEP", 3)
    monkeypatch.setattr(bench_teacher, "LENGTH", 4)
    line = [str(n) for n in range(12)]
    lists = [one.ranking.impression for one in examples_of([line])]
    assert [[event.item for event in one.history] for one in lists] == [
        ["0", "1", "2"],
        ["2", "3", "4", "5"],
        ["5", "6", "7", "8"],
    ]
    assert [one.candidates[0].item for one in lists] == ["3", "6", "9"]


def test_plain_counts_are_those_made_by_hand() -> None:
    # Learnt are 1 2, 2 3 and 4 2; at the test the newest films are 3, 1 and 3.
    assert popularity(LINES, ITEMS)[0].tolist() == [1, 3, 1, 1]
    scores_UN = transitions(LINES, ITEMS)
    assert scores_UN[0].round().tolist() == [0, 0, 0, 0], "nothing came after film 3"
    assert scores_UN[1].argmax() == 1, "film 2 came after film 1"


def test_neighbours_know_who_had_what_and_nothing_of_the_last_two_films() -> None:
    lines = [["1", "2", "5", "6"], ["1", "2", "6", "5"], ["3", "4", "1", "2"], ["3", "4", "5", "6"]]
    items = ["1", "2", "3", "4", "5", "6"]
    assert bench_teacher.table(lines, items, 2).toarray().astype(int).tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0],
    ]
    for scorer in (bench_teacher.itemknn, bench_teacher.ease):
        scores_UN = scorer(lines, items)
        assert scores_UN[0, 1] > scores_UN[0, 3], "films 1 and 2 go together"
        assert np.abs(scores_UN[:, 4:]).max() < 1e-6, "nobody had films 5 and 6 in what is learnt"


def test_what_the_user_had_is_not_ranked_and_equals_come_first() -> None:
    rows = measure(np.array([[9, 9, 9, 1.0], [9, 9, 9, 1], [5, 9, 9, 9]]), LINES, ITEMS)
    assert rows["r@10"]["mean"] == rows["n@10"]["mean"] == 1.0
    lines = [["1", "2", "3"]]
    rows = measure(np.array([[9, 9, 1.0, 1, 2, 0]]), lines, ["1", "2", "3", "4", "5", "6"])
    assert rows["n@10"]["mean"] == pytest.approx(1 / np.log2(4)), "film 5 is before it, and film 4 is equal to it"


@pytest.mark.slow
def test_a_whole_run_on_a_few_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path)
    words = ["x", "--data", str(tmp_path), "--keep", str(tmp_path / "keep"), "--json", str(tmp_path / "out.json")]
    words += ["--settings", '{"epochs": 2, "dim": 8, "layers": 1}']
    monkeypatch.setattr("sys.argv", words)
    bench_teacher.main()
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())
    assert list(found["rows"]) == ["popularity", "transitions", "itemknn", "ease", "builtin"]
    assert found["size"] == {"users": 30, "items": 20, "events": 240}
    assert found["costs"]["passes"] == 2
    assert "cpu_seconds" in printed
    bench_teacher.main()  # the trained teacher is there
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == found["rows"]


@pytest.mark.slow
def test_a_teacher_that_is_kept_is_not_shown_for_other_settings_or_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path)

    def run(settings: str, *more: str) -> None:
        words = ["x", "--data", str(tmp_path), "--keep", str(tmp_path / "keep"), "--settings", settings, *more]
        monkeypatch.setattr("sys.argv", words)
        bench_teacher.main()

    run('{"epochs": 1, "dim": 8, "layers": 1}')
    for settings, more in (
        ('{"epochs": 2, "dim": 8, "layers": 1}', ()),
        ('{"epochs": 1, "dim": 8, "layers": 1}', ("--users", "20")),
    ):
        with pytest.raises(SystemExit, match="name another folder with --keep"):
            run(settings, *more)
    (tmp_path / "keep" / "asked.json").unlink()  # as an earlier version left it
    capsys.readouterr()
    run('{"epochs": 2, "dim": 8, "layers": 1}')
    assert "may be of other settings" in capsys.readouterr().err


def test_without_the_data_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--data", "/nowhere"])
    with pytest.raises(SystemExit) as ended:
        bench_teacher.main()
    assert ended.value.code == 77
    assert "/nowhere is not here" in capsys.readouterr().err
