"""What a label competes with: every live item of the catalogue, or a random sample of them.

A student is never asked for an item that is in the user's history. So such an item is no rival. A withdrawn item is no
rival either. A positive always counts, also when it is withdrawn or in the history: its share must be at most 1.

With a sample, the list's own positives and rivals are always in the sum and count once. Any other live item is in the
sum with probability S / N, and counts N / S times (`losses.sampled_softmax`). So the normaliser, before its logarithm,
is right on average. A sample of all items gives the same as the whole catalogue. All lists of a step use one sample:
its items are looked up once, and their scores are one matrix product.

It knows nothing of weights, teachers or steps. Its random numbers come from the caller's state.

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
from recdistill.losses import CHUNK
from recdistill.model import layout
from recdistill.train.student import Items, uniform

LARGE = 4 * CHUNK
"""Up to this many items, all scores are computed at once, which is faster. More come in chunks, to limit memory.
"""


class Rivals:
    """The rivals of the labels of one step.

    Args:
        live_N: Which slots of the catalogue hold an item that is not withdrawn.
        state: The state of the step's random numbers, see `uniform`. A slot's number does not depend on the other
            slots.
        full: Up to this many live items, all of them are rivals. None: labels are not learnt; their loss is only
            reported, over the list.
        sample: S, how many items are drawn where there are more. All have the same chance, and none is drawn twice.
    """

    def __init__(self, live_N: np.ndarray, state: np.ndarray, *, full: int | None, sample: int) -> None:
        self._live_N = live_N
        self.slots = np.zeros(0, np.int64) if full is None else np.flatnonzero(live_N)
        """Slots of the rivals, ascending. The step looks them up, and the items that the lists name."""
        self.share = 1.0
        """S / N, 1 without sampling."""
        self._whole = full is not None and len(self.slots) <= full
        self._learnt = full is not None
        if not self._whole and len(self.slots) > sample:
            # Each slot gets a random number; the S slots with the lowest numbers are the sample.
            keys = uniform(state, self.slots.astype(np.uint64))
            self.share = sample / len(self.slots)
            self.slots = np.sort(self.slots[np.argpartition(keys, sample)[:sample]])

    def scores_and_labels(
        self, user_BD: Tensor, items: Items, lists: Lists, used_U: np.ndarray, place_N: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """Scores of the lists' candidates, `[B, L]`, and the loss of their labels, a scalar in nats.

        Args:
            user_BD: A vector for each list.
            items: The items that the step has looked up: `slots`, and what the lists name.
            lists: The batch.
            used_U: Slots of these items.
            place_N: Place of each slot in `items`, `[N + 1]`, −1 where it is not there. The last entry is for slot −1.
        """
        places_BL = place_N[lists.candidate_slots_BL]
        where_BL = lists.where_BL & lists.label_known_B[:, None]
        positive_BL = where_BL & (lists.labels_BL > 0)
        labels_BL, places = torch.from_numpy(lists.labels_BL), torch.from_numpy(np.maximum(places_BL, 0))
        # The whole catalogue: each label competes with all live items.
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
                chunk=CHUNK if len(used_U) > LARGE else None,
            )
            where = torch.from_numpy(where_BL)
            return scores_BL, losses.softmax_labels(scores_BL, labels_BL, where=where, log_normaliser=z_B)
        # The lists' own candidates: vector and bias of each, and user · vector + bias.
        output_BLW = F.embedding(places, items.output_UW)
        vectors_BLD, biases_BL1, _ = output_BLW.split(layout.parts(user_BD.shape[1]), -1)
        scores_BL = torch.baddbmm(biases_BL1, vectors_BLD, user_BD[:, :, None])[..., 0]
        if not self._learnt:
            return scores_BL, losses.softmax_labels(scores_BL, labels_BL, where=torch.from_numpy(where_BL))
        # The sample: the same for its S items, with one product for all lists.
        output_SW = F.embedding(torch.from_numpy(place_N[self.slots]), items.output_UW)
        vectors_SD, biases_S1, _ = output_SW.split(layout.parts(user_BD.shape[1]), -1)
        scores_BS = torch.addmm(biases_S1[:, 0], user_BD, vectors_SD.T)
        listed_BL, others_BS = self.competing(lists, positive_BL)
        # The softmax is over L candidates (always there: log q = 0) and S of the sample (log q = log(S / N)).
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
        """Which candidates compete, bool `[B, L]`, and which items of the sample compete too, bool `[B, S]`."""
        slots_BL, history_BH = lists.candidate_slots_BL, lists.requests.history_slots_BH
        count = len(self._live_N)
        # List and slot as one number, `list * count + slot`: so `isin` compares within a list only.
        first_B1 = np.arange(len(slots_BL))[:, None] * count
        had_BL = np.isin(first_B1 + slots_BL, (first_B1 + history_BH)[history_BH >= 0])
        listed_BL = positive_BL | (lists.where_BL & self._live_N[slots_BL] & ~had_BL)
        # Of the sample, all but the items in the list's history and the candidates that already compete.
        others_BS = np.ones((len(slots_BL), len(self.slots)), bool)
        column_N = np.full(count + 1, -1)  # the last for slot −1
        column_N[self.slots] = np.arange(len(self.slots))
        for columns in (column_N[history_BH], np.where(listed_BL, column_N[slots_BL], -1)):
            rows_K, k = np.nonzero(columns >= 0)
            others_BS[rows_K, columns[rows_K, k]] = False
        return listed_BL, others_BS


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
