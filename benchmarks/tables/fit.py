"""Learns a student from a table of users × items by a recipe: the papers' setting, and the product's losses in it.

A batch is either pairs (positives, each with an unseen item that is drawn anew in each epoch) or lists (users with all
the items they had).
The soft terms of the recipe ask about lists of their own (`benchmarks.tables.lists`). In a batch of lists that compares
with the whole catalogue, label and soft terms share one softmax over all items, formed in chunks.

It knows nothing of files, protocols or where a teacher's scores come from.

Example:
    >>> from scipy import sparse
    >>> table = sparse.csr_matrix(np.eye(4, dtype=np.float32)[[0, 0, 1, 1]] + np.eye(4, dtype=np.float32))
    >>> table.data[:] = 1
    >>> recipe = TableRecipe(fit=Fit(epochs=30, learning_rate=0.05))
    >>> student = fit(table, recipe, None, dim=4, seed=0)
    >>> int(student.scores(np.array([3])).argmax()) in (1, 3)
    True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.tables import sampling
from benchmarks.tables.lists import DrawnLists, Rankings, depends_on_student, draw, temperature_for
from benchmarks.tables.recipes import Fit, HintTerm, TableRecipe, TableTerm
from benchmarks.tables.student import TableStudent
from benchmarks.tables.terms import check, draws
from recdistill import losses
from recdistill.errors import ConfigError
from recdistill.losses import hints
from recdistill.losses.catalogue import CHUNK

Validation = Callable[[int, TableStudent], float]
"""Epoch (from 1) and student to the validation figure, more is better."""


class TableTeacher(Protocol):
    """Whoever scores a table."""

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Scores of all items for some users, f32 `[B, N]`."""

    @property
    def vectors(self) -> tuple[np.ndarray, np.ndarray] | None:
        """User and item vectors, f32 `[U, E]` and `[N, E]`, where it has some."""


class _Soft(NamedTuple):
    term: TableTerm
    rankings: Rankings
    options: dict[str, Any]


