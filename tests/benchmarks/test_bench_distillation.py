"""The benchmark of recipes: its ranks by brute force, and the rows that it promises."""

import json
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

from benchmarks.tables.pairs import read_pairs
from benchmarks.tables.recipes import table_recipe

RANDOM = np.random.default_rng(0)
U, N = 30, 700
SCORES = RANDOM.normal(size=(U, N)).astype(np.float32)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    from benchmarks import bench_distillation

    return bench_distillation


def test_a_budget_asks_about_a_share_and_first_about_what_the_champion_expects() -> None:
    from benchmarks.tables import teachers

    teacher = teachers.Plain(lambda users: SCORES[users], 0)
    champion = RANDOM.normal(size=(U, N)).astype(np.float32)
    users = np.arange(U)
    chosen = ~np.isnan(teachers.Partly(teacher, 0.3, lambda some: champion[some]).scores(users))
    at_random = ~np.isnan(teachers.Partly(teacher, 0.3, None).scores(users))
    assert (np.abs(chosen.sum(1) - 0.3 * N) <= 1).all()
    assert (np.abs(at_random.sum(1) - 0.3 * N) <= 1).all()
    best = np.argsort(-champion, 1)[:, :50]
    assert np.take_along_axis(chosen, best, 1).all()
    assert 0.2 < np.take_along_axis(at_random, best, 1).mean() < 0.4
    assert np.isclose(np.nan_to_num(teachers.Partly(teacher, 0.3, None).scores(users)), SCORES * at_random).all()


def test_differences_are_of_the_same_users_and_seeds(bench: ModuleType) -> None:
    random = np.random.default_rng(1)
    keys = [("default", 4, 0), ("default", 4, 1), ("rrd", 4, 1), ("rrd", 4, 2), ("ease", 0, 0)]
    each = {key: {"recall@20": random.random(9)} for key in keys}
    [gap] = bench.differences(each, ("default", 4), ("rrd", 4), "recall@20")
    np.testing.assert_array_equal(gap, each["default", 4, 1]["recall@20"] - each["rrd", 4, 1]["recall@20"])
    gaps = bench.differences(each, ("default", 4), ("ease", 0), "recall@20")
    np.testing.assert_array_equal(gaps[1], each["default", 4, 1]["recall@20"] - each["ease", 0, 0]["recall@20"])
    assert len(gaps) == 2


FULL = ("teacher", "bpr", "default without teacher", "default", "rrd", "default, 50% chosen")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "metrics", "seeds", "only"),
    [
        ("full", {"recall", "ndcg"}, 2, ()),
        ("loo499", {"hit", "ndcg"}, 1, ("teacher", "popularity", "itemknn", "ease", "default", "rrd")),
    ],
)
def test_it_prints_every_row_that_it_promises(
    bench: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
    metrics: set[str],
    seeds: int,
    only: tuple[str, ...],
) -> None:
    lines: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user in range(120):
        had = RANDOM.permutation(np.arange(user % 2, 3000, 2))[:9]
        for part, items in zip(lines, (had[:7], had[7:8], had[8:]), strict=True):
            lines[part] += [f"u{user}\ti{item}" for item in items]
    files = []
    for part, text in lines.items():
        path = tmp_path / f"{part}.tsv"
        path.write_text("\n".join(text) + "\n", encoding="utf-8")
        files += [f"--{part}", str(path)]
    out = tmp_path / "out.json"
    words = [*files, "--protocol", protocol, "--recipe", "default,rrd", "--teacher", "bpr"]
    words += ["--teacher-dim", "8", "--student-dim", "4", "--seeds", str(seeds), "--cache", str(tmp_path / "cache")]
    drawn = tmp_path / "frontier.svg"
    words += ["--picture", str(drawn), "--json", str(out)]
    words += ["--only", ",".join(only)] if only else ["--budget", "0.5"]
    monkeypatch.setattr(sys, "argv", ["bench_distillation", *words])
    bench.main()
    rows = json.loads(out.read_text(encoding="utf-8"))
    methods = [(row["method"], row["seed"]) for row in rows]
    for seed in range(seeds):
        for method in only or FULL:
            assert (method, seed) in methods
    assert {"popularity", "itemknn", "ease"} <= {row["method"] for row in rows}
    for row in rows:
        assert {"method", "dim", "seed", "metrics", "seconds", "params", "teacher"} == set(row)
        assert {name.partition("@")[0] for name in row["metrics"]} == metrics
        assert all(0 <= value <= 1 for value in row["metrics"].values())
    assert "default against each" in capsys.readouterr().out
    circles = [one for one in ET.parse(drawn).iter() if one.tag.endswith("circle")]
    assert len(circles) == len({(row["method"], row["dim"]) for row in rows})


