"""Agreement with the teacher on lists with and without a label, against scipy."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import stats

from recdistill.judge.alike import agreed
from recdistill.judge.contenders import BundleContender
from recdistill.records import Candidate, Example, Ranking
from references.students import make_requests, make_student


def test_against_scipy(tmp_path: Path) -> None:
    student, champion = make_student(60, seed=0), make_student(60, seed=5)
    mine, theirs = (
        BundleContender(one.export(tmp_path / name), name)
        for one, name in ((student, "student"), (champion, "champion"))
    )
    random = np.random.default_rng(0)
    items = [item.id for item in mine.recommender.bundle.items]
    lists = []
    for n, request in enumerate(make_requests(student, 30, seed=4)):
        candidates = tuple(Candidate(item=items[k]) for k in random.permutation(len(items))[:8])
        shown = msgspec.structs.replace(request, candidates=candidates, user=f"u{n % 7}")
        scored = tuple(bool(one) for one in random.random(8) < (0.9 if n else 0.0))
        scores = tuple(float(one) for one in random.normal(size=8))
        lists.append(Example(Ranking(shown, "t", "1", "logit", scores, scored), (0.0,) * 8, "closed"))
    found = agreed(mine, theirs, lists, seed=0, draws=200)
    assert found is not None
    taus: list[list[float]] = [[], []]
    for one in lists[1:]:  # the teacher has scored nothing of the first
        known = np.array(one.ranking.scored)
        for side, contender in enumerate((mine, theirs)):
            [own] = contender.scores([one.ranking.impression])
            taus[side].append(stats.kendalltau(own[known], np.array(one.ranking.scores)[known]).statistic)
    assert (found.lists, found.lead.users) == (29, 7)
    assert found.student.mean == pytest.approx(np.mean(taus[0]))
    assert found.champion.mean == pytest.approx(np.mean(taus[1]))
    assert (found.lead.student, found.lead.other) == (pytest.approx(np.mean(taus[0])), pytest.approx(np.mean(taus[1])))
    assert agreed(mine, theirs, lists[:1], seed=0, draws=10) is None
