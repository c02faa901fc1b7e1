"""Imitates the first stage of a product: it chooses the items that a request has to rank, from past events alone.

Data sets of interactions say what was chosen, not what was offered. To turn them into lists, a `Retriever` reads the
log in time order. At each moment it offers what a product could have offered then: items that are popular now, items
that were chosen near the user's last ones, and some random items. It never offers an item that the user has had.

It knows items and users as row numbers only.

Example:
    >>> retriever = Retriever(items=6, mix=Mix(length=4, popular=1, covisited=1), seed=0)
    >>> for item, had in [(1, []), (2, [1]), (2, []), (3, [2])]:
    ...     retriever.observe(item, np.array(had, dtype=np.int64))
    >>> offered = retriever.candidates(np.array([1]), target=5)
    >>> len(offered), 5 in offered, 2 in offered, 1 in offered
    (4, True, True, False)
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from recdistill.errors import ConfigError

Rows = NDArray[np.int64]


class Mix(Struct, frozen=True, forbid_unknown_fields=True):
    """How many candidates of a list come from which source. Random items fill what a source cannot give.

    Attributes:
        length: Candidates in a list, with the target. There are fewer only if the catalogue has no more.
        popular: How many of them are the items chosen most often in the last `window` events.
        covisited: How many were chosen near the user's last `last` items.
        window: Events that recent popularity counts.
        refresh: Events between two sortings by popularity.
        last: Items of the user that co-visitation starts from.
        reach: How many items back in a user's log count as near.
        memory: Near choices kept for each item, the newest ones.
    """

    length: Annotated[int, Meta(ge=1)] = 64
    popular: Annotated[int, Meta(ge=0)] = 20
    covisited: Annotated[int, Meta(ge=0)] = 24
    window: Annotated[int, Meta(ge=1)] = 8000
    refresh: Annotated[int, Meta(ge=1)] = 200
    last: Annotated[int, Meta(ge=1)] = 5
    reach: Annotated[int, Meta(ge=1)] = 10
    memory: Annotated[int, Meta(ge=1)] = 128


class Retriever:
    """Offers candidates for a request, from the events observed so far.

    Equal seeds and calls give equal lists on one kind of processor. Of items that are equally near, NumPy's partial
    sort decides, and it is another one where a processor lacks the instructions of AVX2.

    Args:
        items: Rows of the catalogue. All of them can be offered.
        mix: What a list is made of.
        seed: Seed of the random items and of the order.

    Raises:
        ConfigError: The sources should give more than the list holds.
    """

    def __init__(self, items: int, mix: Mix | None = None, *, seed: int = 0) -> None:
        mix = Mix() if mix is None else mix
        try:
            msgspec.convert(msgspec.to_builtins(mix), Mix)  # a Struct made in code has not been checked yet
        except msgspec.ValidationError as e:
            raise ConfigError(f"mix of candidates: {e}") from e
        if mix.popular + mix.covisited > mix.length:
            raise ConfigError(
                f"mix of candidates: popular {mix.popular} + covisited {mix.covisited} is more than "
                f"length {mix.length}; lower one of them"
            )
        self._mix = mix
        self._random = np.random.default_rng(seed)
        self._window: deque[int] = deque()
        self._recent_N = np.zeros(items, np.int64)
        self._total_N = np.zeros(items, np.int64)
        self._near_NM = np.full((items, mix.memory), -1, np.int32)  # a ring buffer for each item
        self._next_N = np.zeros(items, np.int64)
        self._by_popularity: Rows = np.zeros(0, np.int64)
        self._until_refresh = 0
        self._free_N = np.ones(items, np.bool_)
        self._scratch_N = np.zeros(items, np.int64)
        self._steps = np.arange(mix.reach)

    def candidates(self, had: Rows, target: int | None = None) -> Rows:
        """A list for a user.

        Args:
            had: All items of the user's past, oldest first. None of them is offered.
            target: An item that must be in the list (the one that was chosen). Its place is random.

        Returns:
            Distinct rows, in random order.
        """
        mix, free_N = self._mix, self._free_N
        free_N[had] = False
        taken: list[Rows] = []
        if target is not None:
            taken.append(np.array([target], np.int64))
            free_N[target] = False
        left = mix.length - len(taken)
        for n, source in ((mix.popular, self._popular), (mix.covisited, self._covisited)):
            found = source(min(n, left), had)
            free_N[found] = False
            taken.append(found)
            left -= len(found)
        taken.append(self._uniform(left))
        chosen = np.concatenate(taken)
        free_N[chosen] = True
        free_N[had] = True
        self._random.shuffle(chosen)
        return chosen

    def observe(self, item: int, had: Rows) -> None:
        """Notes that a user chose an item.

        Args:
            item: Its row.
            had: The user's items before, oldest first.
        """
        self._window.append(item)
        self._recent_N[item] += 1
        self._total_N[item] += 1
        if len(self._window) > self._mix.window:
            self._recent_N[self._window.popleft()] -= 1
        self._until_refresh -= 1
        near = had[-min(self._mix.reach, self._mix.memory) :]
        if not len(near):
            return
        place = self._next_N[near]  # an item that is twice in `near` is written once, at one place
        self._near_NM[near, place] = item
        self._next_N[near] = (place + 1) % self._mix.memory
        # And the other way round: `near` goes into the ring of `item`.
        places = (int(self._next_N[item]) + self._steps[: len(near)]) % self._mix.memory
        self._near_NM[item, places] = near
        self._next_N[item] = (places[-1] + 1) % self._mix.memory

    def _popular(self, n: int, had: Rows) -> Rows:
        if self._until_refresh <= 0:
            order = np.argsort(-self._recent_N, kind="stable")
            self._by_popularity = order[: int(np.count_nonzero(self._recent_N))]
            self._until_refresh = self._mix.refresh
        # Only the items in `had` and the target can be missing at the front of the order, so this front is long enough.
        front = self._by_popularity[: n + len(had) + 1]
        return front[self._free_N[front]][:n]

    def _covisited(self, n: int, had: Rows) -> Rows:
        near = self._near_NM[had[-self._mix.last :]].ravel()
        # Count how often each item is near. An empty place in a ring is -1, and is left out.
        counts_N = np.bincount(near + 1, minlength=len(self._free_N) + 1)[1:]
        rows = np.flatnonzero(counts_N * self._free_N)
        # Divide as a cosine does: an item that everybody chooses says less about which items belong together.
        weight = counts_N[rows] / np.sqrt(self._total_N[rows])
        best: Rows = rows if len(rows) <= n else rows[np.argpartition(-weight, n)[:n]]
        return best

    def _uniform(self, n: int) -> Rows:
        """Random free rows. Each set of rows has the same chance; their order has no meaning."""
        free_N, items = self._free_N, len(self._free_N)
        if n == 0:
            return np.zeros(0, np.int64)
        for _ in range(2):
            drawn: Rows = self._random.integers(items, size=3 * n + 8)
            drawn = drawn[free_N[drawn]]
            # Of equal draws the last one stays. So the rows that stay are distinct, as if drawn without replacement.
            place = np.arange(len(drawn))
            self._scratch_N[drawn] = place
            drawn = drawn[self._scratch_N[drawn] == place]
            if len(drawn) >= n:
                return drawn[-n:]
        pool: Rows = np.flatnonzero(free_N)  # few are free
        if len(pool) > n:
            pool = self._random.choice(pool, n, replace=False, shuffle=False)
        return pool
