"""What is known of a new item before anybody has chosen it: what its neighbours have beyond their attributes.

The row of an item comes from its attributes and from a row of its own, which training learns. A new item has none, so
its attributes alone speak. But of the items that training knows, it can be seen what their own rows added: the
difference between an item's row and the row that its attributes alone would have. Items with like attributes often have
like differences. So a new item gets the mean of what its neighbours have beyond their attributes. Nearer ones count
more.

How near counts, and how much of the mean is taken, is not guessed. Each known item is treated as new, and what its own
neighbours say is held against what is known of it. Where neighbours tell nothing, nothing is added.

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
"""So many known items are looked at; of more, every n-th."""

_SHARPNESS: Final = (2.0, 5.0, 10.0, 20.0, 50.0)  # weight of a neighbour: exp(this · cosine)
_BLOCK: Final = 512
_FEWEST: Final = 50  # with fewer known items nothing is added

Floats = npt.NDArray[np.float32]


class Prior:
    """What neighbours have beyond their attributes.

    Args:
        bare_MW: Rows of M known items from their attributes alone.
        known_MW: Their rows.
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
        """Chooses what predicts the known items best from their neighbours, each item left out of its own."""
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
