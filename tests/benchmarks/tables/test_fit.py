"""Learning from a table: one step against dense torch, whole fits against what must come out."""

import math

import msgspec
import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional as F

from benchmarks.tables.fit import _Learner, fit, rankings_for
from benchmarks.tables.recipes import Fit, HintTerm, Pick, StudentForm, TableRecipe, TableTerm, names, table_recipe
from benchmarks.tables.student import TableStudent
from recdistill.errors import ConfigError
from recdistill.recipes import Term

U, N = 40, 60
RANDOM = np.random.default_rng(0)
# Two crowds, each with its half of the catalogue.
TASTE = np.where((np.arange(U)[:, None] % 2) == (np.arange(N) % 2), 0.35, 0.02)
TABLE = sparse.csr_matrix((RANDOM.random((U, N)) < TASTE).astype(np.float32))
TABLE.sort_indices()
SEEN = TABLE.toarray() > 0


class Teacher:
    """Knows the truth, as a factorisation."""

    def __init__(self, vectors: bool = True) -> None:
        users = np.stack([np.arange(U) % 2, 1 - np.arange(U) % 2], 1) + 0.1 * RANDOM.normal(size=(U, 2))
        items = np.stack([np.arange(N) % 2, 1 - np.arange(N) % 2], 1) + 0.1 * RANDOM.normal(size=(N, 2))
        self._both = users.astype(np.float32), items.astype(np.float32)
        self.vectors = self._both if vectors else None

    def scores(self, users: np.ndarray) -> np.ndarray:
        return 3 * self._both[0][users] @ self._both[1].T


TEACHER = Teacher()


def auc_of_taste(student: TableStudent) -> float:
    """How often an unseen item of the own crowd scores above one of the other."""
    scores = student.scores(np.arange(U))
    found = []
    for user in range(U):
        own = (np.arange(N) % 2) == user % 2
        a, b = scores[user][own & ~SEEN[user]], scores[user][~own & ~SEEN[user]]
        found.append((a[:, None] > b).mean())
    return float(np.mean(found))


def learner(recipe: TableRecipe, student: TableStudent) -> _Learner:
    random = torch.Generator().manual_seed(0)
    return _Learner(TABLE, recipe, TEACHER, student, random, rankings_for(TABLE, recipe, TEACHER))


def test_a_batch_of_lists_is_the_dense_formula() -> None:
    recipe = TableRecipe(
        soft=[TableTerm("softmax_distillation", 3.0, Pick(count=10, pool=10), {"temperature": 2.0})],
        student=StudentForm(bias=True, init=0.3),
        fit=Fit(batch=16),
        compare="standard",
    )
    student = TableStudent(TABLE, recipe.student, dim=4, seed=0)
    made = learner(recipe, student)
    (batch, *_) = made.batches(recipe.fit)
    loss = made.loss(batch, recipe.fit, 0, 0.0)
    loss.backward()
    mine = student.items_ND.grad.clone()  # type: ignore[union-attr]
    student.zero_grad()
    log_q = F.log_softmax(student.rows_UD[batch] @ student.items_ND.T + student.biases_N, 1)
    had = torch.from_numpy(SEEN[batch.numpy()])
    counts = had.sum(1)
    label = -((log_q * had).sum(1) / counts.clamp_min(1))[counts > 0].mean()
    soft = []
    for row, user in enumerate(batch.tolist()):
        free = TEACHER.scores(np.array([user]))[0].astype(np.float64)
        free[SEEN[user]] = np.nan
        standard = (free - np.nanmean(free)) / np.nanstd(free)
        top = np.argsort(np.where(SEEN[user], np.inf, -standard), kind="stable")[:10]
        p = torch.softmax(torch.from_numpy(standard[top]).float() / 2.0, 0)
        soft.append(-(p * log_q[row, top]).sum())
    expected = label + 3.0 * torch.stack(soft).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    expected.backward()
    assert torch.allclose(mine, student.items_ND.grad, atol=1e-5)  # type: ignore[arg-type]


