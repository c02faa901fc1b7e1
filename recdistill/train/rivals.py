"""What a label competes with: every live item of the catalogue, or a sample of them that speaks for all.

A student is never asked for what a history holds, so that is nobody's rival; nor is what was withdrawn. A positive
competes in any case: its share must be at most 1.

Over a sample, the list's own positives and rivals are there with certainty and count once; any other live item is there
with probability S / N and counts N / S times (`losses.sampled_softmax`). So the normaliser, before its logarithm, is
right on average, and a sample of all items gives what the whole catalogue gives. One sample serves all lists of a step:
its items are looked up once, and their scores are one product.

It knows nothing of weights, teachers or steps; random numbers come from the caller's state.

Example:
    >>> live_N, state = np.array([True, False, True, True]), np.asarray(3, np.uint64)
    >>> Rivals(live_N, state, full=3, sample=2).slots.tolist()
    [0, 2, 3]
    >>> rivals = Rivals(live_N, state, full=2, sample=2)
    >>> rivals.slots.tolist(), round(rivals.share, 4)
    ([0, 3], 0.6667)
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recdistill import losses
from recdistill.features import Lists
from recdistill.model import layout
from recdistill.train.student import Items, uniform

LARGE = 4 * losses.CHUNK
"""Items up to which their scores are formed all at once, which is quicker; more come in chunks: memory stays flat."""


class Rivals:
    """Whom the labels of one step compete with.

    Args:
        live_N: Which slots of the catalogue hold an item that is not withdrawn.
        state: Of the step's random numbers, see `uniform`; a slot's number does not depend on what else is live.
        full: Most live items among which there is no sampling; None: labels are not learnt, and their loss, a mere
            figure, is over the list.
        sample: S, drawn alike and without replacement where there are more.
    """

    def __init__(self, live_N: np.ndarray, state: np.ndarray, *, full: int | None, sample: int) -> None:
        self._live_N = live_N
        self.slots = np.zeros(0, np.int64) if full is None else np.flatnonzero(live_N)
        """The rivals, ascending: what has to be looked up beside what the lists name."""
        self.share = 1.0
        """S / N, 1 without sampling."""
        self._whole = full is not None and len(self.slots) <= full
        self._learnt = full is not None
        if not self._whole and len(self.slots) > sample:
            keys = uniform(state, self.slots.astype(np.uint64))
            self.share = sample / len(self.slots)
            self.slots = np.sort(self.slots[np.argpartition(keys, sample)[:sample]])

    def scores_and_labels(
        self, user_BD: Tensor, items: Items, lists: Lists, used_U: np.ndarray, place_N: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """Scores of the lists' candidates, `[B, L]`, and the loss of their labels, a scalar in nats.

        Args:
            user_BD: A vector for each list.
            items: Items in hand: `slots`, and what the lists name.
            lists: The batch.
            used_U: Slots of the items in hand.
            place_N: Place of each slot among the items in hand, `[N + 1]`, −1 where it is not; the last for slot −1.
        """
        places_BL = place_N[lists.candidate_slots_BL]
        where_BL = lists.where_BL & lists.label_known_B[:, None]
        positive_BL = where_BL & (lists.labels_BL > 0)
        labels_BL, places = torch.from_numpy(lists.labels_BL), torch.from_numpy(np.maximum(places_BL, 0))
        if self._whole:
            history_BH = place_N[lists.requests.history_slots_BH]
            taken = np.nonzero(positive_BL)
            hidden = no_rivals(self._live_N[used_U], history_BH, (taken[0], places_BL[taken]))
            scores_BL, z_B = losses.catalogue_scores(
                user_BD,
                items.vectors_UD,
                items.biases_U,
                places_BL=places,
                hidden=torch.from_numpy(hidden),
                chunk=losses.CHUNK if len(used_U) > LARGE else None,
            )
            where = torch.from_numpy(where_BL)
            return scores_BL, losses.softmax_labels(scores_BL, labels_BL, where=where, log_normaliser=z_B)
        output_BLW = F.embedding(places, items.output_UW)
        vectors_BLD, biases_BL1, _ = output_BLW.split(layout.parts(user_BD.shape[1]), -1)
        scores_BL = torch.baddbmm(biases_BL1, vectors_BLD, user_BD[:, :, None])[..., 0]
        if not self._learnt:
            return scores_BL, losses.softmax_labels(scores_BL, labels_BL, where=torch.from_numpy(where_BL))
        output_SW = F.embedding(torch.from_numpy(place_N[self.slots]), items.output_UW)
        vectors_SD, biases_S1, _ = output_SW.split(layout.parts(user_BD.shape[1]), -1)
        scores_BS = torch.addmm(biases_S1[:, 0], user_BD, vectors_SD.T)
        listed_BL, others_BS = self.competing(lists, positive_BL)
        log_q = torch.zeros(scores_BL.shape[1] + len(self.slots))
        log_q[scores_BL.shape[1] :] = math.log(self.share)
        label = losses.sampled_softmax(
            torch.cat([scores_BL, scores_BS], 1),
            F.pad(labels_BL, (0, len(self.slots))),
            where=torch.from_numpy(np.concatenate([listed_BL, others_BS], 1)),
            log_q=log_q,
        )
        return scores_BL, label

    def competing(self, lists: Lists, positive_BL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which candidates compete, bool `[B, L]`, and which of the sample beside them, bool `[B, S]`."""
        slots_BL, history_BH = lists.candidate_slots_BL, lists.requests.history_slots_BH
        count = len(self._live_N)
        first_B1 = np.arange(len(slots_BL))[:, None] * count
        had_BL = np.isin(first_B1 + slots_BL, (first_B1 + history_BH)[history_BH >= 0])
        listed_BL = positive_BL | (lists.where_BL & self._live_N[slots_BL] & ~had_BL)
        others_BS = np.ones((len(slots_BL), len(self.slots)), bool)
        column_N = np.full(count + 1, -1)  # the last for slot −1
        column_N[self.slots] = np.arange(len(self.slots))
        for columns in (column_N[history_BH], np.where(listed_BL, column_N[slots_BL], -1)):
            rows_K, k = np.nonzero(columns >= 0)
            others_BS[rows_K, columns[rows_K, k]] = False
        return listed_BL, others_BS


def no_rivals(live_N: np.ndarray, history_BH: np.ndarray, positives: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """What a label does not compete with, as flat indices into `[B, N]`: withdrawn items, and the list's own history.

    A positive that is in the history, or was withdrawn since, competes all the same.

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
    # Sorted, and not a mask of [B, N], which would be what takes most memory.
    competes = np.sort(positives[0] * count + positives[1])
    at = np.minimum(np.searchsorted(competes, hidden), len(competes) - 1)
    kept: np.ndarray = hidden[competes[at] != hidden]
    return kept
