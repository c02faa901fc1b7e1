"""Who has a row of its own, and for how long: the ids and category values of a stream without end.

The trainer calls `applied` for each item record, and `settle` after each step. All that is decided depends on the order
of these calls alone. Time is the number of examples that were learnt, so a run that is killed and resumed decides the
same.

| what | seen when | gets a row |
| --- | --- | --- |
| id | a list, a history or a label names the item | with the item, or once it was seen `min_seen` times |
| context value | a request has it | with the request, or once it was seen `min_seen` times |
| value of an attribute | a live item has it | with the item, or once `min_seen` live items have it |

When all rows are taken, `Contest` says who loses one; of ids, those of withdrawn items first. The value of an attribute
loses its row to one that more live items have.
A live item that finds no room at its first record takes the row of a withdrawn one, if there is one. So each live item
has a row while all live items fit (with `min_seen` 1).

Values of attributes are looked at sixteen times in a half-life, because that reads the whole catalogue.

An item that is withdrawn, and that no list has named for `keep_withdrawn` examples, is forgotten, with its slot. If it
comes back it is a new item.

It knows nothing of weights: the trainer clears and starts the rows.

Example:
    >>> from recdistill.features.spec import FeatureSpec, IdSpec
    >>> from recdistill.features.vocabulary import Vocabulary
    >>> from recdistill.records import Item
    >>> spec = FeatureSpec(id=IdSpec(capacity=2, hashed=1))
    >>> tenure = Tenure(Catalogue(spec, Vocabulary(spec)))
    >>> for item in (Item("a"), Item("b"), Item("c"), Item("b", 1, withdrawn=True), Item("d")):
    ...     tenure.applied(tenure.catalogue.apply(item, admit=True))
    >>> tenure.catalogue.vocabulary.snapshot()["id"]  # c came too early: nobody was withdrawn yet
    ['a', 'd']
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from recdistill.errors import DataError
from recdistill.features.catalogue import Catalogue
from recdistill.features.contest import Contest
from recdistill.features.encode import Lists
from recdistill.features.values import texts_of

_LOOKS: Final = 16
"""Looks at the attributes of the whole catalogue in a half-life."""


class Moved(NamedTuple):
    """A value that got a row later than it was first met, and the row that had stood for it."""

    key: str
    row: int
    shared: int


class AsOf(NamedTuple):
    """What a list that was encoded rests on, other than on the items.

    Args:
        moved: How often something that a list names would have been encoded otherwise a moment later.
        returned: How often a row or a slot that a list may name was given back. An older list must not be used then.
    """

    moved: int
    returned: int


class TenureState(msgspec.Struct, frozen=True):
    """What a checkpoint says beside the arrays.

    Attributes:
        examples: Examples seen.
        now: Times that `settle` was called.
        as_of: What an encoded list rests on.
        sketches: Keys that have a sketch.
    """

    examples: int
    now: int
    as_of: AsOf
    sketches: list[str]


class Tenure:
    """Decides on the rows of a catalogue and its vocabulary.

    Args:
        catalogue: The catalogue that a trainer learns with.
    """

    PREFIX: Final = "tenure/"
    """Of the names of its arrays in a checkpoint."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue, self.vocabulary, self.spec = catalogue, catalogue.vocabulary, catalogue.spec
        self.examples = self.now = 0
        self.as_of = AsOf(0, 0)
        """What an encoded list rests on."""
        losing = self.spec.losing
        self._half_life, self._keep, self._evict = losing.half_life, losing.keep_withdrawn, losing.evict
        self._context = [key for key in self.vocabulary.keys if key.startswith("context.")]
        self._attributes = [key for key in self.vocabulary.keys if key.startswith("item.")]
        self.contests = {
            key: Contest(self.vocabulary.own(key), min_seen=self.spec.min_seen(key), evict=losing.evict)
            for key in ("id", *self._context)
        }
        self.vocabulary.waiting(*self._context)  # from now on they are counted
        # By slot: examples seen when the item was withdrawn, or when a list last named it, if that was later; -1: live.
        self._idle_N = np.full(0, -1, np.int64)
        self._gone: list[tuple[int, int]] = []  # a heap of such a number, or an earlier one, and its slot
        self._queued_N = np.zeros(0, bool)  # by slot: whether it is in the heap

    # What the catalogue brings

    def applied(self, slot: int) -> None:
        """Takes note of an item record that the catalogue has applied."""
        self._make_room(slot + 1)
        live, was_live = self.catalogue.is_live(slot), self._idle_N[slot] < 0
        row, ids = self.catalogue.id_row(slot), self.contests["id"]
        own = row >= self.vocabulary.own("id").first
        if live != was_live:
            self._idle_N[slot] = -1 if live else self.examples
            if not live:
                self._queue(slot)
        if own:  # also a row that this record has just given: an item may be withdrawn twice
            ids.uses.follow(now=self.now)
            ids.uses.set_away(row, away=not live)
        if live and not own and self._evict and self.spec.min_seen("id") == 1:
            ids.uses.follow(now=self.now)
            least = ids.uses.least()
            if least >= 0 and ids.uses.away(least) and (loser := ids.loser(0)) is not None:
                self._swap_id(slot, loser)
                ids.uses.start(self.catalogue.id_row(slot), 0, now=self.now)

    def _make_room(self, count: int) -> None:
        if (more := count - len(self._idle_N)) > 0:
            more = max(more, len(self._idle_N))
            self._idle_N = np.pad(self._idle_N, (0, more), constant_values=-1)
            self._queued_N = np.pad(self._queued_N, (0, more))

    def _queue(self, slot: int) -> None:
        if not self._queued_N[slot]:
            self._queued_N[slot] = True
            heapq.heappush(self._gone, (int(self._idle_N[slot]), slot))

    def _swap_id(self, slot: int, loser: str | None) -> None:
        if loser is not None:
            self.catalogue.take_row(self.catalogue.slot(loser))
        self.catalogue.give_row(slot)

    # What a step brings

    def settle(self, lists: Lists) -> list[Moved]:
        """Counts what a step has used, and gives and takes rows.

        Args:
            lists: What the step has learnt from, for the first time.

        Returns:
            What got a row although it was met before. Rows that were taken back are told by `Vocabulary.changes`.
        """
        self._make_room(len(self.catalogue))
        moved = self._settle_ids(lists)
        for key in self._context:
            moved += self._settle_context(key, lists)
        before, count = self.examples, len(lists.where_BL)
        self.examples += count
        step = max(1, self._half_life // _LOOKS)
        later = before // step != self.examples // step
        for key in self._attributes:
            if later or (before == 0 and self.vocabulary.own(key).room):  # free rows are given at once
                moved += self._settle_attribute(key)
        if before // self._half_life != self.examples // self._half_life:
            for contest in self.contests.values():
                contest.halve()
        self._forget()
        self.now += 1
        return moved

    def _change(self, *, moved: int = 0, returned: int = 0) -> None:
        self.as_of = AsOf(self.as_of.moved + moved, self.as_of.returned + returned)

    def settle_again(self) -> None:
        """A later pass over lists that have been counted: nothing is counted, and no row moves."""
        self.vocabulary.waiting(*self._context)

    def _settle_ids(self, lists: Lists) -> list[Moved]:
        contest, catalogue = self.contests["id"], self.catalogue
        known_BL = lists.where_BL & lists.label_known_B[:, None]
        slots_N = np.concatenate(
            [
                lists.candidate_slots_BL[lists.where_BL],
                lists.requests.history_slots_BH[lists.requests.history_slots_BH >= 0],
                lists.candidate_slots_BL[known_BL & (lists.labels_BL > 0)],
            ]
        )
        idle_N = self._idle_N[slots_N]
        self._idle_N[slots_N[idle_N >= 0]] = self.examples
        rows_N = catalogue.id_rows_N[slots_N]
        own_N = rows_N >= self.vocabulary.own("id").first
        contest.uses.note(rows_N[own_N], now=self.now)
        if own_N.all() or not contest.open:
            return []
        bare, counts = np.unique(slots_N[~own_N & (idle_N < 0)], return_counts=True)
        slot_of = {catalogue.ids[slot]: slot for slot in bare.tolist()}
        moved = []
        for item_id, loser in contest.winners(dict(zip(slot_of, counts.tolist(), strict=True)), now=self.now):
            slot = slot_of[item_id]
            shared = catalogue.id_row(slot)
            self._swap_id(slot, loser)
            moved.append(Moved("id", catalogue.id_row(slot), shared))
        return moved

    def _settle_context(self, key: str, lists: Lists) -> list[Moved]:
        contest, vocabulary = self.contests[key], self.vocabulary
        rows = lists.requests.context[key.removeprefix("context.")]
        contest.uses.note(rows[rows >= vocabulary.own(key).first], now=self.now)
        (seen,) = vocabulary.waiting(key)
        moved = []
        for value, loser in contest.winners(seen, now=self.now):
            if loser is not None:
                vocabulary.release(key, loser)
                self._change(returned=1)
            moved.append(Moved(key, vocabulary.admit(key, value), vocabulary.shared_row(key, value)))
        self._change(moved=len(moved))
        return moved

    def _settle_attribute(self, key: str) -> list[Moved]:
        """Gives the rows of an attribute to the values that most live items have."""
        rows, name, catalogue = self.vocabulary.own(key), key.removeprefix("item."), self.catalogue
        min_seen = self.spec.min_seen(key)
        if rows.room and min_seen == 1:
            return []  # every value has got its row with its item
        column = catalogue.encoded().fields[name]
        live = np.flatnonzero(catalogue.live_N)
        of_live = column[live]
        # How many live items have each value without a row, and how many have each row.
        bare: Counter[str] = Counter()
        for slot in live[((of_live >= 0) & (of_live < rows.first)).any(1)].tolist():
            texts = texts_of(catalogue.item(slot).attributes[name])[: column.shape[1]]
            bare.update(text for text in texts if text not in rows.row_of)
        held_R = np.bincount(of_live[of_live >= rows.first], minlength=rows.end)
        order = sorted((int(held_R[row]), row) for row in rows.row_of.values())
        losers = iter(order)
        moved: list[Moved] = []
        shared = set[int]()
        for value, count in sorted(bare.items(), key=lambda pair: (-pair[1], pair[0])):
            if count < min_seen:
                break
            if not rows.room:
                held, row = next(losers, (count, -1))
                loser = rows.key(row) if row >= 0 else None
                if not self._evict or loser is None or (held and (count < 2 or count <= held + held // 4)):
                    break
                self.vocabulary.release(key, loser)
            shared.add(self.vocabulary.shared_row(key, value))
            moved.append(Moved(key, self.vocabulary.admit(key, value), self.vocabulary.shared_row(key, value)))
        if moved:
            catalogue.write_again(name, sorted(shared))
        return moved

    def _forget(self) -> None:
        """Gives back the slots of items that were withdrawn long ago and that no list has named since."""
        limit = self.examples - self._keep
        while self._gone and self._gone[0][0] <= limit:
            _, slot = heapq.heappop(self._gone)
            self._queued_N[slot] = False
            idle = int(self._idle_N[slot])
            if idle > limit:
                self._queue(slot)
            elif idle >= 0:
                self._idle_N[slot] = -1
                self.catalogue.release(self.catalogue.ids[slot])
                self._change(moved=1, returned=1)

    # What a checkpoint holds

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Its arrays, for a checkpoint."""
        found: dict[str, npt.NDArray[Any]] = {}
        for key, contest in self.contests.items():
            found |= {f"{key}/{name}": array for name, array in contest.arrays(now=self.now).items()}
        self._make_room(len(self.catalogue))
        return {self.PREFIX + "idle": self._idle_N[: len(self.catalogue)].copy()} | {
            self.PREFIX + name: array for name, array in found.items()
        }

    def plain(self) -> dict[str, Any]:
        """What is said beside the arrays."""
        sketches = [key for key, contest in self.contests.items() if contest.has_sketch]
        said: dict[str, Any] = msgspec.to_builtins(TenureState(self.examples, self.now, self.as_of, sketches))
        return said

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], plain: Mapping[str, Any] | None) -> None:
        """Takes the state that `arrays` and `plain` saved; the catalogue is the one of the same moment.

        A checkpoint that was made before rows were counted has neither. Then counting begins here.

        Raises:
            DataError: They do not fit the catalogue.
            KeyError: An array is missing.
        """
        count, first = len(self.catalogue), self.vocabulary.own("id").first
        self._make_room(count)
        if plain is None:
            if arrays:
                raise DataError(f"holds {min(arrays)}, but does not say of when it is")
            live_N = self.catalogue.live_N
            self._idle_N[:count] = np.where(live_N | np.array([not one for one in self.catalogue.ids], bool), -1, 0)
        else:
            said = msgspec.convert(plain, TenureState)
            self.examples, self.now, self.as_of = said.examples, said.now, said.as_of
            idle_N = arrays[self.PREFIX + "idle"]
            if idle_N.shape != (count,) or idle_N.dtype != np.int64:
                raise DataError(f"the times of withdrawal are {idle_N.dtype} {idle_N.shape}, not int64 {(count,)}")
            self._idle_N[:count] = idle_N
            for key, contest in self.contests.items():
                head = f"{self.PREFIX}{key}/"
                own = {name.removeprefix(head): a for name, a in arrays.items() if name.startswith(head)}
                contest.restore(own, sketch=key in said.sketches)
        uses = self.contests["id"].uses
        for slot in np.flatnonzero(self._idle_N >= 0).tolist():
            self._queue(slot)
            if (row := self.catalogue.id_row(slot)) >= first:
                uses.set_away(row, away=True)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self._idle_N.nbytes + self._queued_N.nbytes + sum(one.nbytes for one in self.contests.values())