def test_what_the_teacher_was_not_asked_about_says_nothing_in_its_softmax() -> None:
    recipe = TableRecipe(
        soft=[TableTerm("softmax_distillation", 3.0, Pick(count=6, pool=6), {"temperature": 2.0})],
        label=Term("softmax_labels", 0.0),
        student=StudentForm(bias=True, init=0.3),
        fit=Fit(batch=16),
    )
    whole = TEACHER.scores(np.arange(U))
    unasked = np.random.default_rng(4).random(whole.shape) < 0.5
    whole[unasked] = np.nan

    class Partly(Teacher):
        def scores(self, users: np.ndarray) -> np.ndarray:
            return whole[users]

    student = TableStudent(TABLE, recipe.student, dim=4, seed=0)
    made = _Learner(TABLE, recipe, Partly(), student, torch.Generator().manual_seed(0), None)
    (batch, *_) = made.batches(recipe.fit)
    loss = made.loss(batch, recipe.fit, 0, 0.0)
    loss.backward()
    mine = student.items_ND.grad.clone()  # type: ignore[union-attr]
    student.zero_grad()
    scores = student.rows_UD[batch] @ student.items_ND.T + student.biases_N
    soft = []
    for row, user in enumerate(batch.tolist()):
        free = np.where(SEEN[user] | unasked[user], -np.inf, whole[user])
        top = np.argsort(-free, kind="stable")[:6]
        p = torch.softmax(torch.from_numpy(free[top]) / 2.0, 0)
        log_q = scores[row].masked_fill(torch.from_numpy(unasked[user]), -torch.inf).log_softmax(0)
        soft.append(-(p * log_q[top]).sum())
    expected = 3.0 * torch.stack(soft).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    expected.backward()
    assert torch.allclose(mine, student.items_ND.grad, atol=1e-5)  # type: ignore[arg-type]


def test_a_batch_of_pairs_is_bpr_summed() -> None:
    recipe = TableRecipe(label=Term("bpr"), fit=Fit(unit="pairs", batch=32, total="sum"))
    student = TableStudent(TABLE, StudentForm(init=0.5), dim=4, seed=0)
    made = _Learner(TABLE, recipe, None, student, torch.Generator().manual_seed(0), None)
    batches = list(made.batches(recipe.fit))
    triples = torch.cat(batches)
    assert sorted(map(tuple, triples[:, :2].tolist())) == sorted(
        zip(*(part.tolist() for part in SEEN.nonzero()), strict=True)
    )
    assert not SEEN[triples[:, 0], triples[:, 2]].any()
    user, item, other = batches[0].T
    gap = (student.rows_UD[user] * (student.items_ND[item] - student.items_ND[other])).sum(1)
    expected = float(torch.log1p(torch.exp(-gap)).sum().detach())
    assert float(made.loss(batches[0], recipe.fit, 0, 0.0).detach()) == pytest.approx(expected, rel=1e-5)


def test_the_item_side_asks_about_users() -> None:
    recipe = TableRecipe(
        soft=[TableTerm("softmax_distillation", 2.0, Pick("top", count=5, pool=5, side="items"))],
        label=Term("bpr", 0.0),
        fit=Fit(unit="pairs", batch=64),
    )
    student = TableStudent(TABLE, StudentForm(init=0.5), dim=4, seed=0)
    made = learner(recipe, student)
    (batch, *_) = made.batches(recipe.fit)
    loss = float(made.loss(batch, recipe.fit, 0, 0.0).detach())
    whole = TEACHER.scores(np.arange(U))
    expected = []
    for item in batch[:, 1:].unique().tolist():
        users = np.argsort(np.where(SEEN[:, item], np.inf, -whole[:, item]), kind="stable")[:5]
        p = torch.softmax(torch.from_numpy(whole[users, item]), 0)
        q = torch.log_softmax((student.rows_UD[users] @ student.items_ND[item]).detach(), 0)
        expected.append(-float((p * q).sum()))
    assert loss == pytest.approx(2.0 * float(np.mean(expected)), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["rows", "history", "tied"])
