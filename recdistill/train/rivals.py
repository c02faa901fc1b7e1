"""What a label competes with: every live item of the catalogue, or a random sample of them.

A student is never asked for an item that is in the user's history. So such an item is no rival. A withdrawn item is no
rival either. A positive always counts, also when it is withdrawn or in the history: its share must be at most 1.

With a sample, the list's own positives and rivals are always in the sum and count once. Any other live item is in the
sum with some probability, and counts one over it (`losses.sampled_softmax`). The chance is the same for all, or it
grows with how often an item was seen (Mikolov et al., NIPS 2013, take the power 0.75): a rival that many take says
more. So the normaliser, before its logarithm,
is right on average. A sample of all items gives the same as the whole catalogue. All lists of a step use one sample:
its items are looked up once, and their scores are one matrix product.

It knows nothing of weights, teachers or steps. Its random numbers come from the caller's state.

Example:
    >>> live_N, state = np.array([True, False, True, True]), np.asarray(3, np.uint64)
    >>> Rivals(live_N, state, full=3, sample=2).slots.tolist()
    [0, 2, 3]
    >>> rivals = Rivals(live_N, state, full=2, sample=2)
    >>> rivals.slots.tolist(), rivals.log_q.round(4).tolist()  # log 2/3
    ([0, 3], [-0.4055, -0.4055])
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recdistill import losses
from recdistill.errors import CheckpointError
from recdistill.features import Catalogue, Lists, Mark
from recdistill.losses import CHUNK
from recdistill.model import layout
from recdistill.train.batch import rows_of
from recdistill.train.drawing import Drawing
from recdistill.train.student import Items, uniform

LARGE = 4 * CHUNK
"""Up to this many items, all scores are computed at once, which is faster. More come in chunks, to limit memory.
"""


POPULAR = "popular"
"""The name of the counts in a checkpoint."""


UNIT = 1 << 16
"""The weight of an item that was never seen. Weights are whole, so that their sums are exact."""


class Popular:
    """How often each item was seen: in a history, or taken. Frequent items are better rivals.

    Args:
        power: The chance to be drawn grows with this power of the count plus 1.
    """

    def __init__(self, power: float) -> None:
        self.power = power
        self._counts_N = np.zeros(0)  # with room for more items
        self._mark: Mark | None = None
        self._live_N = np.zeros(0, bool)
        self._drawing = Drawing()

    def count(self, catalogue: Catalogue, lists: Lists) -> None:
        """Counts the items of a batch."""
        self._follow(catalogue)
        taken_BL = lists.where_BL & lists.label_known_B[:, None] & (lists.labels_BL > 0)
        history_BH = lists.requests.history_slots_BH[lists.soft_B]
        slots = np.concatenate([lists.candidate_slots_BL[taken_BL], history_BH[history_BH >= 0]])
        found, often = np.unique(slots, return_counts=True)
        self._counts_N[found] += often
        self._weigh(found)

    def draw(self, catalogue: Catalogue, numbers_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draws items that are not withdrawn.

        Args:
            catalogue: It has such an item.
            numbers_S: f64 `[S]`, uniform in [0, 1).

        Returns:
            Slots, int `[R]`, ascending, each once. And for each, f64 `[R]`, the logarithm of how often it is expected
            in S draws, less the logarithm of how often it was drawn.
        """
        self._follow(catalogue)
        slots_R, often_R = np.unique(self._drawing.find(numbers_S), return_counts=True)
        expected_R = len(numbers_S) * self._drawing.weights_N[slots_R] / self._drawing.total
        return slots_R, np.log(expected_R) - np.log(often_R)

    def counts(self, catalogue: Catalogue) -> np.ndarray:
        """For a checkpoint, f64 `[N]`."""
        self._follow(catalogue)
        return self._counts_N[: len(catalogue)].copy()

    def restore(self, catalogue: Catalogue, counts_N: np.ndarray | None) -> None:
        """Takes `counts()`; None is of a version that did not count.

        Raises:
            CheckpointError: They are not the counts of this catalogue.
        """
        if counts_N is not None and counts_N.shape != (len(catalogue),):
            raise CheckpointError(f"checkpoint: {POPULAR} has {len(counts_N)} counts for {len(catalogue)} items")
        self._counts_N = np.zeros(len(catalogue)) if counts_N is None else np.array(counts_N, np.float64)
        self._mark = catalogue.mark
        self._live_N, self._drawing = np.zeros(0, bool), Drawing()
        self._follow(catalogue)

    def _follow(self, catalogue: Catalogue) -> None:
        """An item that took a slot starts from nothing, and one that was withdrawn is not drawn."""
        fresh, gone, self._mark = catalogue.changes(self._mark)
        live_N = catalogue.live_N
        if live_N is self._live_N and not fresh and not gone:
            return
        if len(live_N) > len(self._counts_N):
            self._counts_N = np.pad(self._counts_N, (0, 2 * len(live_N) - len(self._counts_N)))
        for slots in (fresh, gone):
            self._counts_N[slots] = 0.0
        before = len(self._live_N)
        turned = np.flatnonzero(live_N[:before] != self._live_N)
        changed = np.unique(np.concatenate([turned, np.arange(before, len(live_N)), fresh, gone]).astype(np.int64))
        if len(changed):
            self._live_N = live_N
            self._weigh(changed)

    def _weigh(self, slots: np.ndarray) -> None:
        """Renews the weights of some slots."""
        weights = np.rint(UNIT * (1 + self._counts_N[slots]) ** self.power).astype(np.int64)
        self._drawing.set(slots, np.where(self._live_N[slots], weights, 0))


