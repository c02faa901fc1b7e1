"""Which items a step looks up, and the row that an item has when its own is left out.

It knows nothing of torch, losses or weights.

Example:
    >>> used_U, place_N = Places().of(6, [np.array([[4, -1]]), np.array([1, 4])])
    >>> used_U.tolist(), place_N[[4, 1, 0, -1]].tolist()
    ([1, 4], [1, 0, -1, -1])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recdistill.features import Catalogue, Mark


class Places:
    """Where each slot of the catalogue stands among those that a step looks up.

    The table of places is kept from step to step, because a fresh one of a million places costs more than the rest.
    """

    def __init__(self) -> None:
        self._place_N = np.full(1, -1, np.int64)
        self._used_U = np.zeros(0, np.int64)

    def of(self, count: int, named: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The slots that are named, ascending, int `[U]`, and the place of each slot among them, `[N + 1]`.

        A slot that is not named has place −1. So has the last entry, which is for slot −1: numpy reads index −1 there.
        The places hold until this is called again.

        Args:
            count: N, slots of the catalogue.
            named: Arrays of slots, −1 where there is none.
        """
        used_U = np.unique(np.concatenate([slots.ravel() for slots in named]))
        used_U = used_U[np.searchsorted(used_U, 0) :].astype(np.int64)
        if len(self._place_N) != count + 1:
            self._place_N = np.full(count + 1, -1, np.int64)
        else:
            self._place_N[self._used_U] = -1
        self._used_U = used_U
        self._place_N[used_U] = np.arange(len(used_U))
        return used_U, self._place_N


class BareRows:
    """By slot: the row of `id` that an item has when its own row is left out. This is the shared row of its id."""

    def __init__(self) -> None:
        self._rows_N = np.zeros(0, np.int32)
        self._mark: Mark | None = None

    def of(self, catalogue: Catalogue, slots_U: np.ndarray) -> np.ndarray:
        """The rows of some slots, int32 `[U]`."""
        fresh, _, self._mark = catalogue.changes(self._mark)
        if fresh:
            self._rows_N = np.pad(self._rows_N, (0, len(catalogue) - len(self._rows_N)))
            ids = catalogue.ids
            self._rows_N[fresh] = [catalogue.vocabulary.shared_row("id", ids[slot]) for slot in fresh]
        rows_U: np.ndarray = self._rows_N[slots_U]
        return rows_U