def test_a_student_learns_the_crowds(form: str) -> None:
    recipe = msgspec.structs.replace(
        table_recipe("default"),
        student=StudentForm(form, bias=True, init=0.1),
        fit=Fit(epochs=60, batch=16, learning_rate=0.03),  # type: ignore[arg-type]
    )
    assert auc_of_taste(fit(TABLE, recipe, TEACHER, dim=4, seed=0)) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_recipe_learns_something(name: str) -> None:
    recipe = table_recipe(name)
    small = [
        msgspec.structs.replace(t, pick=msgspec.structs.replace(t.pick, count=8, pool=20, others=min(8, t.pick.others)))
        for t in recipe.soft
    ]
    hints = [
        msgspec.structs.replace(hint, options={name: 3 if name == "experts" else v for name, v in hint.options.items()})
        for hint in recipe.hints
    ]
    settings = msgspec.structs.replace(recipe.fit, epochs=60, batch=64, learning_rate=0.03, weight_decay=1e-4)
    recipe = msgspec.structs.replace(recipe, soft=small, hints=hints, fit=settings)
    assert auc_of_taste(fit(TABLE, recipe, TEACHER, dim=4, seed=0)) > 0.85


def test_the_same_seed_gives_the_same_bytes() -> None:
    recipe = msgspec.structs.replace(table_recipe("rrd"), fit=Fit("pairs", batch=64, epochs=2))
    first, second, third = (fit(TABLE, recipe, TEACHER, dim=4, seed=seed).scores(np.arange(U)) for seed in (0, 0, 1))
    assert first.tobytes() == second.tobytes() != third.tobytes()


def test_the_best_epoch_is_kept_and_patience_ends_it() -> None:
    recipe = TableRecipe(fit=Fit(epochs=50, batch=16, learning_rate=0.01, patience=4))
    kept: dict[int, np.ndarray] = {}

    def watch(epoch: int, student: TableStudent) -> float:
        kept[epoch] = student.scores(np.arange(U))
        return -abs(epoch - 6)

    student = fit(TABLE, recipe, None, dim=4, seed=0, validation=watch, every=2)
    assert np.array_equal(student.scores(np.arange(U)), kept[6])
    assert max(kept) == 10


def test_the_fit_from_a_dimension_on_wins() -> None:
    recipe = TableRecipe(fit=Fit(epochs=3), by_dim={5: Fit(epochs=1)})
    for dim, expected in ((4, [1, 2, 3]), (5, [1]), (6, [1])):
        seen: list[int] = []
        fit(TABLE, recipe, None, dim=dim, seed=0, validation=lambda epoch, _: seen.append(epoch) or 0.0, every=1)  # noqa: B023
        assert seen == expected


def test_cosine_ends_near_zero() -> None:
    from benchmarks.tables.fit import _schedule

    cosine = Fit(schedule="cosine")
    assert _schedule(cosine, 0.0) == 1.0
    assert _schedule(cosine, 0.5) == pytest.approx(0.5)
    assert _schedule(cosine, 1.0) == pytest.approx(0.0)
    assert math.isclose(_schedule(Fit(), 0.9), 1.0)


def test_a_spread_is_a_temperature_of_the_teachers_own() -> None:
    def end(options: dict[str, float], scale: float) -> np.ndarray:
        teacher = Teacher()
        whole = TEACHER.scores(np.arange(U))
        teacher.scores = lambda users: scale * whole[users]  # type: ignore[method-assign]
        term = TableTerm("softmax_distillation", 1.0, Pick(count=10, pool=10), options)  # type: ignore[arg-type]
        recipe = TableRecipe(soft=[term], fit=Fit(epochs=10, learning_rate=0.05))
        return fit(TABLE, recipe, teacher, dim=4, seed=0).scores(np.arange(U))

    np.testing.assert_allclose(end({"spread": 0.5}, 1.0), end({"spread": 0.5}, 40.0), atol=5e-3)
    assert np.abs(end({"temperature": 1.0}, 1.0) - end({"temperature": 1.0}, 40.0)).max() > 0.1
    with pytest.raises(ConfigError, match="spread: is 2"):
        end({"spread": 2}, 1.0)


def test_hints_need_vectors() -> None:
    recipe = TableRecipe(label=Term("bpr"), hints=[HintTerm("de")], fit=Fit("pairs", epochs=1))
    with pytest.raises(ConfigError, match="need a teacher with vectors"):
        fit(TABLE, recipe, Teacher(vectors=False), dim=4, seed=0)