class Rivals:
    """The rivals of the labels of one step.

    Args:
        live_N: Which slots of the catalogue hold an item that is not withdrawn.
        state: The state of the step's random numbers, see `uniform`. Without `popular`, a slot's number does not depend
            on the other slots.
        full: Up to this many live items, all of them are rivals. None: labels are not learnt; their loss is only
            reported, over the list.
        sample: S, how many items are drawn where there are more.
        draw: Draws as many slots as it gets numbers in [0, 1), see `Popular.draw`; a slot may be drawn more than once.
            None: all have the same chance, and none is drawn twice.
    """

    def __init__(
        self,
        live_N: np.ndarray,
        state: np.ndarray,
        *,
        full: int | None,
        sample: int,
        draw: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        self._live_N = live_N
        self.slots = np.zeros(0, np.int64)
        """Slots of the rivals, ascending. The step looks them up, and the items that the lists name."""
        self.log_q = np.zeros(0)
        """Log of how often each of them is expected in the sample, less the log of how often it was drawn."""
        self._learnt = full is not None
        count = int(np.count_nonzero(live_N))
        self._whole = full is not None and count <= full
        if full is None:
            return
        if self._whole or count <= sample:
            self.slots = np.flatnonzero(live_N)
            self.log_q = np.zeros(len(self.slots))
        elif draw is None:
            # Each slot gets a random number; the S slots with the lowest numbers are the sample.
            slots = np.flatnonzero(live_N)
            keys = uniform(state, slots.astype(np.uint64))
            self.slots = np.sort(slots[np.argpartition(keys, sample)[:sample]])
            self.log_q = np.full(sample, math.log(sample / count))
        else:
            self.slots, self.log_q = draw(uniform(state, np.arange(sample, dtype=np.uint64)))

    def scores_and_labels(
        self,
        user_BD: Tensor,
        items: Items,
        lists: Lists,
        used_U: np.ndarray,
        place_N: np.ndarray,
        *,
        weights_B: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Scores of the lists' candidates, `[B, L]`, and the loss of their labels, a scalar in nats.

        Only lists with a label have rivals, so the others cost no more than their candidates.

        Args:
            user_BD: A vector for each list.
            items: The items that the step has looked up: `slots`, and what the lists name.
            lists: The batch.
            used_U: Slots of these items.
            place_N: Place of each slot in `items`, `[N + 1]`, −1 where it is not there. The last entry is for slot −1.
            weights_B: What the labels of each list weigh; None: 1 each.
        """
        where_BL = lists.where_BL & lists.label_known_B[:, None]
        rows_R = np.flatnonzero((where_BL & (lists.labels_BL > 0)).any(1))
        if self._whole and len(rows_R) == len(where_BL):
            return self._over_all(user_BD, items, lists, used_U, place_N, weights_B)
        scores_BL = scores_of_lists(user_BD, items, place_N[lists.candidate_slots_BL])
        if not self._learnt or not len(rows_R):
            labels_BL, where = torch.from_numpy(lists.labels_BL), torch.from_numpy(where_BL)
            weights = _tensor(weights_B)
            return scores_BL, losses.softmax_labels(scores_BL, labels_BL, where=where, weights=weights)
        rows = torch.from_numpy(rows_R)
        labelled, user_RD = rows_of(lists, rows_R), user_BD.index_select(0, rows)
        weights_R = None if weights_B is None else weights_B[rows_R]
        if self._whole:
            return scores_BL, self._over_all(user_RD, items, labelled, used_U, place_N, weights_R)[1]
        shown_RL = scores_BL.index_select(0, rows)
        return scores_BL, self._over_sample(user_RD, items, labelled, used_U, place_N, shown_RL, weights_R)

    def _over_all(
        self,
        user_BD: Tensor,
        items: Items,
        lists: Lists,
        used_U: np.ndarray,
        place_N: np.ndarray,
        weights_B: np.ndarray | None,
    ) -> tuple[Tensor, Tensor]:
        """The whole catalogue: each label competes with all live items."""
        where_BL = lists.where_BL & lists.label_known_B[:, None]
        places_BL = place_N[lists.candidate_slots_BL]
        taken = np.nonzero(where_BL & (lists.labels_BL > 0))
        history_BH = place_N[lists.requests.history_slots_BH]
        hidden = no_rivals(self._live_N[used_U], history_BH, (taken[0], places_BL[taken]))
        scores_BL, z_B = losses.catalogue_scores(
            user_BD,
            items.vectors_UD,
            items.biases_U,
            places_BL=torch.from_numpy(np.maximum(places_BL, 0)),
            hidden=torch.from_numpy(hidden),
            chunk=CHUNK if len(used_U) > LARGE else None,
        )
        labels_BL, where = torch.from_numpy(lists.labels_BL), torch.from_numpy(where_BL)
        loss = losses.softmax_labels(scores_BL, labels_BL, where=where, weights=_tensor(weights_B), log_normaliser=z_B)
        return scores_BL, loss

    def _over_sample(
        self,
        user_BD: Tensor,
        items: Items,
        lists: Lists,
        used_U: np.ndarray,
        place_N: np.ndarray,
        scores_BL: Tensor,
        weights_B: np.ndarray | None,
    ) -> Tensor:
        """The sample: its S items, with one product for all lists, beside the lists' own candidates."""
        output_SW = F.embedding(torch.from_numpy(place_N[self.slots]), items.output_UW)
        vectors_SD, biases_S1, _ = output_SW.split(layout.parts(user_BD.shape[1]), -1)
        scores_BS = torch.addmm(biases_S1[:, 0], user_BD, vectors_SD.T)
        where_BL = lists.where_BL & lists.label_known_B[:, None]
        listed_BL, others_BS = self.competing(lists, where_BL & (lists.labels_BL > 0), used_U, place_N)
        # The softmax is over L candidates (always there: log q = 0) and S of the sample.
        log_q = torch.from_numpy(np.concatenate([np.zeros(scores_BL.shape[1]), self.log_q]).astype(np.float32))
        return losses.sampled_softmax(
            torch.cat([scores_BL, scores_BS], 1),
            F.pad(torch.from_numpy(lists.labels_BL), (0, len(self.slots))),
            where=torch.from_numpy(np.concatenate([listed_BL, others_BS], 1)),
            weights=_tensor(weights_B),
            log_q=log_q,
        )

    def competing(
        self, lists: Lists, positive_BL: np.ndarray, used_U: np.ndarray, place_N: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which candidates compete, bool `[B, L]`, and which items of the sample compete too, bool `[B, S]`."""
        slots_BL, history_BH = lists.candidate_slots_BL, lists.requests.history_slots_BH
        # For each list and each item of the step: is the item in the list's history? The last column is for no item.
        in_history_BU = np.zeros((len(slots_BL), len(used_U) + 1), bool)
        rows_B1 = np.arange(len(slots_BL))[:, None]
        in_history_BU[rows_B1, place_N[history_BH]] = True
        in_history_BU[:, -1] = False
        places_BL = place_N[slots_BL]
        listed_BL = positive_BL | (lists.where_BL & self._live_N[slots_BL] & ~in_history_BU[rows_B1, places_BL])
        # Of the sample, all but the items in the list's history and the candidates that already compete.
        out_BU = in_history_BU
        rows_K, at = np.nonzero(listed_BL)
        out_BU[rows_K, places_BL[rows_K, at]] = True
        return listed_BL, ~out_BU[:, place_N[self.slots]]


def corrected(lists: Lists, most: float) -> tuple[Lists, np.ndarray | None]:
    """The labels, corrected for the place at which the endpoint showed each candidate.

    A label of a candidate whose chance to be at its place was p counts 1 / p, at most `most`. So an item that was shown
    there by a rare draw stands for all the times when it was not. What is liked then no longer depends on the place
    that the serving student gave it (inverse propensity scoring with clipping: Joachims, Swaminathan and Schnabel,
    "Unbiased learning-to-rank with biased feedback", WSDM 2017; Bottou et al., JMLR 2013).

    Returns:
        The lists, in which each label has its factor; and for each list the factor of all its labels together, f32
        `[B]`: `Σ y_i w_i / Σ y_i`. A loss that divides by the labels' sum needs both. None: every factor is 1.
    """
    if lists.shown_BL is None or most <= 1:
        return lists, None
    labels_BL = lists.labels_BL * np.minimum(1 / lists.shown_BL, np.float32(most))
    before_B, after_B = np.where(lists.where_BL, (lists.labels_BL, labels_BL), 0).sum(-1)
    return replace(lists, labels_BL=labels_BL), np.divide(after_B, before_B, np.ones_like(after_B), where=before_B > 0)


def _tensor(array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)


def scores_of_lists(user_BD: Tensor, items: Items, places_BL: np.ndarray) -> Tensor:
    """The lists' own candidates, `[B, L]`: vector and bias of each, and user · vector + bias. Place −1 takes item 0."""
    output_BLW = F.embedding(torch.from_numpy(np.maximum(places_BL, 0)), items.output_UW)
    vectors_BLD, biases_BL1, _ = output_BLW.split(layout.parts(user_BD.shape[1]), -1)
    scores_BL: Tensor = torch.baddbmm(biases_BL1, vectors_BLD, user_BD[:, :, None])[..., 0]
    return scores_BL


def no_rivals(live_N: np.ndarray, history_BH: np.ndarray, positives: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """What a label does not compete with, as flat indices into `[B, N]`: withdrawn items and the list's own history.

    A positive that is in the history, or was withdrawn since, still competes.

    Args:
        live_N: Which items are not withdrawn.
        history_BH: Histories as slots, −1 where there is none.
        positives: List and slot of each positive label.
    """
    count = len(live_N)
    first_B1 = np.arange(len(history_BH))[:, None] * count
    hidden = np.concatenate([(first_B1 + history_BH)[history_BH >= 0], (first_B1 + np.flatnonzero(~live_N)).ravel()])
    if not len(positives[0]):
        return hidden
    # Take the positives out of `hidden` by binary search. A mask of [B, N] would need more memory than all the rest.
    competes = np.sort(positives[0] * count + positives[1])
    at = np.minimum(np.searchsorted(competes, hidden), len(competes) - 1)
    kept: np.ndarray = hidden[competes[at] != hidden]
    return kept
