"""How a tower of the built-in teacher learns: by the softmax over the whole catalogue of the chosen item.

Items of a question's history are left out of its softmax, as they are left out of a recommendation. So are items that
were not there at the time of the question. Labels are smoothed over the other items. With more than `FULL_CATALOGUE`
items, the softmax is over the chosen items of the batch and some random ones. Then the log of an item's chance to be
among them is subtracted from its logit (sampled softmax: Bengio and Senécal, 2008).

It knows nothing of records.

Example:
    >>> random = np.random.default_rng(0)
    >>> pool = Columns(np.array([5.0, 1.0, 0.0]), full=8)
    >>> slots_C, correction_C = pool.draw(np.array([2]), random)
    >>> slots_C.tolist(), correction_C
    ([0, 1, 2], None)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recdistill.features import EncodedItems
from recdistill.teachers.builtin.files import Training
from recdistill.teachers.builtin.sequences import Ints, Timelines, batches, cut, windows
from recdistill.teachers.builtin.tower import Tower, dropout

log_ = logging.getLogger(__name__)

FULL_CATALOGUE = 20_000
DRAWN = 4096
"""Items drawn for each step, with more than `FULL_CATALOGUE` items."""

SMOOTHING = 0.1
ID_DROPOUT = 0.05
"""How often an item is trained without its own row. So the row of unknown items learns, and attributes
alone are enough.
"""
WEIGHT_DECAY = 0.01
ATTENDING_SHARE = 0.5
"""Share of the rows' learning rate for a tower with attention. At the full rate it memorises the histories."""
_WARM_UP = 50  # steps
_LEAST_RATE = 0.02  # share of the rates that is left at the last step


@dataclass(frozen=True)
class Times:
    """When each of N items was there, in microseconds: from its launch (0: always) until its withdrawal."""

    from_us_N: Ints
    until_us_N: Ints

    @property
    def matter(self) -> bool:
        """Whether any item came or went."""
        return bool(self.from_us_N.any() or (self.until_us_N < np.iinfo(np.int64).max).any())


class Columns:
    """Which items a step's softmax runs over.

    Args:
        chosen_N: How often each item was chosen.
        full: Up to so many items, all of them are taken.
        drawn: How many items are drawn if there are more.
    """

    def __init__(self, chosen_N: npt.NDArray[np.float64], *, full: int = FULL_CATALOGUE, drawn: int = DRAWN) -> None:
        self.count = len(chosen_N)
        self.full = self.count <= full
        self._drawn = drawn
        self._all = np.arange(self.count)
        self._share_N = (chosen_N + 1e-9) / (chosen_N.sum() + 1e-9 * self.count)
        flat_N = (chosen_N + 1.0) ** 0.5
        self._odds_N = flat_N / flat_N.sum()
        self._steps_N = np.cumsum(self._odds_N)

    def draw(self, chosen_M: Ints, random: np.random.Generator) -> tuple[Ints, npt.NDArray[np.float32] | None]:
        """Slots in ascending order, and the log of each one's chance to be among them (None: all are)."""
        if self.full:
            return self._all, None
        drawn = np.searchsorted(self._steps_N, random.random(self._drawn) * self._steps_N[-1], side="right")
        slots_C = np.unique(np.concatenate([chosen_M, np.minimum(drawn, self.count - 1)]))
        # The chance that an item is absent: by none of the draws, and by none of the batch's choices. Its log is a sum.
        absent_C = self._drawn * np.log1p(-self._odds_N[slots_C])
        absent_C = absent_C + len(chosen_M) * np.log1p(-np.minimum(self._share_N[slots_C], 1 - 1e-9))
        return slots_C, np.log(np.maximum(-np.expm1(absent_C), 1e-12)).astype(np.float32)


