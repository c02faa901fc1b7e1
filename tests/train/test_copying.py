"""Copies made on a thread: they hold what the tables held, whatever happens to the tables after `wait`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recdistill.features import FeatureSpec, IdSpec
from recdistill.records import Candidate, Example, Impression, Item, Ranking
from recdistill.train import Rates, Shape, SoftTerms, Trainer
from recdistill.train.batch import Batch
from recdistill.train.copying import Copying, at_once


def test_copies_are_of_their_moment_and_their_memory_is_used_again() -> None:
    copying = Copying()
    table, sums = torch.rand(1000, 8), torch.rand(1000)
    memory = set()
    for rows in (1000, 900, 990):
        taken = copying.take("table", table[:rows], 6), copying.take("sums", sums[:rows], 1)
        before = table[:rows, :6].numpy().copy(), sums[:rows].numpy().copy()
        copying.begin()
        copying.wait()
        table += 1.0
        sums *= 2.0
        for found, wanted in zip(taken, before, strict=True):
            assert np.array_equal(found, wanted)
        memory.add(taken[0].__array_interface__["data"][0])
    assert len(memory) == 1


def test_at_once_gives_the_same_and_whole_memory() -> None:
    table = torch.rand(10, 8)
    found = at_once("table", table[:7], 6)
    assert found.flags.c_contiguous
    assert np.array_equal(found, table[:7, :6].numpy())
    assert np.array_equal(at_once("sums", table[:7, 0], 1), table[:7, 0].numpy())


def batch(trainer: Trainer, seed: int, items: int) -> Batch:
    chance = np.random.default_rng(seed)
    some = [f"item-{i}" for i in chance.choice(items, 6, replace=False)]
    asked = Impression(f"list-{seed}", 0, candidates=tuple(map(Candidate, some)))
    ranking = Ranking(asked, "t", "1", "logit", tuple(chance.normal(size=6).tolist()), (True,) * 6)
    return trainer.encode([Example(ranking, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0))])


@pytest.mark.slow
def test_what_a_trainer_hands_out_is_of_its_step_whatever_it_learns_then() -> None:
    """Rows that are new, that are given back, and everything that a step changes as a whole."""
    rates = Rates(dense=3e-3, rows=0.07, id_dropout=0.1, dropout=0.1, average=8, forget=64)
    spec = FeatureSpec(id=IdSpec(capacity=30, hashed=4))
    shape = Shape(dim=4, hidden=8, context_dim=4, init=0.05)
    trainer = Trainer(spec, shape, rates, SoftTerms(), seed=0, replay=4, batch=1)
    trainer.apply_items([Item(f"item-{n}") for n in range(20)])
    for step in range(70):
        trainer.learn(batch(trainer, step, 20))
        if step % 5:
            continue
        wanted, wanted_weights = trainer.state()[0], trainer.weights()
        found, found_weights = trainer.state(whole=False)[0], trainer.weights(whole=False)
        trainer.apply_items([Item(f"item-{20 + step}"), Item(f"item-{step % 20}", version=step + 2, withdrawn=True)])
        for more in range(3):
            trainer.learn(batch(trainer, 1000 * step + more, 20))
        trainer.settle_copies()
        for one, other in ((wanted, found), (wanted_weights, found_weights)):
            assert one.keys() == other.keys()
            for name, array in one.items():
                assert np.array_equal(array, other[name]), (step, name)
