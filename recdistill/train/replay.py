"""Lists that were learnt not long ago, to learn their scores once more: a small replay.

In a stream each example comes once. A second look at the scores of some older lists, one batch in each step, teaches
nearly as much as a second pass. Which batch it is follows from the step's number. Labels are not looked at again: a
student overfits them sooner.

The newest lists are kept, up to a number. They are kept as they were learnt, so nothing is decoded or encoded again. An
item or a context value that was given back since takes no part any more.

It knows nothing of torch, of losses or of files.

Example:
    >>> replay = Replay(lists=100)
    >>> replay.draw(0.3) is None, len(replay)
    (True, 0)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from recdistill.errors import CheckpointError
from recdistill.features import Catalogue, Lists, Mark, Requests
from recdistill.train.batch import arrays_of, rows_of

PREFIX = "replay/"


class Kept(NamedTuple):
    """A batch that was learnt."""

    lists: Lists
    logits_BL: np.ndarray
    """What was taught."""
    weights_B: np.ndarray
    """What each list weighed."""
    teachers: Sequence[str]


class Replay:
    """The batches that are kept, oldest first.

    Args:
        lists: How many lists are kept.
    """

    def __init__(self, lists: int) -> None:
        self.lists = lists
        self._kept: deque[Kept] = deque()
        self._slots: Mark | None = None
        self._rows: dict[str, Mark] = {}

    def __len__(self) -> int:
        return sum(len(one.weights_B) for one in self._kept)

    def draw(self, number: float) -> Kept | None:
        """The batch at a place between 0, the oldest, and 1, the newest; None while there is none."""
        return self._kept[int(number * len(self._kept))] if self._kept else None

    def keep(self, one: Kept) -> None:
        """Keeps what teaches of a batch, and drops the oldest batches that there is no room for."""
        rows_B = np.flatnonzero(one.weights_B > 0)
        if rows_B.size:
            lists, teachers = rows_of(one.lists, rows_B), [one.teachers[row] for row in rows_B.tolist()]
            self._kept.append(Kept(lists, one.logits_BL[rows_B], one.weights_B[rows_B], teachers))
        while len(self) > self.lists and len(self._kept) > 1:
            self._kept.popleft()

    def begin(self, catalogue: Catalogue) -> None:
        """Starts to follow a catalogue. What is kept is of this catalogue as it is now."""
        vocabulary = catalogue.vocabulary
        self._slots = catalogue.mark
        self._rows = {key: vocabulary.mark(key) for key in vocabulary.keys if key.startswith("context.")}

    def follow(self, catalogue: Catalogue) -> None:
        """Forgets the slots and the context values that were given back since this was last called."""
        _, slots, self._slots = catalogue.changes(self._slots)
        if slots:
            for place, kept in enumerate(self._kept):
                self._kept[place] = kept._replace(lists=_without_slots(kept.lists, slots))
        for key, mark in self._rows.items():
            _, rows, self._rows[key] = catalogue.vocabulary.changes(key, mark)
            if rows:
                for place, kept in enumerate(self._kept):
                    lists = _without_values(kept.lists, key.removeprefix("context."), rows)
                    self._kept[place] = kept._replace(lists=lists)

    def state(self) -> tuple[dict[str, np.ndarray], list[list[str]]]:
        """What a checkpoint holds: the arrays, and the names of each batch's teachers.

        They are no copies. Nothing writes to them: what is given back later changes others, see `follow`.
        """
        tensors: dict[str, np.ndarray] = {}
        names: list[list[str]] = []
        for number, one in enumerate(self._kept):
            found, code_B = np.unique(np.asarray(one.teachers), return_inverse=True)
            names.append(found.tolist())
            arrays = {"logits": one.logits_BL, "weights": one.weights_B, "teachers": code_B.astype(np.int32)}
            arrays |= {f"lists.{name}": value for name, value in arrays_of(one.lists)}
            arrays |= {f"requests.{name}": value for name, value in arrays_of(one.lists.requests)}
            arrays |= {f"context.{name}": value for name, value in one.lists.requests.context.items()}
            tensors |= {f"{PREFIX}{number}/{name}": value for name, value in arrays.items()}
        return tensors, names

    def restore(self, tensors: Mapping[str, np.ndarray], names: list[list[str]], catalogue: Catalogue) -> None:
        """Takes what `state()` gave.

        Raises:
            CheckpointError: It is not whole.
        """
        self._kept.clear()
        try:
            for number, teachers in enumerate(names):
                head = f"{PREFIX}{number}/"
                own = {name.removeprefix(head): np.array(v) for name, v in tensors.items() if name.startswith(head)}
                context = _part(own, "context.")
                requests = Requests(**_part(own, "requests."), context=context)
                parts = {"offsets_BL": None, "shown_BL": None} | _part(own, "lists.")
                told = [teachers[code] for code in own["teachers"].tolist()]
                self._kept.append(Kept(Lists(requests=requests, **parts), own["logits"], own["weights"], told))
        except (KeyError, TypeError, IndexError) as e:
            raise CheckpointError(f"checkpoint: the lists to look at again are not whole ({e})") from e
        self.begin(catalogue)


def _part(arrays: Mapping[str, np.ndarray], head: str) -> dict[str, Any]:
    return {name.removeprefix(head): value for name, value in arrays.items() if name.startswith(head)}


def _without_slots(lists: Lists, slots: Sequence[int]) -> Lists:
    """The lists without some slots. Arrays that change are fresh ones: a checkpoint may still be writing the others."""
    gone_BL, history_BH = np.isin(lists.candidate_slots_BL, slots), lists.requests.history_slots_BH
    if gone_BL.any():
        lists = replace(
            lists,
            where_BL=lists.where_BL & ~gone_BL,
            scored_BL=lists.scored_BL & ~gone_BL,
            candidate_slots_BL=_none_at(lists.candidate_slots_BL, gone_BL),
        )
    if (gone_BH := np.isin(history_BH, slots)).any():
        lists = replace(lists, requests=replace(lists.requests, history_slots_BH=_none_at(history_BH, gone_BH)))
    return lists


def _without_values(lists: Lists, field: str, rows: Sequence[int]) -> Lists:
    """The lists without some rows of a context field, in the same way."""
    context = lists.requests.context
    if not (gone_BM := np.isin(context[field], rows)).any():
        return lists
    return replace(
        lists, requests=replace(lists.requests, context=context | {field: _none_at(context[field], gone_BM)})
    )


def _none_at(numbers: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """A copy with −1 in some places."""
    return np.where(gone, numbers.dtype.type(-1), numbers)