def fit(
    tower: Tower,
    lines: Timelines,
    encoded: EncodedItems,
    times: Times,
    length: int,
    settings: Training,
    *,
    seed: int,
    progress: Callable[[float, float], None],
    full: int = FULL_CATALOGUE,
    drawn: int = DRAWN,
) -> float:
    """Trains one tower.

    Args:
        tower: Changed in place.
        lines: The timelines to learn from, with at least one question.
        encoded: The rows of all items, in slot order.
        times: When the items were there.
        length: Most events of a window.
        settings: Learning rates, dropout, passes, windows a step.
        seed: Seed of everything that is drawn.
        progress: Called after each step with the share that is done, and the loss.
        full: Up to so many items, the softmax is over all of them.
        drawn: Items drawn for each step if there are more.

    Returns:
        Mean cross-entropy of the last pass, in nats, without smoothing.
    """
    random = np.random.default_rng([seed, 1])
    epochs, batch = settings.epochs, settings.batch
    drop = dropout(settings.dropout, torch.Generator().manual_seed(seed))
    dense = list(tower.dense_parameters().values())
    optimizer = torch.optim.AdamW(
        dense, lr=settings.learning_rate, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), fused=True
    )
    chosen_N = np.bincount(lines.question_slot_M, minlength=len(encoded.id_rows_N)).astype(float)
    columns = Columns(chosen_N, full=full, drawn=drawn)
    everything = tower.bags_of(encoded.fields) if columns.full else None
    steps = epochs * -(-len(cut(lines, length, np.random.default_rng(seed))) // batch)
    row_rate = settings.table_learning_rate * (ATTENDING_SHARE if tower.shape.layers else 1.0)
    step, total, count = 0, 0.0, 0
    tower.train()
    for epoch in range(epochs):
        for cuts in batches(cut(lines, length, random), batch, random):
            # The rates rise for the first steps, and then fall in a straight line.
            rate = max(_LEAST_RATE, min(1.0, (step + 1) / _WARM_UP) * (1.0 - step / max(1, steps)))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * rate
            tower.set_table_learning_rate(row_rate * rate)
            # The batch: windows with questions, the items that were chosen, and the items of the softmax.
            asked, question_BQ = windows(lines, cuts, 4 * length, random)
            chosen_M = lines.question_slot_M[question_BQ[question_BQ >= 0]]
            slots_C, correction_C = columns.draw(chosen_M, random)
            # Run the item side once for each item that is needed; `place_N` says where each slot is among them.
            place_N = np.full(columns.count, -1)
            known = slots_C if columns.full else np.union1d(slots_C, asked.slots_BL[asked.slots_BL >= 0])
            place_N[known] = np.arange(len(known))
            id_rows = np.where(random.random(len(known)) < ID_DROPOUT, 0, encoded.id_rows_N[known])
            fields = encoded.fields if columns.full else {n: a[known] for n, a in encoded.fields.items()}
            items_UW = tower.items(id_rows, fields, everything)
            slots_BL = np.where(asked.slots_BL >= 0, place_N[asked.slots_BL], -1)
            users_MD = tower.users(items_UW, asked, torch.from_numpy(slots_BL), drop)
            items_CW = items_UW if columns.full else items_UW[torch.from_numpy(place_N[slots_C])]
            barred_MC = _barred(lines, asked.slots_BL, asked.at_BQ, asked.asked_us_BQ, cuts, slots_C, times)
            target_M = np.searchsorted(slots_C, chosen_M)
            loss = _softmax(
                users_MD,
                items_CW[:, : tower.dim],
                items_CW[:, tower.dim],
                barred_MC,
                torch.from_numpy(target_M),
                torch.from_numpy(lines.question_weight_M[question_BQ[question_BQ >= 0]]),
                correction_C,
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(dense, 1.0)
            optimizer.step()
            step += 1
            if epoch == epochs - 1:
                total += loss.item() * len(chosen_M)
                count += len(chosen_M)
            progress(min(1.0, step / max(1, steps)), loss.item())
    tower.eval()
    return total / max(1, count)


def _barred(
    lines: Timelines, slots_BL: Ints, at_BQ: Ints, asked_us_BQ: Ints, cuts: Ints, slots_C: Ints, times: Times
) -> Tensor:
    """bool `[M, C]`: items that each question's user had before, in the window or earlier, or that were not there."""
    column_N = np.full(len(times.from_us_N), -1)
    column_N[slots_C] = np.arange(len(slots_C))
    length = slots_BL.shape[1]
    never = np.iinfo(np.int16).max
    # `first_BC`: at which event of the window an item first comes; −1 for items before the window. The item is barred
    # for the questions after that event.
    first_BC = np.full((len(slots_BL), len(slots_C) + 1), never, np.int16)
    line_B = np.searchsorted(lines.first_question_T1, cuts[:, 2], side="right") - 1
    for row, (slots_L, begin, line) in enumerate(zip(slots_BL, cuts[:, 0].tolist(), line_B.tolist(), strict=True)):
        # Of two events of one item the first must count, so it is written last.
        columns_L = np.where(slots_L >= 0, column_N[slots_L], -1)[::-1]
        first_BC[row, columns_L] = np.arange(length - 1, -1, -1)
        first_BC[row, column_N[lines.slots_E[lines.first_T1[line] : begin]]] = -1
    there_BQ = at_BQ >= 0
    row_M = np.nonzero(there_BQ)[0]
    first_MC = torch.from_numpy(first_BC[:, :-1])[torch.from_numpy(row_M)]
    barred_MC = first_MC < torch.from_numpy(at_BQ[there_BQ].astype(np.int16))[:, None]
    if times.matter:
        asked_M1 = torch.from_numpy(asked_us_BQ[there_BQ])[:, None]
        gone_MC = (torch.from_numpy(times.from_us_N[slots_C]) > asked_M1) | (
            torch.from_numpy(times.until_us_N[slots_C]) <= asked_M1
        )
        barred_MC |= gone_MC & (asked_M1 > 0)
    return barred_MC


def _softmax(
    users_MD: Tensor,
    vectors_CD: Tensor,
    biases_C: Tensor,
    barred_MC: Tensor,
    target_M: Tensor,
    weight_M: Tensor,
    correction_C: npt.NDArray[np.float32] | None,
) -> Tensor:
    barred_MC.scatter_(1, target_M[:, None], False)
    if correction_C is not None:
        biases_C = biases_C - torch.from_numpy(correction_C)
    shares_M = weight_M / weight_M.sum()
    loss: Tensor = _SoftmaxLoss.apply(  # type: ignore[no-untyped-call]
        users_MD, vectors_CD, biases_C, barred_MC, target_M, shares_M
    )
    return loss


class _SoftmaxLoss(torch.autograd.Function):
    """Weighted cross-entropy.

    Its gradient is computed in the forward pass, in place, so there is only one array [M, C].

    The gradient is that of the loss with smoothed labels. The value is the loss without smoothing, which is
    easier to read.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        users_MD, vectors_CD, biases_C, barred_MC, target_M, weight_M = inputs
        logits_MC = torch.addmm(biases_C, users_MD, vectors_CD.T).masked_fill_(barred_MC, -torch.inf)
        hit_M = logits_MC.gather(1, target_M[:, None])[:, 0]
        normaliser_M = logits_MC.logsumexp(1)
        # Gradient of the logits: p − target, with SMOOTHING spread over the open items and 1 − SMOOTHING on the chosen.
        p_MC = logits_MC.sub_(normaliser_M[:, None]).exp_()
        open_M = (p_MC.shape[1] - barred_MC.sum(1)).clamp_min(1)
        p_MC.sub_((SMOOTHING / open_M)[:, None]).masked_fill_(barred_MC, 0.0)
        p_MC.scatter_add_(1, target_M[:, None], torch.full((len(target_M), 1), SMOOTHING - 1.0))
        p_MC.mul_(weight_M[:, None])
        ctx.save_for_backward(p_MC @ vectors_CD, p_MC.T @ users_MD, p_MC.sum(0))
        return ((normaliser_M - hit_M) * weight_M).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        users, vectors, biases = ctx.saved_tensors
        return users * grads[0], vectors * grads[0], biases * grads[0], None, None, None
