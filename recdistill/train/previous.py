"""An earlier copy of the student, for a loss that keeps the present student near it ("learning without forgetting").

The weights are copied every `every` steps, so the copy depends on the step count alone. There is one copy at a time, so
it needs the memory of the weights once. It scores the lists of a batch with the old weights. An item that the catalogue
did not hold at that time has no score. The idea is of Li and Hoiem, ECCV 2016.

A row or slot that was given back since may belong to another key now. The copy knows nothing of that key: its row is
zero, and its slot has no score.

It knows nothing of torch, losses or files. The towers are those of `model.forward`.

Example:
    >>> previous = Previous(every=100)
    >>> previous.due(200), previous.due(250), previous.items
    (True, False, 0)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from recdistill.errors import CheckpointError
from recdistill.features import Catalogue, FeatureSpec, Lists, Mark
from recdistill.model import forward

PREFIX = "previous/"


class Previous:
    """One copy of a student's weights.

    Args:
        every: Steps from one copy to the next.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.items = 0
        """Slots that the catalogue had when the copy was taken; 0 while there is none."""
        self.unknown: list[int] = []
        """Slots below `items` that the copy does not know, ascending: free at that time, or given back since.
        """
        self._weights: dict[str, np.ndarray] = {}
        self._marks: dict[str, Mark] = {}
        self._slots: Mark | None = None

    def due(self, step: int) -> bool:
        """Whether a new copy is taken after this step."""
        return step % self.every == 0

    def renew(self, weights: Mapping[str, np.ndarray], catalogue: Catalogue) -> None:
        """Takes a new copy. `weights` are those of the catalogue as it is now; of a table, only the rows in use."""
        self._weights, self.items = dict(weights), len(catalogue)
        self.unknown = [slot for slot, item_id in enumerate(catalogue.ids) if not item_id] if catalogue.holes else []
        self._mark(catalogue)

    def _mark(self, catalogue: Catalogue) -> None:
        vocabulary = catalogue.vocabulary
        self._marks = {key: vocabulary.mark(key) for key in vocabulary.keys}
        self._slots = catalogue.mark

    def _follow(self, catalogue: Catalogue) -> None:
        """Forgets what was given back since the copy was taken, or since this was last called."""
        if not self.items:
            return
        for key, mark in self._marks.items():
            _, evicted, self._marks[key] = catalogue.vocabulary.changes(key, mark)
            if rows := [row for row in evicted if row < len(self._weights[key])]:
                self._weights[key] = self._weights[key].copy()  # what comes from a file may be read-only
                self._weights[key][rows] = 0.0
        _, evicted, self._slots = catalogue.changes(self._slots)
        if evicted:
            self.unknown = sorted({*self.unknown, *(slot for slot in evicted if slot < self.items)})

    def copy_rows(self, catalogue: Catalogue, key: str, rows: Sequence[int], sources: Sequence[int]) -> None:
        """Rows that are given late start from other rows in the copy too, as they do in the student."""
        self._follow(catalogue)
        if self.items:
            missing = max(0, max(rows) + 1 - len(self._weights[key]))
            self._weights[key] = np.pad(self._weights[key], ((0, missing), (0, 0)))
            self._weights[key][list(rows)] = self._weights[key][list(sources)]

    def scores(self, spec: FeatureSpec, catalogue: Catalogue, lists: Lists) -> tuple[np.ndarray, npt.NDArray[np.bool_]]:
        """The copy's scores of a batch's candidates, f32 `[B, L]`, and which candidates it knows, bool `[B, L]`."""
        self._follow(catalogue)
        known_BL = lists.where_BL & (lists.candidate_slots_BL < self.items)
        if self.unknown:
            known_BL &= ~np.isin(lists.candidate_slots_BL, self.unknown)
        # Each slot of the batch once: `slots_U`. `place_N` says where each candidate and then each event is in it.
        slots_U, place_N = np.unique(
            np.concatenate([lists.candidate_slots_BL.ravel(), lists.requests.history_slots_BH.ravel()]),
            return_inverse=True,
        )
        # Slot −1 is no item. It takes the vector of item 0 here, and is masked below.
        encoded = catalogue.encoded(np.maximum(slots_U, 0))
        cut = lists.candidate_slots_BL.size  # the first so many places are the candidates'
        places_BL = place_N[:cut].reshape(lists.candidate_slots_BL.shape)
        history_BH = np.where(
            lists.requests.history_slots_BH >= 0, place_N[cut:].reshape(lists.requests.history_slots_BH.shape), -1
        )
        requests = dataclasses.replace(lists.requests, history_slots_BH=history_BH)
        weights = self._weights
        for key, rows in [
            ("id", encoded.id_rows_N),
            *[(f"item.{name}", encoded.fields[name]) for name in spec.item if spec.item[name].kind == "category"],
            *[(f"context.{n}", requests.context[n]) for n in spec.context if spec.context[n].kind == "category"],
        ]:
            # The copy is shorter where rows were admitted since: those rows are zero.
            if rows.size and (missing := int(rows.max()) + 1 - len(weights[key])) > 0:
                weights = weights | {key: np.pad(weights[key], ((0, missing), (0, 0)))}
        vectors_UW = forward.items(weights, spec, encoded)
        users_BD = forward.users(weights, spec, vectors_UW, requests)
        dim = users_BD.shape[1]
        # A score is user · vector + bias; column `dim` of an item holds its bias.
        of_BLW = vectors_UW[places_BL]
        scores_BL = (of_BLW[..., :dim] @ users_BD[:, :, None])[..., 0] + of_BLW[..., dim]
        return np.where(known_BL, scores_BL, 0.0).astype(np.float32), known_BL

    def tensors(self, catalogue: Catalogue) -> dict[str, np.ndarray]:
        """The arrays of the copy for a checkpoint, which also saves `items` and `unknown`.

        Rows and slots that were given back are cleared first.
        """
        self._follow(catalogue)
        return {PREFIX + key: value for key, value in self._weights.items()}

    def restore(
        self,
        tensors: Mapping[str, np.ndarray],
        items: int,
        unknown: Sequence[int],
        weights: Mapping[str, np.ndarray],
        catalogue: Catalogue,
    ) -> None:
        """Takes the state that `tensors()` saved.

        Args:
            tensors: The arrays of the copy in the checkpoint.
            items: `items` of that time.
            unknown: `unknown` of that time.
            weights: The present student's weights; the copy must have the same names and widths.
            catalogue: The catalogue of the checkpoint.

        Raises:
            CheckpointError: They are not a copy of such a student.
        """
        taken = {key.removeprefix(PREFIX): value for key, value in tensors.items()}
        if bool(taken) != (items > 0) or (taken and taken.keys() != weights.keys()):
            raise CheckpointError("checkpoint: the copy of the previous student is not whole")
        for key, value in taken.items():
            if value.dtype != np.float32 or value.shape[1:] != weights[key].shape[1:] or len(value) > len(weights[key]):
                raise CheckpointError(f"checkpoint: {PREFIX}{key} is not of this student")
        self._weights, self.items, self.unknown = taken, items, list(unknown)
        self._mark(catalogue)
