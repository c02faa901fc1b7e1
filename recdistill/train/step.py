"""One student that learns: its catalogue, its vocabulary and its step.

`saving` has what a checkpoint must hold of it, and `answers` what it would answer.

A step takes whole examples in the order of the lanes. It admits what is new, looks up each item of the batch once,
scores, and updates. All that decides the result is in `state()`: weights, the optimizers' sums, step
count, vocabulary, catalogue.

There is no random stream. A fresh row starts from hash(seed, table, id). What a step drops (rows of items, inputs of
the user tower) or draws (the rivals of labels) comes from hash(seed, step, place). So a run that was stopped and
restored ends with the same bytes as a run that was not, if torch uses the same number of threads.

It knows nothing of topics, files or schedules. The distiller's loop reads, saves and exports.

Example:
    >>> from recdistill.records import Example, Candidate, Impression, Item, Ranking
    >>> shape = Shape(dim=4, hidden=128, context_dim=8, init=0.05)
    >>> rates = Rates(dense=3e-3, rows=0.07, id_dropout=0.1, dropout=0.1)
    >>> trainer = Trainer(FeatureSpec(), shape, rates, SoftTerms(), seed=0)
    >>> trainer.apply_items([Item(id="a"), Item(id="b")])
    []
    >>> asked = Impression("1", 0, candidates=(Candidate("a"), Candidate("b")))
    >>> ranking = Ranking(asked, "t", "1", "logit", scores=(2.0, 0.0), scored=(True, True))
    >>> for _ in range(200):
    ...     figures = trainer.learn(trainer.encode([Example(ranking, labels=(0.0, 0.0))]))
    >>> a, b = trainer.score([asked])[0]
    >>> trainer.step, bool(1.5 < a - b < 2.5)  # the teacher's gap of 2 is learnt
    (200, True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recdistill import losses
from recdistill.errors import UsageError
from recdistill.features import (
    Asker,
    Catalogue,
    FeatureError,
    FeatureSpec,
    Lists,
    Tenure,
    Vocabulary,
    encode_columns,
    encode_examples,
)
from recdistill.model import forward
from recdistill.records import Columns, Example, Item
from recdistill.train.anew import state_anew
from recdistill.train.answers import scores_of_rows, vectors_of
from recdistill.train.average import Average, steps_since
from recdistill.train.batch import Batch, told_by_columns, told_by_examples
from recdistill.train.copying import Copying, at_once
from recdistill.train.head import Head
from recdistill.train.previous import Previous
from recdistill.train.replay import Kept, Replay
from recdistill.train.rivals import Popular, Rivals, corrected, scores_of_lists
from recdistill.train.saving import restore_into, state_of
from recdistill.train.shape import Rates, Shape
from recdistill.train.student import Draws, Items, Student, uniform
from recdistill.train.terms import SoftTerms
from recdistill.train.used import BareRows, Places
from recdistill.train.watched import watched
from recdistill.watch import Watch, candidate_offsets, list_weights

FORGETS = 16
"""In the time in which the sums of the rows' optimizer lose a half, those of each row are lowered so often."""


