"""Copies made on a thread: they hold what the tables held when they were taken, whatever happens to the tables then."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
import pytest
import torch

from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec, VocabularySpec
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.train import Rates, Shape, SoftTerms, Trainer
from recdistill.train import copying as copying_module
from recdistill.train.batch import Batch
from recdistill.train.copying import Copying, at_once, rows_of


def test_copies_are_of_their_moment_and_their_memory_is_used_again() -> None:
    copying = Copying()
    table, sums = torch.rand(1000, 8), torch.rand(1000)
    memory = set()
    for rows in (1000, 900, 990):
        taken = (
            copying.take("table", rows_of(table), (rows, 8), 6),
            copying.take("table", rows_of(sums), (rows,), 1, kind="sums/"),
        )
        before = table[:rows, :6].numpy().copy(), sums[:rows].numpy().copy()
        copying.begin()
        copying.wait()
        table += 1.0
        sums *= 2.0
        for found, wanted in zip(taken, before, strict=True):
            assert np.array_equal(found, wanted)
        memory.add(taken[0].__array_interface__["data"][0])
    assert len(memory) == 1


def test_rows_that_change_meanwhile_are_copied_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread stops after each block until some rows have changed: behind it, in its block, and before it."""
    monkeypatch.setattr(copying_module, "BLOCK", 10)
    chance = np.random.default_rng(0)
    table = torch.rand(100, 4)
    wanted = table.clone().numpy()
    go, stands = threading.Semaphore(0), threading.Semaphore(0)

    def slowly(rows: slice | torch.Tensor) -> torch.Tensor:
        if not isinstance(rows, slice):
            return table.index_select(0, rows)
        half = rows.start + 5
        first = table[rows.start : half].clone()
        stands.release()
        go.acquire()
        return torch.cat([first, table[half : rows.stop]])

    copying = Copying()
    taken = copying.take("id", slowly, (100, 4), 4)
    copying.begin()
    for _ in range(10):
        stands.acquire()
        some = np.append(chance.integers(100, size=12), -1)
        copying.keep("other", some)
        copying.keep("id", some.reshape(1, -1))
        table[torch.from_numpy(some[:-1])] += 1.0
        go.release()
    copying.wait()
    assert np.array_equal(taken, wanted)
    assert not np.array_equal(taken, table.numpy())


def test_what_goes_wrong_in_the_thread_is_raised_where_one_waits() -> None:
    copying = Copying()

    def broken(_: slice | torch.Tensor) -> torch.Tensor:
        raise ValueError("no such rows")

    copying.take("id", broken, (3, 2), 2)
    copying.begin()
    with pytest.raises(ValueError, match="no such rows"):
        copying.wait()


def test_a_thread_may_wait_while_another_lets_the_copies_go() -> None:
    """The attribute is let go at the very moment between the waiting thread's look at it and its use."""

    class Held(Copying):
        looks = 0

        @property
        def _job(self) -> Future[None] | None:  # type: ignore[override]
            self.looks += 1
            return self.held if self.looks == 1 else None

        @_job.setter
        def _job(self, job: Future[None] | None) -> None:
            self.held = job

    copying, done = Held(), Future[None]()
    done.set_result(None)
    copying._job = done
    copying.wait()
    assert copying.looks > 0


def test_at_once_gives_the_same_and_whole_memory() -> None:
    table = torch.rand(10, 8)
    found = at_once("table", rows_of(table), (7, 8), 6)
    assert found.flags.c_contiguous
    assert np.array_equal(found, table[:7, :6].numpy())
    assert np.array_equal(at_once("sums", rows_of(table[:, 0]), (7,), 1), table[:7, 0].numpy())


SPEC = FeatureSpec(
    history=HistorySpec(length=3, actions=("view",)),
    id=IdSpec(capacity=12, hashed=4),
    item={"kind": Field("category", capacity=4, hashed=2, max_values=2), "title": Field("text", capacity=16)},
    context={"country": Field("category", capacity=2, max_values=1), "query": Field("text", capacity=16)},
    vocabulary=VocabularySpec(half_life=16, keep_withdrawn=4),
)
"""Every kind of table, and fewer rows than there are values: rows change hands."""


def item(number: int, version: int = 0, *, withdrawn: bool = False) -> Item:
    about = {"kind": [f"k{number % 7}", f"k{number % 5}"], "title": f"word{number % 9} word{number % 4}"}
    return Item(f"item-{number}", version, withdrawn, about)


def batch(trainer: Trainer, seed: int, items: int) -> Batch:
    chance = np.random.default_rng(seed)
    some = [f"item-{i}" for i in chance.choice(items, 6, replace=False)]
    history = tuple(Event(f"item-{i}", 10**11, "view") for i in chance.choice(items, 3, replace=False))
    context = {"country": f"c{chance.integers(5)}", "query": f"word{chance.integers(9)}"}
    asked = Impression(f"list-{seed}", 10**12, None, history, context, tuple(map(Candidate, some)))
    ranking = Ranking(asked, "t", "1", "logit", tuple(chance.normal(size=6).tolist()), (True,) * 6)
    return trainer.encode([Example(ranking, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0))])


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_what_a_trainer_hands_out_is_of_its_step_whatever_it_learns_then(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are new, that are given back, and everything that a step changes, while a thread copies or before."""
    go, fill = threading.Event(), copying_module._Copy.fill

    def filled(copy: copying_module._Copy) -> None:
        assert go.wait(60)
        fill(copy)

    monkeypatch.setattr(copying_module._Copy, "fill", filled)
    rates = Rates(dense=3e-3, rows=0.07, id_dropout=0.1, dropout=0.1, average=8, forget=64)
    shape = Shape(dim=4, hidden=8, context_dim=4, init=0.05)
    trainer = Trainer(SPEC, shape, rates, SoftTerms(), seed=0, replay=4, batch=1, previous=0.1, previous_every=7)
    trainer.apply_items([item(n) for n in range(20)])
    moved: Counter[str] = Counter()
    copied = trainer.student.copy_rows

    def copy_rows(key: str, rows: Sequence[int], sources: Sequence[int]) -> None:
        moved[key] += len(rows)
        copied(key, rows, sources)

    monkeypatch.setattr(trainer.student, "copy_rows", copy_rows)
    for step in range(70):
        trainer.learn(batch(trainer, step, 20))
        if step % 5:
            continue
        go.clear() if late else go.set()
        wanted, wanted_weights = (
            {name: array.copy() for name, array in taken.items()} for taken in (trainer.state()[0], trainer.weights())
        )
        found, found_weights = trainer.state(whole=False)[0], trainer.weights(whole=False)
        trainer.apply_items([item(20 + step), item(step % 20, step + 2, withdrawn=step % 2 == 0)])
        for more in range(3):
            trainer.learn(batch(trainer, 1000 * step + more, 20))
        go.set()
        trainer.settle_copies()
        for one, other in ((wanted, found), (wanted_weights, found_weights)):
            assert one.keys() == other.keys()
            for name, array in one.items():
                assert np.array_equal(array, other[name]), (step, name)
    tables = {"id", "item.kind", "item.title", "context.country", "context.query"}
    assert trainer.student.tables.keys() == tables
    assert {"id", "context.country"} <= moved.keys(), "rows changed hands while copies were made"
