"""Both towers in torch against the same towers in numpy, and where first values and updates come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recdistill.config import LossSettings, StudentSettings
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec, encode_requests
from recdistill.loops.trainers import make_trainer
from recdistill.model import forward
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.train import Shape, Student, Trainer
from recdistill.train.answers import vectors_of
from recdistill.train.student import uniform

SPEC = FeatureSpec(
    history=HistorySpec(length=5, actions=("click",)),
    id=IdSpec(capacity=50, hashed=2),
    item={
        "genre": Field("category", capacity=5, hashed=2, max_values=3),
        "price": Field("number", mean=5.0, std=3.0),
        "title": Field("text", capacity=16, max_values=6),
        "image": Field("vector", size=4),
    },
    context={
        "country": Field("category", capacity=4, max_values=2),
        "hour": Field("number", mean=12.0, std=6.0),
        "place": Field("vector", size=2),
        "words": Field("text", capacity=8),
    },
)


def impression(number: int, events: int) -> Impression:
    random = np.random.default_rng(number)
    history = tuple(Event(f"i{random.integers(20)}", 10**6 * (t + 1), "click" if t % 2 else "") for t in range(events))
    context = {"country": ["c1", f"c{number % 9}"], "hour": 3.0, "place": [1.0, -2.0], "words": "warm rain"}
    candidates = tuple(Candidate(f"i{i}") for i in random.permutation(20)[:6])
    return Impression(f"r{number}", 10**9, None, history, context if number % 3 else {}, candidates)


def trained(steps: int) -> Trainer:
    made = make_trainer(SPEC, StudentSettings(dim=5, hidden=7, context_dim=3), LossSettings(), seed=1)
    attributes = [
        {"genre": [f"g{i % 7}", "g1"], "price": float(i), "title": f"the word{i % 5}", "image": [i / 9, 1.0, 0.0, -1.0]}
        for i in range(20)
    ]
    made.apply_items([Item(f"i{i}", attributes=values if i % 4 else {}) for i, values in enumerate(attributes)])
    for step in range(steps):
        asked = [impression(16 * step + i, i % 7) for i in range(16)]
        random = np.random.default_rng(step)
        rankings = [
            Ranking(one, "t", "1", "logit", tuple(random.normal(size=6).tolist()), (True,) * 6) for one in asked
        ]
        made.learn(made.encode([Example(one, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0), "closed") for one in rankings]))
    return made


@pytest.mark.parametrize("steps", [0, 30])
def test_both_towers_are_those_of_the_numpy_form(steps: int) -> None:
    made = trained(steps)
    asked = [impression(number, number % 8) for number in range(40)]
    weights = made.weights()
    vectors_NW = forward.items(weights, SPEC, made.catalogue.encoded())
    encoded = encode_requests(SPEC, made.vocabulary, made.catalogue, asked)
    users_BD = forward.users(weights, SPEC, vectors_NW, encoded)
    assert np.abs(users_BD).max() > 0.01
    assert vectors_of(made, asked)[0] == pytest.approx(users_BD, abs=1e-5)
    scores_BN = users_BD @ vectors_NW[:, :5].T + vectors_NW[:, 5]
    assert made.score(asked) == pytest.approx(scores_BN, abs=1e-5)
    assert np.array_equal(made.score(asked, np.array([3, 1])), made.score(asked)[:, [3, 1]])


def test_history_counts_newest_first_and_to_its_length() -> None:
    made = trained(10)
    events = tuple(Event(f"i{i}", 10**6 * (i + 1)) for i in range(8))
    whole, cut = Impression("r", 10**9, history=events), Impression("r", 10**9, history=events[3:])
    assert np.array_equal(made.score([whole]), made.score([cut]))
    turned = [Event(one.item, two.time_us) for one, two in zip(reversed(events[3:]), events[3:], strict=True)]
    other = made.score([Impression("r", 10**9, history=tuple(turned))])
    assert np.abs(other - made.score([cut])).max() > 1e-4


def test_a_step_touches_only_the_rows_it_read() -> None:
    made = make_trainer(SPEC, StudentSettings(dim=5, id_dropout=0), LossSettings(label=0.0), seed=1)
    made.apply_items([Item(f"i{i}") for i in range(20)])
    before = made.weights()["id"]
    asked = Impression("r", 9, None, (Event("i4", 1),), candidates=(Candidate("i7"), Candidate("i9")))
    made.learn(
        made.encode([Example(Ranking(asked, "t", "1", "logit", (1.0, 0.0), (True, True)), (1.0, 0.0), "closed")])
    )
    changed = np.flatnonzero((made.weights()["id"] != before).any(1))
    assert sorted(changed) == sorted(made.vocabulary.rows("id", ["i4", "i7", "i9"]))


def test_first_values() -> None:
    student = Student(SPEC, Shape(dim=6, hidden=8, context_dim=4, init=0.5), seed=9)
    rows = student.fresh("id", [str(i) for i in range(5000)], 8)
    assert rows[:, 6:].abs().max() == 0  # bias and weight in a history
    assert float(rows[:, :6].std()) == pytest.approx(0.5, rel=0.02)
    assert float(rows[:, :6].mean()) == pytest.approx(0, abs=0.02)
    correlation = np.corrcoef(rows[:, :6].numpy().T) - np.eye(6)
    assert np.abs(correlation).max() < 0.06
    assert torch.equal(rows[17:19], student.fresh("id", ["17", "18"], 8))
    assert not torch.equal(rows[:1], student.fresh("item.genre", ["0"], 8))
    assert not torch.equal(
        rows[:1], Student(SPEC, Shape(dim=6, hidden=8, context_dim=4, init=0.5), seed=8).fresh("id", ["0"], 8)
    )


def test_uniform_numbers_are_uniform() -> None:
    draws = uniform(np.arange(100, dtype=np.uint64)[:, None], np.arange(1000, dtype=np.uint64))
    counts = np.bincount((draws.ravel() * 50).astype(int), minlength=50)
    chi_square = ((counts - 2000) ** 2 / 2000).sum()
    assert chi_square < 85.4  # 49 degrees of freedom, p = .001
    assert np.unique(draws).size == draws.size
    # SplitMix64 started from 0: its published first output is e220a8397b1dcdaf.
    first = uniform(np.asarray(0, np.uint64), np.zeros(1, np.uint64))
    assert first[0] == (0xE220A8397B1DCDAF >> 11) / 2**53
