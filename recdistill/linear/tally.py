"""Popularity and ItemKNN, counted while a stream is learnt: no list is read twice, and no user is kept.

A list counts when something in it was liked. Of these lists, three things are counted: in how many an item was liked,
how many have it among the newest `EVENTS` of their history, and, for a pair, how many have one item in the history and
the other one liked. So ItemKNN's nearness is c / (√(a n) + shrinkage), as between two sets of lists: c lists have both,
a have the one in the history, and n liked the other (a shrunk cosine; Sarwar et al., "Item-based collaborative
filtering", 2001). The score of an item is the sum over the history.

After each `HALF_LIFE` lists all counts are halved, so an old taste fades. Popularity of late is halved after each
`LATELY`. What is kept has a bound: where there are more than `MOST_PAIRS` pairs, or `MOST_ITEMS` items, the weaker half
goes, and what it had counted is lost. Below the bound nothing is lost.

The counts depend on the lists and on the steps in which they came, and on nothing else.

It knows nothing of torch, of students or of how a ranker answers.

Example:
    >>> tally = Tally()
    >>> tally.learn([(["a"], ["b"]), (["a"], ["b"]), (["a"], ["c"]), ([], ["c"]), (["d"], ["c"])])
    >>> tally.liked(["b", "c", "z"]).tolist(), tally.lists
    ([2.0, 3.0, 0.0], 5)
    >>> again = Tally.of(tally.data())
    >>> again.data() == tally.data(), again.neighbours().toarray().round(2)[0].tolist()  # items: a b c d
    (True, [0.0, 0.27, 0.12, 0.0])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from recdistill.errors import DataError
from recdistill.records import Columns

TALLY: Final = "tally.msgpack"
"""The file of a checkpoint that holds the counts, and the file beside a bundle."""

FORMAT: Final = 1
HALF_LIFE: Final = 100_000
LATELY: Final = 10_000
EVENTS: Final = 50
MOST_ITEMS: Final = 1 << 20
MOST_PAIRS: Final = 1 << 20
SHRINKAGE: Final = 5.0

_PENDING: Final = 1 << 19  # pairs that wait until they are sorted in
_LOW: Final = np.uint64(0xFFFF_FFFF)
_HALF: Final = np.uint64(32)

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


class Asked(Struct):
    """What the teacher was asked for, over all lists that were learnt.

    Attributes:
        lists: Lists.
        lists_scored: Those of which it has scored a candidate.
        candidates: Their candidates.
        scored: Those that it has scored.
        budgeted: Whether a budget left some out by chance.
    """

    lists: int = 0
    lists_scored: int = 0
    candidates: int = 0
    scored: int = 0
    budgeted: bool = False

    def add(self, examples: Columns) -> None:
        """Adds lists. One whose labels come later was counted with its scores."""
        rows_C = np.repeat(np.arange(len(examples)), examples.counts_E)
        scored_E = np.bincount(rows_C, weights=examples.scored_C, minlength=len(examples))
        new_E = np.array([state != "labels" for state in examples.states], bool)
        self.lists += int(new_E.sum())
        self.lists_scored += int((new_E & (scored_E > 0)).sum())
        self.candidates += int(examples.counts_E[new_E].sum())
        self.scored += int(scored_E[new_E].sum())
        self.budgeted |= bool((new_E & ((examples.sampled_E < 1) | examples.chanced_E)).any())


class _State(Struct, frozen=True):
    """The bytes of a checkpoint. Arrays are little-endian."""

    format: int
    began: int
    lists: int
    asked: Asked
    shed: tuple[int, int]
    ids: bytes  # UTF-8, each with a NUL behind it; no id holds one
    items: bytes
    keys: bytes
    weights: bytes
    pending: bytes


class Tally:
    """The counts.

    Args:
        began: Examples that the student had learnt before anything was counted.
    """

    def __init__(self, began: int = 0) -> None:
        self.began, self.lists = began, 0
        self.asked = Asked()
        self.shed = (0, 0)
        """Pairs and items that the bounds have cost so far."""
        self._number: dict[str, int] = {}
        self._names = bytearray()  # the ids as a checkpoint holds them: to join a million of them each time takes long
        self._items_3N: Floats = np.zeros((3, 0))  # liked, liked of late, in histories
        self._keys: Keys = np.zeros(0, np.uint64)  # item of the history and liked item, in ascending order
        self._weights: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        self._pending: list[Keys] = []

    def take(self, examples: Columns) -> None:
        """Counts the lists of one step. It is called once for each, in the order of the stream."""
        self.asked.add(examples)
        ends_E, until_E = np.cumsum(examples.counts_E), np.cumsum(examples.events_E)
        liked_C = np.flatnonzero(examples.labels_C > 0)
        if not len(liked_C):
            return
        rows, first = np.unique(np.searchsorted(ends_E, liked_C, side="right"), return_index=True)
        found = []
        for row, chosen in zip(rows.tolist(), np.split(liked_C, first[1:]), strict=True):
            stop = int(until_E[row])
            since = max(stop - int(examples.events_E[row]), stop - EVENTS)
            liked = [examples.items.text(place) for place in chosen.tolist()]
            found.append((examples.event_items.texts(since, stop), liked))
        self.learn(found)

    def learn(self, lists: Sequence[tuple[Sequence[str], Sequence[str]]]) -> None:
        """Counts some lists of one step.

        Args:
            lists: Items of the history, oldest first, and what was liked. In each, something was liked.
        """
        at = 0
        while at < len(lists):
            part = lists[at : at + LATELY - self.lists % LATELY]
            at += len(part)
            self._add(part)
            self.lists += len(part)
            if self.lists % LATELY == 0:
                self._items_3N[1] *= 0.5
            if self.lists % HALF_LIFE == 0:
                self._settle()  # what waits was counted before
                self._items_3N[[0, 2]] *= 0.5
                self._weights *= np.float32(0.5)
        if sum(map(len, self._pending)) > _PENDING:
            self._settle()
        if len(self._keys) > MOST_PAIRS:
            self._shed_pairs()
        if len(self._number) > MOST_ITEMS:
            self._shed_items()

    # What was counted

    @property
    def ids(self) -> list[str]:
        """The items, in the order in which they came."""
        return list(self._number)

    @property
    def pairs(self) -> int:
        """How many pairs have been counted and kept."""
        self._settle()
        return len(self._keys)

    def numbers(self, ids: Iterable[str]) -> Whole:
        """The number of each item, int64; -1: it is not known."""
        return np.fromiter((self._number.get(item, -1) for item in ids), np.int64)

    def liked(self, ids: Sequence[str]) -> Floats:
        """In how many lists each item was liked; lists of long ago count less."""
        return self._of(0, ids)

    def lately(self, ids: Sequence[str]) -> Floats:
        """The same, where only lists of late count much."""
        return self._of(1, ids)

    def neighbours(self, shrinkage: float = SHRINKAGE) -> Any:
        """What an item of a history adds to each score: scipy CSR `[N, N]`, by the numbers of `ids`."""
        from scipy import sparse

        self._settle()
        event_P, item_P = (self._keys >> _HALF).astype(np.int64), (self._keys & _LOW).astype(np.int64)
        liked_N, _, seen_N = self._items_3N[:, : len(self._number)]
        near_P = self._weights / (np.sqrt(seen_N[event_P] * liked_N[item_P]) + shrinkage)
        return sparse.csr_matrix((near_P, (event_P, item_P)), shape=(len(self._number),) * 2)

    def _of(self, row: int, ids: Sequence[str]) -> Floats:
        at_N = self.numbers(ids)
        counts_N = np.append(self._items_3N[row, : len(self._number)], 0.0)  # -1 is the last one
        return np.asarray(counts_N[at_N], np.float64)

    # Counting

    def _add(self, lists: Sequence[tuple[Sequence[str], Sequence[str]]]) -> None:
        number, known = self._number, len(self._number)
        events: list[int] = []
        items: list[int] = []
        events_R, items_R = np.zeros(len(lists), np.int64), np.zeros(len(lists), np.int64)
        for row, (history, liked) in enumerate(lists):
            own = [number.setdefault(item, len(number)) for item in dict.fromkeys(history[-EVENTS:])]
            chosen = [number.setdefault(item, len(number)) for item in dict.fromkeys(liked)]
            events += own
            items += chosen
            events_R[row], items_R[row] = len(own), len(chosen)
        if fresh := len(number) - known:
            self._names += _joined(list(islice(reversed(number), fresh))[::-1])
        self._grow()
        event_H, item_P = np.array(events, np.int64), np.array(items, np.int64)
        for row_N, counted in zip(self._items_3N, (item_P, item_P, event_H), strict=True):
            np.add.at(row_N, counted, 1.0)  # only what the lists name: a pass over all items would cost more
        # Each liked item beside each event of its own list.
        row_P = np.repeat(np.arange(len(lists)), items_R)
        begins_P, counts_P = (np.cumsum(events_R) - events_R)[row_P], events_R[row_P]
        before_P = np.cumsum(counts_P) - counts_P
        at_X = np.arange(int(counts_P.sum())) + np.repeat(begins_P - before_P, counts_P)
        event_X, item_X = event_H[at_X], np.repeat(item_P, counts_P)
        other = event_X != item_X
        self._pending.append((event_X[other].astype(np.uint64) << _HALF) | item_X[other].astype(np.uint64))

    def _grow(self) -> None:
        room = self._items_3N.shape[1]
        if len(self._number) > room:
            more = np.zeros((3, max(1024, 2 * room, len(self._number)) - room))
            self._items_3N = np.concatenate([self._items_3N, more], axis=1)

    def _settle(self) -> None:
        """Sorts in what waits."""
        if not self._pending:
            return
        fresh, count = np.unique(np.concatenate(self._pending), return_counts=True)
        self._pending = []
        at = np.searchsorted(self._keys, fresh)
        there = np.zeros(len(fresh), bool)
        inside = at < len(self._keys)
        there[inside] = self._keys[at[inside]] == fresh[inside]
        self._weights[at[there]] += count[there].astype(np.float32)
        self._keys = np.insert(self._keys, at[~there], fresh[~there])
        self._weights = np.insert(self._weights, at[~there], count[~there].astype(np.float32))

    def _shed_pairs(self) -> None:
        """Lets the weaker half of the pairs go; of equal ones, those of the items that came first."""
        self._settle()
        order = np.lexsort((~self._keys, -self._weights))
        kept = np.sort(order[: MOST_PAIRS // 2])
        self.shed = (self.shed[0] + len(order) - len(kept), self.shed[1])
        self._keys, self._weights = self._keys[kept], self._weights[kept]

    def _shed_items(self) -> None:
        """Lets the weaker half of the items go, with their pairs; of equal ones, those that came first."""
        self._settle()
        ids = self.ids
        strength_N = self._items_3N[0, : len(ids)] + self._items_3N[2, : len(ids)]
        kept = np.sort(np.lexsort((-np.arange(len(ids)), -strength_N))[: MOST_ITEMS // 2])
        new_N = np.full(len(ids), -1, np.int64)
        new_N[kept] = np.arange(len(kept))
        self._number = {ids[n]: place for place, n in enumerate(kept.tolist())}
        self._names = bytearray(_joined(self._number))
        self._items_3N = self._items_3N[:, kept]
        event_P, item_P = new_N[(self._keys >> _HALF).astype(np.int64)], new_N[(self._keys & _LOW).astype(np.int64)]
        both = (event_P >= 0) & (item_P >= 0)  # the order of the numbers stays, so the keys are still sorted
        self.shed = (self.shed[0] + int((~both).sum()), self.shed[1] + len(ids) - len(kept))
        self._keys = (event_P[both].astype(np.uint64) << _HALF) | item_P[both].astype(np.uint64)
        self._weights = self._weights[both]

    # What a checkpoint and a bundle hold

    def data(self) -> bytes:
        """All of it."""
        return msgspec.msgpack.encode(
            _State(
                format=FORMAT,
                began=self.began,
                lists=self.lists,
                asked=self.asked,
                shed=self.shed,
                ids=bytes(self._names),
                items=self._items_3N[:, : len(self._number)].astype("<f8").tobytes(),
                keys=self._keys.astype("<u8").tobytes(),
                weights=self._weights.astype("<f4").tobytes(),
                pending=b"".join(one.astype("<u8").tobytes() for one in self._pending),
            )
        )

    @classmethod
    def of(cls, data: bytes) -> Tally:
        """The counts that `data` was taken of.

        Raises:
            DataError: It is something else.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_State)
            if state.format != FORMAT:
                raise ValueError(f"format {state.format} is not {FORMAT}")
            made = cls(state.began)
            made.lists, made.asked, made.shed = state.lists, state.asked, state.shed
            made._names = bytearray(state.ids)
            made._number = {item: n for n, item in enumerate(state.ids.decode().split("\0")[:-1])}
            made._items_3N = np.frombuffer(state.items, "<f8").reshape(3, len(made._number)).copy()
            made._keys = np.frombuffer(state.keys, "<u8").astype(np.uint64)
            made._weights = np.frombuffer(state.weights, "<f4").astype(np.float32)
            pending = np.frombuffer(state.pending, "<u8").astype(np.uint64)
            made._check(pending)
        except (msgspec.MsgspecError, ValueError) as e:
            raise DataError(f"the counts of popularity and ItemKNN cannot be read: {e}") from e
        made._pending = [pending] if len(pending) else []
        return made

    def _check(self, pending: Keys) -> None:
        if len(self._keys) != len(self._weights) or (self._keys[1:] <= self._keys[:-1]).any():
            raise ValueError("the pairs are not in order")
        for keys in (self._keys, pending):
            if len(keys) and max(int((keys >> _HALF).max()), int((keys & _LOW).max())) >= len(self._number):
                raise ValueError("a pair names an item that is not there")
        if not (np.isfinite(self._items_3N).all() and np.isfinite(self._weights).all()):
            raise ValueError("a count is not a number")


def _joined(ids: Iterable[str]) -> bytes:
    return "".join(f"{item}\0" for item in ids).encode()