def _table_files(folder: Path, users: int) -> list[str]:
    """Users of two groups, each with half of 60 items of its own; a train, a valid and a test part."""
    random = np.random.default_rng(1)
    lines: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user in range(users):
        had = random.permutation(np.arange(user % 2, 60, 2))[:9]
        for part, items in zip(lines, (had[:7], had[7:8], had[8:]), strict=True):
            lines[part] += [f"u{user}\ti{item}" for item in items]
    files = []
    for part, text in lines.items():
        path = folder / f"{part}.tsv"
        path.write_text("\n".join(text) + "\n", encoding="utf-8")
        files += [f"--{part}", str(path)]
    return files


@pytest.mark.slow
def test_the_builtin_teacher_learns_a_table_and_is_kept(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = _table_files(tmp_path, 120)
    words = [*files, "--teacher", "builtin", "--only", "popularity,default"]
    words += ["--student-dim", "4", "--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["bench_distillation", *words])
    bench.main()
    first = capsys.readouterr().err
    found = {row["method"]: row for row in json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))}
    # Nothing but the group can be learnt: with it a hit among the 20 best is about 20 of 22, without it half of that.
    assert found["teacher"]["metrics"]["recall@20"] > found["popularity"]["metrics"]["recall@20"] + 0.2
    assert found["default"]["metrics"]["recall@20"] > 0.7
    assert [one.name.startswith("builtin-") for one in (tmp_path / "cache").iterdir() if one.name != "rows"] == [True]
    bench.main()
    assert "s of CPU" in first
    assert "s of CPU" not in capsys.readouterr().err


@pytest.mark.parametrize("part", ["valid", "test"])
def test_a_kept_row_is_not_shown_for_another_part(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    words = [*_table_files(tmp_path, 40), "--teacher", "linear", "--only", "teacher,popularity", "--recipe", "default"]

    def rows(cache: str) -> list[dict[str, float]]:
        out = tmp_path / "out.json"
        told = [*words, "--json", str(out), "--cache", str(tmp_path / cache)]
        monkeypatch.setattr(sys, "argv", ["bench_distillation", *told])
        bench.main()
        return [row["metrics"] for row in json.loads(out.read_text(encoding="utf-8"))]

    before = rows("kept")
    file = tmp_path / f"{part}.tsv"
    file.write_text("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[1::2]), encoding="utf-8")
    assert rows("kept") == rows("fresh") != before


def test_a_row_that_nobody_makes_is_refused_before_any_work(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*_table_files(tmp_path, 12), "--only", "teacher,rrd", "--recipe", "default"]
    monkeypatch.setattr(sys, "argv", ["bench_distillation", *words])
    monkeypatch.setattr(bench, "run", lambda chosen: pytest.fail("it began"))
    with pytest.raises(SystemExit) as refused:
        bench.main()
    assert refused.value.code == (
        "bench_distillation: --only rrd: there is no such row here; there are teacher, popularity, itemknn, ease, bpr, "
        "default, default without teacher"
    )


def test_at_most_so_many_epochs_whatever_the_recipe_says(bench: ModuleType) -> None:
    recipe = table_recipe("default")
    cut = bench._formed(recipe, "history", 45)
    assert cut.student.form == "history"
    assert [cut.fit.epochs, cut.by_dim[64].epochs, cut.alone.epochs] == [40, 45, 45]
    assert bench._formed(recipe, None, None) == recipe


def test_a_table_is_scored_user_by_user_as_impressions_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.tables import builtin

    small = msgspec.structs.replace(builtin.SETTINGS, dim=8, pooled_dim=8, epochs=1)
    monkeypatch.setattr(builtin, "SETTINGS", small)
    files = dict(zip(*[iter(_table_files(tmp_path, 12))] * 2, strict=True))
    pairs = read_pairs(*(Path(files[f"--{part}"]) for part in ("train", "valid", "test")))
    train = Path(files["--train"])
    table = builtin.table_teacher(train, pairs, 0, tmp_path / "teacher")
    assert table.lines == [
        [line.split("\t")[1] for line in train.read_text(encoding="utf-8").splitlines() if line.startswith(f"{user}\t")]
        for user in pairs.users
    ]
    users = np.array([3, 0, 11])
    asked = [builtin.impression("x", table.lines[user], pairs.items) for user in users]
    expected = [answer.values_L for answer in table.teacher.score(asked)]
    np.testing.assert_allclose(table.scores(users), np.stack(expected), atol=1e-5)
    assert builtin.kind(0) != builtin.kind(1)
