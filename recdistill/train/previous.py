"""The student as it was a while ago, for a loss that keeps the present one near it ("learning without forgetting").

A copy of the weights is taken every so many steps, so it depends on the step count alone, and there is one at a time:
memory is that of the weights, once. It scores the lists of a batch as it would have scored them then; an item that the
catalogue did not hold at that time has no score (Li and Hoiem, ECCV 2016, for the idea). A row or slot that was given
back since belongs to another now, and the copy knows nothing of that one: its rows are zero, its slot has no score.

It knows nothing of torch, losses or files; the towers are those of `forward.py`.

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
        """Slots below `items` of which the copy knows nothing, ascending: free at that time, or given back since."""
        self._weights: dict[str, np.ndarray] = {}
        self._marks: dict[str, Mark] = {}
        self._slots: Mark | None = None

    def due(self, step: int) -> bool:
        """Whether the copy is renewed after this step."""
        return step % self.every == 0

    def renew(self, weights: Mapping[str, np.ndarray], catalogue: Catalogue) -> None:
        """Takes the weights, of tables the rows in use, as they belong to the catalogue's items of this moment."""
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

    def scores(self, spec: FeatureSpec, catalogue: Catalogue, lists: Lists) -> tuple[np.ndarray, npt.NDArray[np.bool_]]:
        """What this student says of a batch's candidates, f32 `[B, L]`, and of which it knows anything."""
        self._follow(catalogue)
        known_BL = lists.where_BL & (lists.candidate_slots_BL < self.items)
        if self.unknown:
            known_BL &= ~np.isin(lists.candidate_slots_BL, self.unknown)
        slots_U, place_N = np.unique(
            np.concatenate([lists.candidate_slots_BL.ravel(), lists.requests.history_slots_BH.ravel()]),
            return_inverse=True,
        )
        # Slot −1 stands for nothing: it borrows an item, and is masked wherever it occurs.
        encoded = catalogue.encoded(np.maximum(slots_U, 0))
        cut = lists.candidate_slots_BL.size
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
            # Rows that were admitted since are all zero.
            if rows.size and (missing := int(rows.max()) + 1 - len(weights[key])) > 0:
                weights = weights | {key: np.pad(weights[key], ((0, missing), (0, 0)))}
        vectors_UW = forward.items(weights, spec, encoded)
        users_BD = forward.users(weights, spec, vectors_UW, requests)
        dim = users_BD.shape[1]
        of_BLW = vectors_UW[places_BL]
        scores_BL = (of_BLW[..., :dim] @ users_BD[:, :, None])[..., 0] + of_BLW[..., dim]
        return np.where(known_BL, scores_BL, 0.0).astype(np.float32), known_BL

    def tensors(self, catalogue: Catalogue) -> dict[str, np.ndarray]:
        """What a checkpoint holds of the copy, beside `items` and `unknown`, in step with the present catalogue."""
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
        """Takes up where `tensors()` was taken.

        Args:
            tensors: The checkpoint's, of this copy.
            items: `items` of that time.
            unknown: `unknown` of that time.
            weights: The present student's, which the copy's must resemble.
            catalogue: The checkpoint's.

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
