"""Baselines against dense linear algebra and plain counting."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.errors import DataError
from recdistill.judge import baselines
from recdistill.linear import read_interactions
from recdistill.records import Candidate, Event, Example, Impression, Ranking


def example(number, user, history, positives=(), time_us=1_000_000):
    impression = Impression(
        id=f"i{number}",
        time_us=time_us,
        user=user,
        history=tuple(Event(item=i, time_us=time_us - 1) for i in history),
        candidates=tuple(Candidate(item=i) for i in (*positives, "never")),
    )
    count = len(impression.candidates)
    ranking = Ranking(
        impression=impression,
        teacher_id="t",
        teacher_version="1",
        scale="logit",
        scores=(0.0,) * count,
        scored=(False,) * count,
    )
    return Example(ranking=ranking, labels=(1.0,) * len(positives) + (0.0,), label_state="closed")


def ask(*history, exclude=()):
    return Impression(id="q", time_us=9_000_000, history=tuple(Event(item=i) for i in history), exclude=tuple(exclude))


@pytest.fixture(name="data", params=[(40, 12), (9, 30)], ids=["more users", "more items"])
def _data(request):
    users, items = request.param
    random = np.random.default_rng(0)
    x = random.random((users, items)) < 0.3
    x[:, 0] |= ~x.any(1)
    examples = []
    for u, row in enumerate(x):
        liked = [f"a{i}" for i in np.flatnonzero(row)]
        # Two examples of one user that share items: a pair must count once.
        examples += [example(2 * u, f"u{u}", liked[:-1]), example(2 * u + 1, f"u{u}", liked[:2], liked[-1:])]
    return x[:, x.any(0)].astype(float), [f"a{i}" for i in np.flatnonzero(x.any(0))], examples


def expected_top(weights, ids, order, history, k):
    """Items outside the history by falling score, equal scores in `order`."""
    scores = {item: sum(weights[ids.index(j), n] for j in history) for n, item in enumerate(ids)}
    left = [item for item in order if item not in history]
    return sorted(left, key=lambda item: -round(scores[item], 9))[:k]


def test_interactions_are_distinct_pairs_in_order_of_popularity(data):
    x, ids, examples = data
    known = read_interactions(examples)
    dense = known.matrix().toarray()
    assert dense.max() == 1.0
    assert dict(zip(known.ids, dense.sum(0), strict=True)) == dict(zip(ids, x.sum(0), strict=True))
    assert list(dense.sum(0)) == sorted(dense.sum(0), reverse=True)
    assert "never" not in known.ids


def test_ease_is_the_closed_form_from_either_side(data):
    x, ids, examples = data
    known = read_interactions(examples)
    p = np.linalg.inv(x.T @ x + 7.0 * np.eye(len(ids)))
    weights = -p / np.diag(p)
    np.fill_diagonal(weights, 0)
    model = baselines.ease(known, l2=7.0)
    for history in (ids[:3], ids[2:7], ids[-1:]):
        assert model.top([ask(*history)], 5) == [expected_top(weights, ids, known.ids, history, 5)]


def test_itemknn_is_shrunk_cosine(data):
    x, ids, examples = data
    known = read_interactions(examples)
    norms = np.sqrt(x.sum(0))
    weights = (x.T @ x) / (np.outer(norms, norms) + 3.0)
    np.fill_diagonal(weights, 0)
    model = baselines.itemknn(known, shrinkage=3.0)
    for history in (ids[:3], ids[2:7], ids[-1:]):
        assert model.top([ask(*history)], 6) == [expected_top(weights, ids, known.ids, history, 6)]


def test_itemknn_keeps_only_the_nearest():
    known = read_interactions([example(n, f"u{n}", h) for n, h in enumerate(("ab", "ab", "ac", "bc", "d"))])
    # With one neighbour each, a -> b and b -> a; c's only neighbour is the more popular a. So c gains nothing from a.
    assert baselines.itemknn(known, neighbours=1).top([ask("a")], 4) == [["b", "c", "d"]]


def test_popularity_counts_users_and_the_newest_part_can_differ():
    old = [example(n, f"u{n}", [], ["old"], time_us=1_000) for n in range(5)]
    new = [example(9 + n, f"v{n}", [], ["new"], time_us=9_000) for n in range(3)]
    known = read_interactions(old + new)
    assert baselines.popularity(known).top([ask()], 5) == [["old", "new"]]
    assert baselines.popularity(known, newest=0.3).top([ask()], 5) == [["new", "old"]]


def test_every_baseline_masks_history_exclude_and_dead_items_and_answers_strangers(data):
    _, ids, examples = data
    live = set(ids) - {ids[0]}
    contenders = baselines.baselines(examples, live=live)
    assert [c.name for c in contenders] == ["popularity", "popularity_recent", "itemknn", "ease"]
    for contender in contenders:
        answers = contender.top([ask(ids[1], "stranger", exclude=[ids[2], "nobody"]), ask("stranger"), ask()], 100)
        assert set(answers[0]) == live - {ids[1], ids[2]}
        assert [set(a) for a in answers[1:]] == [live, live]
        assert answers[1] == answers[2]
        assert len(contender.top([ask()], 3)[0]) == 3


def test_a_block_of_requests_gives_what_single_requests_give(data, monkeypatch):
    _, ids, examples = data
    requests = [ask(*ids[n : n + 3]) for n in range(8)]
    whole = [c.top(requests, 5) for c in baselines.baselines(examples)]
    monkeypatch.setattr(baselines, "_BLOCK", 2 * len(ids))
    assert [c.top(requests, 5) for c in baselines.baselines(examples)] == whole


def test_no_interactions_is_a_clear_error():
    with pytest.raises(DataError, match="neither a history nor a positive label"):
        read_interactions([example(1, "u", [])])
