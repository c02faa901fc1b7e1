"""Gives a new item a better row, before anybody has chosen it, from known items with similar attributes.

The row of a known item has two parts: one from its attributes, and one that training has learnt for this item alone. A
new item has only the first part. For known items, the second part can be computed: it is the difference between the
item's row and the row that its attributes alone would give. Items with similar attributes often have similar
differences. So a new item gets the mean difference of its neighbours. Nearer neighbours count more.

Two numbers are fitted: how much more a near neighbour counts, and how much of the mean is added. For this, each known
item is treated as if it were new, and the mean of its neighbours is compared with its real difference. If neighbours
say nothing about an item, nothing is added.

It knows nothing of states, requests or records.

Example:
    >>> bare_MW = np.repeat(np.eye(2, 4, dtype=np.float32), 50, axis=0)  # two kinds of items, 50 of each
    >>> known_MW = bare_MW + np.repeat(np.array([[0, 0, 1, 0], [0, 0, -1, 0]], np.float32), 50, axis=0)
    >>> prior = Prior(bare_MW, known_MW)
    >>> prior.beyond(np.array([[1.0, 0.0, 0.0, 0.0]], np.float32)).round(2).tolist()
    [[0.0, 0.0, 1.0, 0.0]]
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from recdistill.model import layout

NEIGHBOURS: Final = 20
MOST: Final = 4096
"""At most so many known items are used. If there are more, every n-th is taken."""

_SHARPNESS: Final = (2.0, 5.0, 10.0, 20.0, 50.0)  # weight of a neighbour: exp(this · cosine)
_BLOCK: Final = 512
_FEWEST: Final = 50  # with fewer known items nothing is added

Floats = npt.NDArray[np.float32]


class Prior:
    """Predicts from its neighbours what a new item has beyond its attributes.

    Args:
        bare_MW: The rows that M known items get from their attributes alone.
        known_MW: The rows that these items really have.
    """

    def __init__(self, bare_MW: Floats, known_MW: Floats) -> None:
        step = -(-len(bare_MW) // MOST)
        bare_MW, known_MW = bare_MW[::step], known_MW[::step]
        self._middle_D = bare_MW[:, layout.VECTOR].mean(0) if len(bare_MW) else np.zeros(0, np.float32)
        self._keys_MD = self._key(bare_MW)
        self._beyond_MW = (known_MW - bare_MW).astype(np.float32)
        self._share_W = np.zeros(bare_MW.shape[1], np.float32)
        self._sharpness = _SHARPNESS[0]
        if len(bare_MW) >= _FEWEST:
            self._fit(bare_MW)

    def beyond(self, bare_FW: Floats) -> Floats:
        """What is added to the rows of F new items, `[F, W]`."""
        if not self._share_W.any():
            return np.zeros_like(bare_FW)
        parts = [bare_FW[start : start + _BLOCK] for start in range(0, len(bare_FW), _BLOCK)]
        found: Floats = np.concatenate([self._means(self._key(part), self._sharpness, None) for part in parts])
        return found * self._share_W

    @property
    def share(self) -> float:
        """How much of the mean of its neighbours an item's vector gets, from 0 to 1."""
        return float(self._share_W[0])

    def _fit(self, bare_MW: Floats) -> None:
        """Chooses what predicts the known items best from their neighbours. An item is not its own neighbour here."""
        width = bare_MW.shape[1]
        vector = np.zeros(width, bool)
        vector[layout.VECTOR] = True
        parts = [vector, *(np.arange(width) == column for column in np.flatnonzero(~vector))]
        best = np.inf
        for sharpness in _SHARPNESS:
            starts = range(0, len(self._keys_MD), _BLOCK)
            rows = [np.arange(start, min(start + _BLOCK, len(self._keys_MD))) for start in starts]
            guess_MW = np.concatenate([self._means(self._keys_MD[some], sharpness, some) for some in rows])
            share_W = np.zeros(width, np.float32)
            for part in parts:  # the vector as a whole, and each other number alone
                power = float((guess_MW[:, part] ** 2).sum())
                if power > 0:
                    share_W[part] = np.clip(float((guess_MW[:, part] * self._beyond_MW[:, part]).sum()) / power, 0, 1)
            left = float(((self._beyond_MW - share_W * guess_MW)[:, vector] ** 2).sum())
            if left < best:
                best, self._sharpness, self._share_W = left, sharpness, share_W

    def _key(self, bare_FW: Floats) -> Floats:
        vectors_FD = bare_FW[:, layout.VECTOR] - self._middle_D
        norms_F1 = np.linalg.norm(vectors_FD, axis=1, keepdims=True)
        keys: Floats = vectors_FD / np.maximum(norms_F1, np.finfo(np.float32).tiny)
        return keys

    def _means(self, keys_FD: Floats, sharpness: float, own: npt.NDArray[np.int64] | None) -> Floats:
        cosines_FM = keys_FD @ self._keys_MD.T
        if own is not None:
            cosines_FM[np.arange(len(own)), own] = -np.inf
        count = min(NEIGHBOURS, cosines_FM.shape[1] - (own is not None))
        near_FK = np.argpartition(-cosines_FM, count - 1, axis=1)[:, :count]
        weights_FK = np.exp(sharpness * (np.take_along_axis(cosines_FM, near_FK, 1) - 1))
        weights_FK /= weights_FK.sum(1, keepdims=True)
        means: Floats = np.einsum("fk,fkw->fw", weights_FK, self._beyond_MW[near_FK]).astype(np.float32)
        return means
