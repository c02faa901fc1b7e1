"""The benchmark of the built-in teacher: its split and ranks by hand, its plain SASRec, and the rows it promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    from benchmarks import bench_builtin

    return bench_builtin


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users go round 20 films, each from a film of its own; film 21 has a single rating."""
    made = tmp_path_factory.mktemp("ml")
    ratings = [
        f"{user + 1}\t{(user * 7 + step) % 20 + 1}\t4\t{880_000_000 + user * 90_000 + step * 100}"
        for user in range(40)
        for step in range(12)
    ]
    ratings.append("1\t21\t5\t880000050")
    films = [
        f"{n}|Film {n} (1990)|01-Jan-1990||x|{'|'.join('01'[k == n % 19] for k in range(19))}" for n in range(1, 22)
    ]
    (made / "u.data").write_text("\n".join(ratings) + "\n")
    (made / "u.item").write_text("\n".join(films) + "\n")
    (made / "u.user").write_text("\n".join(f"{n + 1}|30|M|writer|00000" for n in range(40)) + "\n")
    return made


def test_rare_films_are_left_out_and_the_last_two_events_held_back(bench: ModuleType, folder: Path) -> None:
    world = bench.read(folder, 5)
    assert (len(world.lines), len(world.items)) == (40, 20)
    line = [world.items[moment.item].id for moment in world.lines[0]]
    assert line == [str(n) for n in range(1, 13)]
    assert [world.items[n].id for n in world.histories(2)[0]] == line[:10]
    assert bench.read(folder, 1).lines[0][1].item == 20
    table = world.table(world.histories(1))
    assert table.shape == (40, 20)
    assert table.sum() == 40 * 11


def test_ranks_and_figures_are_those_of_a_sort(bench: ModuleType) -> None:
    random = np.random.default_rng(0)
    scores_UN = random.normal(size=(30, 40)).astype(np.float32)
    targets_U = random.integers(40, size=30)
    had = [random.choice(40, 7, replace=False).tolist() for _ in range(30)]
    for seen in (None, had):
        expected = []
        for user, target in enumerate(targets_U.tolist()):
            free = [n for n in range(40) if seen is None or n not in seen[user] or n == target]
            expected.append(1 + sorted(free, key=lambda n, user=user: -scores_UN[user, n]).index(target))
        assert bench.ranks(scores_UN, targets_U, seen).tolist() == expected
    assert bench.ranks(np.zeros((1, 5)), np.array([2]), None).tolist() == [5]  # whoever says nothing finds nothing
    found = bench.figures(np.array([1, 3, 10, 11]))
    assert found["hit@10"].tolist() == [1, 1, 1, 0]
    assert found["ndcg@10"].tolist() == pytest.approx([1, 0.5, 1 / np.log2(11), 0])


def test_plain_sasrec_sees_no_padding_and_no_future() -> None:
    from references import plain_sasrec

    model = plain_sasrec.PlainSasrec(9, dim=8, layers=2, heads=2, dropout=0.5, length=4)
    histories = [[1], [2, 3, 4], [5, 6, 7, 8, 0, 1]]
    together = model.scores(histories)
    assert together.shape == (3, 9)
    for history, scores_N in zip(histories, together, strict=True):
        np.testing.assert_allclose(model.scores([history])[0], scores_N, atol=1e-5)
        np.testing.assert_allclose(model.scores([history[-4:]])[0], scores_N, atol=1e-5)
    assert not np.allclose(model.scores([[2, 3, 4]]), model.scores([[3, 2, 4]]))


@pytest.mark.slow
def test_it_prints_every_row_and_order_is_learnt(
    bench: ModuleType,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = json.dumps({"dim": 16, "pooled_dim": 16, "epochs": 40, "dropout": 0.1, "learning_rate": 0.01})
    words = ["--data", str(folder), "--settings", small, "--json", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["bench_builtin", *words])
    bench.main()
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "out").read_text())
    assert found["size"] == {"users": 40, "items": 20, "events": 480}
    names = ["popularity", "itemknn", "ease", "sasrec", "builtin, order alone", "builtin"]
    assert list(found["rows"]) == names
    for name in names:
        assert name in said
    # The next film is the one after the newest: certain to whoever knows order.
    for name in ("sasrec", "builtin, order alone", "builtin"):
        assert found["rows"][name]["ndcg@10, new"]["mean"] > 0.9, name
    assert found["rows"]["popularity"]["ndcg@10, new"]["mean"] < 0.7
    assert "less sasrec" in said