class Trainer:
    """A student, its catalogue and its optimizers.

    Args:
        spec: The feature specification.
        shape: The student's widths.
        rates: How fast it learns.
        terms: What it learns from the teacher's scores.
        seed: For every initial value, and for what steps drop and draw.
        softmax_items: Up to this many live items, the label loss is a softmax over all of them. With more it is
            over a sample.
        sampled_items: How many items this sample has.
        previous: Weight of the loss that keeps the student near its earlier copy; 0: there is no copy.
        previous_every: Steps from one copy to the next.
        comparable: How `encode` makes the scores of teachers comparable, see `watch.units`.
        watch: What watches the teachers; None: all teachers are believed.
        batch: By how many lists the loss of a step is divided: the size of a whole batch. A smaller batch then makes a
            smaller step. 0: by the lists of the batch.
        replay: How many lists are kept, to look at their scores once more; 0: none.
        position_cap: A label of a candidate that the endpoint showed at its place with chance p counts 1 / p, at most
            this.
        power: An item is drawn into the sample with a chance that grows with this power of how often it was seen;
            0: all have the same chance.
        head: Whether the teacher's scores teach a head of their own, and the labels the score that is served.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        shape: Shape,
        rates: Rates,
        terms: SoftTerms,
        *,
        seed: int,
        softmax_items: int = 100_000,
        sampled_items: int = 2048,
        previous: float = 0.0,
        previous_every: int = 500,
        comparable: str = "scale",
        watch: Watch | None = None,
        batch: int = 0,
        replay: int = 0,
        power: float = 0.0,
        position_cap: float = 1.0,
        head: bool = False,
    ) -> None:
        self.terms = terms
        if self.terms.total == 0 and self.terms.label == 0:
            raise UsageError("loss.soft and loss.label are both 0: there is nothing to learn from; raise one of them")
        self.spec, self.shape, self.rates, self.seed = spec, shape, rates, seed
        self.softmax_items, self.sampled_items = softmax_items, sampled_items
        self.previous_weight, self.comparable = previous, comparable
        self.vocabulary = Vocabulary(spec)
        self.catalogue = Catalogue(spec, self.vocabulary)
        self.tenure = Tenure(self.catalogue)
        self.student = Student(spec, shape, seed=seed, rows_rate=rates.rows, dropout=rates.dropout)
        self.step = 0
        self._state_copies, self._goes_out = Copying(), Copying()
        self.watch, self.batch, self.position_cap = watch, batch, position_cap
        self.previous = Previous(previous_every) if previous > 0 else None
        self.adam = torch.optim.Adam(self.student.dense.values(), lr=rates.dense, fused=True)
        self._bare, self._places = BareRows(), Places()
        for key, height in self.heights().items():
            self.student.set_rows(key, range(height), [f"row {r}" for r in range(height)])
        self._marks = {key: self.vocabulary.mark(key) for key in self.vocabulary.keys}
        self.average: Average | None = None
        self.head = Head(shape.dim, rates.dense) if head else None
        self.set_rates(rates)
        self.replay = Replay(replay) if replay else None
        if self.replay is not None:
            self.replay.begin(self.catalogue)
        self.popular = Popular(power) if power else None

    def set_rates(self, rates: Rates) -> None:
        """Learns with other rates from the next step on."""
        self.rates, self.student.dropout = rates, rates.dropout
        if rates.average == 0:
            self.average = None
        elif self.average is None:
            self.average = Average(self.student.live(), self.student.tables)

    # What the stream brings

    def apply_items(self, items: Sequence[Item]) -> list[tuple[int, FeatureError]]:
        """Takes catalogue records in the order of the log. New ids and categories are admitted in that order.

        Returns:
            Place in `items` and error of each record whose attributes do not fit the specification, in order. Such a
            record is left out.
        """
        refused = []
        for place, item in enumerate(items):
            try:
                self.tenure.applied(self.catalogue.apply(item, admit=True))
            except FeatureError as e:
                refused.append((place, e))
        self._start_fresh_rows()
        return refused

    def encode(self, examples: Sequence[Example] | Columns) -> Batch:
        """Makes a batch of whole examples, and admits new context values. Columns of them give the same batch.

        Raises:
            UsageError: There is no example.
        """
        if not len(examples):
            raise UsageError("encode: no examples; a step needs at least one")
        errors: list[FeatureError] = []
        if isinstance(examples, Columns):
            lists = encode_columns(self.spec, self.vocabulary, self.catalogue, examples, admit=True, errors=errors)
            told = told_by_columns(examples)
        else:
            lists = encode_examples(self.spec, self.vocabulary, self.catalogue, examples, admit=True, errors=errors)
            told = told_by_examples(examples)
        self._start_fresh_rows()
        return Batch.of(
            lists,
            told.scales,
            told.teachers,
            self.comparable,
            unknown=int(lists.requests.unknown_B.sum()) + told.candidates - int(lists.where_BL.sum()),
            unfit=len(errors),
            agreement_B=told.agreement_B,
            as_of=self.tenure.as_of,
            times_B=told.times_B,
        )

    def learn(self, batch: Batch) -> dict[str, float]:
        """Does one step on a batch, then gives and takes rows by what the batch has used.

        Returns:
            `loss`, and its parts before their weights: `soft` and `label`, in nats a list that has this part. Then
            counts: `lists`, `scored` candidates, `positives`, `known` (candidates that the catalogue holds), `unknown`
            (candidates and history items that it does not hold), `unfit` (context values of the wrong kind, which count
            as absent). With an earlier copy also `previous`, the loss against it.

        Raises:
            UsageError: A row that the batch names was given back since it was encoded.
        """
        if batch.as_of is not None and batch.as_of.returned != self.tenure.as_of.returned:
            raise UsageError("learn: rows were given back since this batch was encoded; encode its examples again")
        figures = self._learn(batch)
        self._settle(batch)
        return figures

    def _learn(self, batch: Batch) -> dict[str, float]:
        lists, teacher_BL, again = batch.lists, batch.units_BL, batch.again
        labelled_BL = lists.where_BL & lists.label_known_B[:, None]
        figures = {
            "lists": float(len(labelled_BL)),
            "scored": float(lists.scored_BL.sum()),
            "positives": float((labelled_BL & (lists.labels_BL > 0)).sum()),
            "known": float(lists.where_BL.sum()),
            "unknown": float(batch.unknown),
            "unfit": float(batch.unfit),
        }
        self.step += 1
        if not lists.where_BL.any():  # the catalogue holds none of the candidates: nothing to learn from
            if self.watch is not None:
                self.watch.skip(len(labelled_BL), again=again)
            return {"loss": 0.0, "soft": 0.0, "label": 0.0} | figures
        self._set_pace()
        self._forget()
        # 1. Choose the items that the labels compete with.
        rivals = Rivals(
            self.catalogue.live_N,
            self._state(2),
            # Without a label in the batch nothing competes.
            full=self.softmax_items if self.terms.label > 0 and figures["positives"] else None,
            sample=self.sampled_items,
            draw=None if self.popular is None else partial(self.popular.draw, self.catalogue),
        )
        # 2. Run the item tower once for each item that the step needs: candidates, histories and rivals.
        used_U, place_N = self.used(lists, rivals.slots)
        items = self.items(used_U, drop=0)
        # 3. Run the user tower: from the vectors of each history to one vector for each list.
        user_BD = self._users(lists, items, place_N, drop=1)
        # 4. Score the candidates, and take the loss of the labels.
        weighed, counts_B = corrected(lists, self.position_cap)
        scores_BL, label = rivals.scores_and_labels(user_BD, items, weighed, used_U, place_N, weights_B=counts_B)
        # With a head of their own, the teacher's scores are learnt there.
        soft_BL = (
            scores_BL if self.head is None else self.head.scores(user_BD, items, place_N[lists.candidate_slots_BL])
        )
        # 5. Weigh the lists: by 1 / p of the teacher budget, and by how far the watch believes each teacher.
        believed_B = list_weights(lists)
        if self.watch is not None:
            teacher_BL, trust_B = watched(self.watch, batch, soft_BL.detach().numpy())
            believed_B = believed_B * trust_B
        # 6. Take the loss of the teacher's scores. A candidate that was scored with probability p counts 1 / p times in
        # both softmaxes.
        soft = self._soft(soft_BL, teacher_BL, lists, believed_B)
        # Both losses are means over their own lists. Times the weight of these lists they are sums, and the sums are
        # divided by the same number. So a list counts the same, whatever else is in its batch.
        whole = float(self.batch or len(batch))
        taken_B = (labelled_BL & (lists.labels_BL > 0)).any(1)
        taken = float(taken_B.sum() if counts_B is None else counts_B[taken_B].sum())
        loss = self.terms.total * (float(believed_B.sum()) / whole) * soft + self.terms.label * (taken / whole) * label
        # 7. Keep near the earlier copy, if there is one.
        if self.previous is not None and self.previous.items > 0:
            before_BL, known_BL = self.previous.scores(self.spec, self.catalogue, lists)
            kept = losses.kl_distillation(scores_BL, torch.from_numpy(before_BL), where=torch.from_numpy(known_BL))
            figures["previous"] = kept.item()
            loss = loss + self.previous_weight * (float((known_BL.sum(1) >= 2).sum()) / whole) * kept
        # 8. Update.
        self._update(loss)
        if self.popular is not None and not again:
            self.popular.count(self.catalogue, lists)
        # 9. Look at the scores of some older lists once more.
        if self.replay is not None and not again:
            self._look_again(self.replay)
            self.replay.keep(Kept(lists, teacher_BL, believed_B, batch.teachers))
        if self.average is not None and (steps := steps_since(self.step)):
            self.average.take(self.student.live(), 0.5 ** (steps / self.rates.average))
        if self.previous is not None and self.previous.due(self.step):
            self.previous.renew(self.student.weights(self.heights()), self.catalogue)
        return {"loss": loss.item(), "soft": soft.item(), "label": label.item()} | figures

    def _soft(self, scores_BL: Tensor, teacher_BL: np.ndarray, lists: Lists, weights_B: np.ndarray) -> Tensor:
        """The loss of the teacher's scores before its weight: a mean over the lists that weigh something."""
        return self.terms(
            scores_BL,
            torch.from_numpy(teacher_BL),
            where=torch.from_numpy(lists.scored_BL & lists.soft_B[:, None]),
            weights=torch.from_numpy(weights_B),
            offsets=torch.from_numpy(candidate_offsets(lists)),
        )

    def _update(self, loss: Tensor) -> None:
        """torchrec updates the rows of its tables inside `backward`; Adam updates the dense parameters."""
        self.adam.zero_grad()
        if self.head is not None:
            self.head.begin(float(self.adam.param_groups[0]["lr"]))
        loss.backward()
        self.adam.step()
        if self.head is not None:
            self.head.update()

    def _look_again(self, replay: Replay) -> None:
        """One more update, by the scores of a batch that was learnt before."""
        replay.follow(self.catalogue)
        kept = replay.draw(float(uniform(self._state(3), np.zeros(1, np.uint64))[0]))
        if kept is None or self.terms.total == 0:
            return
        weights_B = kept.weights_B if self.watch is None else kept.weights_B * self.watch.trusts(kept.teachers)
        lists = kept.lists
        if not (weights_B.any() and lists.scored_BL.any()):
            return
        used_U, place_N = self.used(lists, np.zeros(0, np.int64))
        items = self.items(used_U, drop=4)
        user_BD = self._users(lists, items, place_N, drop=5)
        scored_by = scores_of_lists if self.head is None else self.head.scores
        scores_BL = scored_by(user_BD, items, place_N[lists.candidate_slots_BL])
        soft = self._soft(scores_BL, kept.logits_BL, lists, weights_B)
        self._update(self.terms.total * (float(weights_B.sum()) / float(self.batch or len(weights_B))) * soft)

    def _set_pace(self) -> None:
        """The rates of this step, from its number alone."""
        rates = self.rates
        part = min(1.0, self.step / rates.warmup) if rates.warmup else 1.0
        for group in self.adam.param_groups:
            group["lr"] = rates.dense * part
        self.student.set_rows_rate(rates.rows * part)

    def _forget(self) -> None:
        """Lowers the sums of the rows' optimizer: in each step those of the next part of each table.

        A pass over a whole table of a million rows would take as long as a step or two.
        """
        if not self.rates.forget:
            return
        every = max(1, self.rates.forget // FORGETS)
        part, left = self.step % every, 0.5 ** (every / self.rates.forget)
        for key, sums in self.student.sparse_state.items():
            rows = slice(part * len(sums) // every, (part + 1) * len(sums) // every)
            self._keep(key, rows)
            self.student.forget(key, rows, left)

    def used(self, lists: Lists, more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a step looks up, see `Places`. `more` holds slots that the lists do not name."""
        named = [lists.candidate_slots_BL, lists.requests.history_slots_BH, more]
        return self._places.of(len(self.catalogue), named)

    def items(self, slots_U: np.ndarray, *, drop: int | None) -> Items:
        """The item tower for some slots. `drop`: the use of the numbers that say whose own row is left out."""
        encoded = self.catalogue.encoded(None if len(slots_U) == len(self.catalogue) else slots_U)
        rows_U = encoded.id_rows_N
        if drop is not None and self.rates.id_dropout > 0:
            draws_U = uniform(self._state(drop), slots_U.astype(np.uint64))
            rows_U = np.where(draws_U < self.rates.id_dropout, self._bare.of(self.catalogue, slots_U), rows_U)
        if drop is not None:
            self._touch({"id": rows_U} | {f"item.{name}": rows for name, rows in encoded.fields.items()})
        return self.student.items(encoded, rows_U)

    def _users(self, lists: Lists, items: Items, place_N: np.ndarray, *, drop: int) -> Tensor:
        """The user tower for a step's lists. `drop`: the use of the numbers that say which inputs are left out."""
        self._touch({f"context.{name}": rows for name, rows in lists.requests.context.items()})
        history_BH = torch.from_numpy(place_N[lists.requests.history_slots_BH])
        return self.student.users(items, history_BH, lists.requests, draws=self._draws(drop))

    def _touch(self, found: Mapping[str, np.ndarray]) -> None:
        """Must be called before a step changes rows of tables: copies and average depend on it."""
        tables = self.student.tables
        for key in found.keys() & tables.keys():
            self._keep(key, found[key])
            if self.average is not None:
                self.average.touch(key, found[key], tables[key])

    def _keep(self, key: str, rows: Sequence[int] | np.ndarray | slice) -> None:
        """Has rows copied that are about to change, where copies are being made."""
        for copying in (self._state_copies, self._goes_out):
            if copying.working:
                copying.keep(key, np.arange(rows.start, rows.stop) if isinstance(rows, slice) else np.asarray(rows))

    def _state(self, use: int) -> np.ndarray:
        """State of a step's random numbers for one use, from (seed, step, use) alone, so nothing must be saved."""
        state = self.seed * 0xD1342543DE82EF95 + self.step * 0x2545F4914F6CDD1D + use * 0x9E6C63D0876A9A47
        return np.asarray(state % 2**64, np.uint64)

    def _draws(self, use: int) -> Draws:
        return lambda count: uniform(self._state(use), np.arange(count, dtype=np.uint64))

    def _start_fresh_rows(self) -> None:
        """Clears the rows that the vocabulary took back since the last call, and starts those that it gave."""
        for key, mark in self._marks.items():
            fresh, evicted, self._marks[key] = self.vocabulary.changes(key, mark)
            if fresh or evicted:
                self._keep(key, [*evicted, *fresh])
            if self.vocabulary.released:  # else no row has had another key, and the optimizer has no sums for it
                self.student.clear_rows(key, [*evicted, *fresh])
            if fresh:
                self.student.set_rows(key, fresh, self.vocabulary.values(key, fresh))
            if self.average is not None:
                self.average.set_rows(key, [*evicted, *fresh], self.student.tables[key])

    def _settle(self, batch: Batch) -> None:
        """Gives and takes rows after a step. A value that is late with its row starts from what had stood for it."""
        if batch.again:
            self.tenure.settle_again()
            return
        moved = self.tenure.settle(batch.lists)
        self._start_fresh_rows()
        for key in {one.key for one in moved}:
            rows, shared = zip(*[(one.row, one.shared) for one in moved if one.key == key], strict=True)
            self._keep(key, rows)
            self.student.copy_rows(key, rows, shared)
            if self.average is not None:
                self.average.set_rows(key, rows, self.student.tables[key])
            if self.previous is not None:
                self.previous.copy_rows(self.catalogue, key, rows, shared)

    # What goes out

    def weights(self, *, whole: bool = True) -> dict[str, np.ndarray]:
        """All parameters by contract name, averaged where that is asked for; of a table only the rows in use.

        Args:
            whole: Whether the arrays are filled. If not, they are after `settle_copies`, and until the next such call.
        """
        self._start_fresh_rows()
        values = None if self.average is None else self.average.settled(self.student.live())
        if whole:
            return self.student.weights(self.heights(), values)
        arrays = self.student.weights(self.heights(), values, self._goes_out.take)
        self._goes_out.begin()
        return arrays

    def settle_copies(self) -> None:
        """Waits until all arrays that were handed out are filled. Any thread may call it."""
        self._goes_out.wait()
        self._state_copies.wait()

    def score(self, requests: Sequence[Asker], slots_N: np.ndarray | None = None) -> np.ndarray:
        """Scores of some slots of the catalogue for each request, f32 `[B, N]`. None: all slots, withdrawn ones too."""
        scores_BN = forward.scores(*vectors_of(self, requests))
        return scores_BN if slots_N is None else scores_BN[:, slots_N]

    def score_lists(self, lists: Lists, rows_R: np.ndarray) -> np.ndarray:
        """Scores of the candidates of encoded lists as the next step begins, see `answers`. It changes nothing."""
        return scores_of_rows(self, lists, rows_R)

    # What a checkpoint holds

    def state(self, *, whole: bool = True) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that the next step depends on: arrays by name, and plain data for JSON.

        Args:
            whole: Whether the arrays are filled. If not, they are after `settle_copies`, and until the next such call.
        """
        self._start_fresh_rows()
        found = state_of(self, at_once if whole else self._state_copies.take)
        if not whole:
            self._state_copies.begin()
        return found

    def state_anew(self, fresh: Trainer) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """This state, with the first weights of a fresh student; see `anew`."""
        return state_anew(self, fresh)

    def restore(self, tensors: Mapping[str, np.ndarray], plain: Mapping[str, Any]) -> None:
        """Takes the state that `state()` saved.

        Learning rates and loss weights stay those of this trainer. Shapes and seed must be equal.

        Raises:
            CheckpointError: It is the state of another student. Do not use the trainer after this.
        """
        self.settle_copies()
        restore_into(self, tensors, plain)

    def stand_on(self, vocabulary: Vocabulary, catalogue: Catalogue, tenure: Tenure, *, step: int) -> None:
        """Goes on from another catalogue, whose rows are in the tables already, and from another count of steps."""
        self.vocabulary, self.catalogue, self.tenure, self.step = vocabulary, catalogue, tenure, step
        self._marks = {key: vocabulary.mark(key) for key in vocabulary.keys}
        self._bare = BareRows()

    def heights(self) -> dict[str, int]:
        """How many rows of each table can be in use.

        Of hashed text these are all rows. Else they are those that the vocabulary has given so far.
        """
        keys = self.vocabulary.keys
        return {k: self.vocabulary.size(k) if k in keys else len(t) for k, t in self.student.tables.items()}