def fit(
    table_UN: Any,
    recipe: TableRecipe,
    teacher: TableTeacher | None,
    *,
    dim: int,
    seed: int,
    validation: Validation | None = None,
    every: int = 5,
    prepared: Mapping[tuple[str, bool], Rankings] | None = None,
) -> TableStudent:
    """Learns a student.

    Args:
        table_UN: Scipy CSR matrix of ones, sorted, users × items.
        recipe: How.
        teacher: Who is distilled; None leaves the soft terms and hints out: the student without distillation.
        dim: Of its vectors.
        seed: Of first values and everything drawn.
        validation: Asked every few epochs; the student of the best answer is the one returned. None returns the last.
        every: Epochs between two such questions.
        prepared: Rankings by (side, standardised) from an earlier call with the same teacher; None asks the teacher.

    Raises:
        ConfigError: The recipe asks for what there is not.
    """
    settings = recipe.fit_of(dim)
    random = torch.Generator().manual_seed(seed)
    student = TableStudent(table_UN, recipe.student, dim=dim, seed=seed)
    learner = _Learner(table_UN, recipe, teacher, student, random, prepared)
    parameters = [p for p in [*student.parameters(), *learner.hint_parameters()] if p.requires_grad]
    adam = torch.optim.Adam(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    best, kept, since = -math.inf, None, 0
    for epoch in range(settings.epochs):
        batches = list(learner.batches(settings))
        for number, batch in enumerate(batches):
            done = (epoch + number / len(batches)) / settings.epochs
            for group in adam.param_groups:
                group["lr"] = settings.learning_rate * _schedule(settings, done)
            adam.zero_grad()
            learner.loss(batch, settings, epoch, done).backward()
            adam.step()
        if validation is not None and ((epoch + 1) % every == 0 or epoch + 1 == settings.epochs):
            figure = validation(epoch + 1, student)
            if figure > best:
                best, since = figure, 0
                kept = {name: value.clone() for name, value in student.state_dict().items()}
            else:
                since += every
                if settings.patience and since >= settings.patience:
                    break
    if kept is not None:
        student.load_state_dict(kept)
    return student


def rankings_for(table_UN: Any, recipe: TableRecipe, teacher: TableTeacher) -> dict[tuple[str, bool], Rankings]:
    """What the recipe's soft terms need of the teacher's rankings, by (side, standardised), for `fit`."""
    found: dict[tuple[str, bool], Rankings] = {}
    standard = recipe.compare == "standard"
    for side in {term.pick.side for term in recipe.soft}:
        pool = max(max(term.pick.count, term.pick.pool) for term in recipe.soft if term.pick.side == side)
        users = Rankings.of(teacher.scores, table_UN, pool=pool, standard=standard) if side == "users" else None
        if users is None:
            empty = torch.empty(0, 0)
            users = Rankings(empty.to(torch.int64), empty, table_UN).transposed(teacher.scores, pool, standard=standard)
        found[side, standard] = users
    return found


class _Learner:
    """Batches of a table and their loss."""

    def __init__(
        self,
        table_UN: Any,
        recipe: TableRecipe,
        teacher: TableTeacher | None,
        student: TableStudent,
        random: torch.Generator,
        prepared: Mapping[tuple[str, bool], Rankings] | None,
    ) -> None:
        check(recipe)
        self.recipe, self.student, self.random = recipe, student, random
        self.users, self.items = table_UN.shape
        self.offsets_U1 = torch.from_numpy(table_UN.indptr.astype(np.int64))
        self.items_E = torch.from_numpy(table_UN.indices.astype(np.int64))
        self.users_E = torch.arange(self.users).repeat_interleave(self.offsets_U1.diff())
        self.label = losses.by_name(recipe.label.loss)
        self.soft: list[_Soft] = []
        self.drawn: dict[int, DrawnLists] = {}
        self.groups_N: Tensor | None = None
        self.hints: list[_Hint] = []
        if teacher is None:
            return
        if recipe.soft:
            prepared = prepared or rankings_for(table_UN, recipe, teacher)
            standard = recipe.compare == "standard"
            self.soft = [
                _Soft(term, prepared[term.pick.side, standard], _options(term, prepared[term.pick.side, standard]))
                for term in recipe.soft
            ]
            for soft in self.soft:
                if draws(losses.by_name(soft.term.loss)):
                    soft.options["generator"] = random
            groups = next((term.pick.groups for term in recipe.soft if term.pick.kind == "groups"), 0)
            if groups:
                counts_N = torch.from_numpy(np.bincount(table_UN.indices, minlength=self.items))
                self.groups_N = sampling.popularity_groups(counts_N, groups)
        if recipe.hints:
            if teacher.vectors is None:
                raise ConfigError("the recipe's hints need a teacher with vectors, a factorisation")
            self.hints = [_Hint(term, teacher.vectors, student.items_ND.shape[1], random) for term in recipe.hints]

    def hint_parameters(self) -> Iterator[nn.Parameter]:
        for hint in self.hints:
            yield from hint.parameters()

    # Batches

    def batches(self, settings: Fit) -> Iterator[Tensor]:
        """Of one epoch: `[B, 3]` user, item and unseen item, or users `[B]`. Draws this epoch's lists."""
        for number, soft in enumerate(self.soft):
            pick = soft.term.pick
            chance = pick.temperature > 0 or pick.others > 0 or pick.kind == "groups"
            if number not in self.drawn or chance or depends_on_student(pick):
                scores = self._student_scores if depends_on_student(pick) else None
                self.drawn[number] = draw(pick, soft.rankings, scores, generator=self.random, groups_N=self.groups_N)
        if settings.unit == "lists":
            yield from torch.randperm(self.users, generator=self.random).split(settings.batch)
            return
        others_E = sampling.unseen_sorted(
            self.users_E, self.offsets_U1, self.items_E, self.items, 1, generator=self.random
        )[:, 0]
        triples_E3 = torch.stack([self.users_E, self.items_E, others_E], 1)
        yield from triples_E3[torch.randperm(len(triples_E3), generator=self.random)].split(settings.batch)

    def _student_scores(self, users: np.ndarray) -> np.ndarray:
        return self.student.scores(users)

    # Losses

    def loss(self, batch: Tensor, settings: Fit, epoch: int, done: float) -> Tensor:
        """Of one batch.

        Args:
            batch: As `batches` gives it.
            settings: Of the fit.
            epoch: From 0.
            done: Share of all steps that are behind.
        """
        if settings.unit == "lists":
            return self._of_lists(batch, settings, epoch)
        users_B, places_B2 = batch[:, 0], batch[:, 1:]
        users_BD = self.student.users(users_B, generator=self.random)
        scores_B2 = self._scores(users_BD, places_B2)
        labels_B2 = torch.tensor([1.0, 0.0]).expand(scores_B2.shape)
        where_B2 = torch.ones_like(labels_B2, dtype=torch.bool)
        total = self._total(settings, len(batch)) * self.recipe.label.weight
        loss = total * self.label(scores_B2, labels_B2, where=where_B2, **self.recipe.label.options)
        if self.soft or self.hints:
            unique_U = users_B.unique()
            items_I = places_B2.unique()
            for number, soft in enumerate(self.soft):
                if epoch >= soft.term.after:
                    chosen = unique_U if soft.term.pick.side == "users" else items_I
                    loss = loss + self._total(settings, len(chosen)) * self._soft(number, soft, chosen)
            for hint in self.hints:
                loss = loss + hint.loss(self.student, unique_U, items_I, done, settings.total == "sum")
        return loss

    def _of_lists(self, users_B: Tensor, settings: Fit, epoch: int) -> Tensor:
        users_BD = self.student.users(users_B, generator=self.random)
        total = self._total(settings, len(users_B))
        active = [
            (number, soft) for number, soft in enumerate(self.soft) if epoch >= soft.term.after and soft.term.weight > 0
        ]
        whole = [number for number, soft in active if soft.term.pick.kind == "catalogue"]
        positives_BL = self._positives(users_B)
        # What the teacher was not asked about says nothing in its softmax, which is then another than the labels'.
        partly = {number: self.soft[number].rankings.unasked(users_B) for number in whole}
        shared = [number for number in whole if partly[number] is None]
        parts = [positives_BL, *(self.drawn[number].places_UL[users_B] for number in shared)]
        scores_BL, z_B = self._catalogue(users_BD, torch.cat(parts, 1), users_B.new_zeros(0))
        scores = scores_BL.split([part.shape[1] for part in parts], 1)
        real_BL = positives_BL >= 0
        loss = (
            total
            * self.recipe.label.weight
            * losses.softmax_labels(scores[0], real_BL.to(torch.float32), where=real_BL, log_normaliser=z_B)
        )
        answers = {number: (part_BM, z_B) for number, part_BM in zip(shared, scores[1:], strict=True)}
        for number, unasked_BN in partly.items():
            if unasked_BN is not None:
                answers[number] = self._catalogue(users_BD, self.drawn[number].places_UL[users_B], unasked_BN)
        for number in whole:
            term, lists = self.soft[number].term, self.drawn[number]
            # The teacher's shares as labels: one softmax over the catalogue serves both losses.
            where_BM = lists.places_UL[users_B] >= 0
            temperature = float(self.soft[number].options.get("temperature", 1.0))
            shares_BM = (lists.scores_UL[users_B] / temperature).masked_fill(~where_BM, -torch.inf).softmax(1)
            shares_BM = shares_BM.nan_to_num(0.0)
            part_BM, own_z_B = answers[number]
            loss = loss + total * term.weight * losses.softmax_labels(
                part_BM, shares_BM, where=where_BM, log_normaliser=own_z_B
            )
        for number, soft in active:
            if number not in whole:
                chosen = users_B if soft.term.pick.side == "users" else self._some_items(len(users_B))
                loss = loss + self._total(settings, len(chosen)) * self._soft(number, soft, chosen)
        return loss

    def _catalogue(self, users_BD: Tensor, places_BL: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of some places, and the normaliser of all that is not hidden."""
        return losses.catalogue_scores(
            users_BD,
            self.student.items_ND,
            self.student.biases_N,
            places_BL=places_BL.clamp_min(0),
            hidden=hidden,
            chunk=CHUNK,
        )

    def _soft(self, number: int, soft: _Soft, chosen: Tensor) -> Tensor:
        """A soft term for some users, or some items on the item side."""
        lists = self.drawn[number]
        places = lists.places_UL[chosen]
        marks = {name: mark[chosen] for name, mark in lists.marks.items()}
        if soft.term.pick.side == "users":
            scores = self._scores(self.student.users(chosen, generator=self.random), places)
        else:
            # An item's list is of users; its own bias moves all of it alike.
            users = self.student.users(torch.arange(self.users), generator=self.random)
            own = self.student.items_ND[chosen]
            scores = losses.scores_of_places(own, users, users.new_zeros(len(users)), places.clamp_min(0))
        loss = losses.by_name(soft.term.loss)(
            scores, lists.scores_UL[chosen], where=places >= 0, **marks, **soft.options
        )
        return soft.term.weight * loss

    def _scores(self, users_BD: Tensor, places: Tensor) -> Tensor:
        """Scores of `[B, …]` places."""
        flat_BL = places.clamp_min(0).flatten(1)
        scores_BL = losses.scores_of_places(users_BD, self.student.items_ND, self.student.biases_N, flat_BL)
        return scores_BL.view(places.shape)

    def _positives(self, users_B: Tensor) -> Tensor:
        """What each user had, `[B, L]`, then −1."""
        lengths_B = self.offsets_U1[users_B + 1] - self.offsets_U1[users_B]
        columns_L = torch.arange(int(lengths_B.max()))
        at_BL = (self.offsets_U1[users_B][:, None] + columns_L).clamp_max(len(self.items_E) - 1)
        return self.items_E[at_BL].masked_fill(columns_L >= lengths_B[:, None], -1)

    def _some_items(self, count: int) -> Tensor:
        return torch.randperm(self.items, generator=self.random)[:count]

    def _total(self, settings: Fit, lists: int) -> float:
        return float(lists) if settings.total == "sum" else 1.0


class _Hint:
    """A hint for user and item vectors, with what it learns beside the student."""

    def __init__(
        self, term: HintTerm, vectors: tuple[np.ndarray, np.ndarray], dim: int, random: torch.Generator
    ) -> None:
        self.term, self.random = term, random
        self.teacher = [torch.from_numpy(np.ascontiguousarray(part, np.float32)) for part in vectors]
        wide = self.teacher[0].shape[1]
        self.modules: Sequence[hints.FitNet | hints.DE] = []
        if term.loss == "fitnet":
            self.modules = [hints.FitNet(dim, wide, generator=random) for _ in range(2)]
        elif term.loss in ("de", "htd"):
            experts = int(term.options.get("experts", 30))
            self.modules = [hints.DE(dim, wide, experts=experts, generator=random) for _ in range(2)]

    def parameters(self) -> Iterator[nn.Parameter]:
        for module in self.modules:
            yield from module.parameters()

    def loss(self, student: TableStudent, users_U: Tensor, items_I: Tensor, done: float, summed: bool) -> Tensor:
        """Of the users and items of a batch."""
        mine = [student.users(users_U), student.items_ND[items_I]]
        theirs = [self.teacher[0][users_U], self.teacher[1][items_I]]
        count = float(len(users_U) + len(items_I)) if summed else 1.0
        share = float(self.term.options.get("share", 0.5))
        total = mine[0].new_zeros(())
        if self.term.loss in ("ftd", "htd"):
            both, teacher = torch.cat(mine), torch.cat(theirs)
            rows = torch.ones(len(both), dtype=torch.bool)
            if self.term.loss == "ftd":
                return self.term.weight * count * hints.ftd(both, teacher, where=rows)
            users, items = (
                module.groups(part)
                for module, part in zip(self.modules, theirs, strict=True)
                if isinstance(module, hints.DE)
            )
            groups = torch.cat([users, items + int(self.term.options.get("experts", 30))])
            total = share * count * hints.htd(both, teacher, where=rows, groups=groups)
        each = 1.0 - share if self.term.loss == "htd" else 1.0
        for module, part, teacher in zip(self.modules, mine, theirs, strict=True):
            where = torch.ones(len(part), dtype=torch.bool)
            chance: dict[str, Any] = {}
            if isinstance(module, hints.DE):
                chance = {"temperature": hints.annealed(done), "generator": self.random}
            total = total + each * (len(part) if summed else 1.0) * module(part, teacher, where=where, **chance)
        return self.term.weight * total


def _options(term: TableTerm, rankings: Rankings) -> dict[str, Any]:
    """A term's options, with a spread turned into the temperature that gives it with this teacher."""
    options: dict[str, Any] = dict(term.options)
    wanted = options.pop("spread", None)
    if wanted is not None:
        places_UK = rankings.places_UP[:, : term.pick.count]
        if not 0 < wanted < 1:
            raise ConfigError(f"spread: is {wanted}; it is a share of the list, more than 0 and less than 1")
        perplexity = max(1.01, float(wanted) * places_UK.shape[1])
        scores_UK = rankings.scores_UP[:, : term.pick.count]
        options["temperature"] = temperature_for(scores_UK, perplexity, where=places_UK >= 0)
    return options


def _schedule(settings: Fit, done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done)) if settings.schedule == "cosine" else 1.0
