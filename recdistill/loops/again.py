"""Asks a teacher again what it was asked first, and says what has changed in its answers.

The first requests that a teacher scores are kept with their scores. Some of them are asked again in each block of
impressions. A teacher that gives its first answers again has not changed, whatever the stream looks like. A ranking
says how well the answers agreed, so everybody who reads it, at any time, finds the same.

An item that has a new record may have a new score. So a request is asked again only while the records of all its items
are those that they were.

Requests and answers lie in the topic `checks`, in the transaction of their rankings. So they survive a restart. They
are counted by blocks of offsets, as a budget is. So what a ranking says depends on the log alone, and not on batches.

It knows nothing of what is done about a teacher that has changed.

Example:
    >>> marks = Marks()
    >>> marks.apply([Item("a", attributes={"price": 3})])
    >>> before = marks.of(["a", "b"])
    >>> marks.apply([Item("a", version=2, attributes={"price": 3}), Item("b")])
    >>> (marks.of(["a", "b"]) == before).tolist()
    [True, False]
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from recdistill.budget import block_of
from recdistill.errors import DataError, DecodeError, TeacherError
from recdistill.records import Impression, Item, Ranking, decode, encode
from recdistill.stream import CHECKS, Log, Message, Outgoing
from recdistill.teachers import Scores, Teacher
from recdistill.watch import Comparison, compare

log_ = logging.getLogger(__name__)

KEPT: Final = 256
"""Requests that are kept of a teacher, over all partitions."""

FEWEST: Final = 4
"""Of each partition, so many are kept at least."""

LARGEST: Final = 100_000
"""Bytes of a request with its scores; a larger one is not kept."""

_SLOTS: Final = 1 << 22
_TOLD: Final = 0.05


class Marks:
    """A digest of the newest record of each item, in a table of fixed size.

    Two items may share a slot. Then a request seems to have a new record although it has none, and it is not asked.
    """

    def __init__(self) -> None:
        self._marks = np.zeros(_SLOTS, np.uint32)

    def apply(self, items: Iterable[Item]) -> None:
        """Takes records, in log order."""
        for item in items:
            said = msgspec.msgpack.encode((item.attributes, item.withdrawn), order="deterministic")
            self._marks[_slot(item.id)] = _number(said) | 1

    def of(self, ids: Iterable[str]) -> npt.NDArray[np.uint32]:
        """The digests of some items, u32 `[I]`; 0 where there is no record."""
        return self._marks[[_slot(one) for one in ids]]


def _slot(item_id: str) -> int:
    return _number(item_id.encode("utf-8", "surrogatepass")) % _SLOTS


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "little")


@dataclass(frozen=True)
class _First:
    """A request and what the teacher answered first."""

    ranking: Ranking
    block: int
    items: list[str]
    marks_I: npt.NDArray[np.uint32]


class Again:
    """Keeps the first requests of one teacher, and asks them again. Only one thread may use it.

    Args:
        log: Where `checks` is read, once.
        teacher: Who is asked.
        each: How many requests are asked again for each block of a partition; 0: nothing is kept or asked.
        partitions: How many partitions `impressions` has.

    Raises:
        StreamError: The log cannot be read.
    """

    def __init__(self, log: Log, teacher: Teacher, *, each: int, partitions: int) -> None:
        self.asked = 0
        """Lists that were asked again."""
        self._teacher, self._each = teacher, each
        self._name = f"{teacher.id}@{teacher.version}"
        self._room = max(FEWEST, KEPT // partitions)
        self._marks = Marks()
        self._first: dict[int, dict[int, _First]] = {}
        self._looked: dict[int, int] = {}
        self._agreement: dict[int, float | None] = {}
        self._told = 1.0
        self._fresh: list[Outgoing] = []
        self._lasting = CHECKS.topic in log.topics()
        if self._lasting and each:
            self._read(log)
        elif each:
            log_.warning(
                "the log has no topic %r, so the teacher's first answers are forgotten when the scorer stops; "
                "`recdistill topics create` makes it",
                CHECKS.topic,
            )

    def apply_items(self, items: Sequence[Item]) -> None:
        """Takes catalogue records, in log order."""
        if self._each:
            self._marks.apply(items)

    def look(self, messages: Sequence[Message], deadline_s: float) -> None:
        """Asks again, once for each block that these impressions are in.

        Raises:
            TeacherError: The teacher as a whole cannot answer.
        """
        if not self._each:
            return
        for partition, block in dict.fromkeys((each.tp.partition, block_of(each.offset)) for each in messages):
            if self._looked.get(partition) != block:
                found = self._ask(partition, block, deadline_s)
                self._agreement[partition] = None if found is None else found.agreement
                self._looked[partition] = block
                if found is not None:
                    self.asked += found.lists
                    self._tell(found)

    def took(self, ranking: Ranking, message: Message) -> Ranking:
        """Takes a new ranking. Returns it with how well its teacher agreed with itself when its block was begun."""
        if self._each:
            self._keep(ranking, message)
        agreement = self._agreement.get(message.tp.partition)
        return ranking if agreement is None else msgspec.structs.replace(ranking, self_agreement=agreement)

    def outgoing(self) -> list[Outgoing]:
        """The requests that are to be kept, to be written with their rankings. Each is handed out once."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def _keep(self, ranking: Ranking, message: Message) -> None:
        """Keeps a request while there is room."""
        first = self._first.setdefault(message.tp.partition, {})
        if len(first) >= self._room or sum(ranking.scored) < 2:
            return
        kept = _asked(ranking)
        try:
            value = encode(kept)
        except DataError:  # too large for its labels; its own ranking is refused for the same reason
            return
        if len(value) > LARGEST:
            return
        items = _items_of(kept.impression)
        marks_I = self._marks.of(items)
        n = next(n for n in range(self._room) if n not in first)
        first[n] = _First(kept, block_of(message.offset), items, marks_I)
        if self._lasting:
            headers = (("block", str(first[n].block).encode()), ("items", marks_I.astype("<u4").tobytes()))
            key = f"{message.tp.partition}/{n}".encode()
            self._fresh.append(Outgoing(CHECKS.topic, value, key=key, partition=CHECKS.partition, headers=headers))

    def _ask(self, partition: int, block: int, deadline_s: float) -> Comparison | None:
        first = self._first.get(partition, {})
        # What has a new record is forgotten. So there is room for another request.
        for n in [
            n for n, one in first.items() if one.block < block and (self._marks.of(one.items) != one.marks_I).any()
        ]:
            del first[n]
        ready = [one for _, one in sorted(first.items()) if one.block < block]
        if not ready:
            return None
        start = block * self._each
        chosen = [ready[(start + i) % len(ready)] for i in range(min(self._each, len(ready)))]
        answers = self._teacher.score([one.ranking.impression for one in chosen], deadline_s=deadline_s)
        if len(answers) != len(chosen):
            raise TeacherError(f"teacher {self._teacher.id}: answered {len(answers)} of {len(chosen)} impressions")
        return compare([_pair(one.ranking, answer) for one, answer in zip(chosen, answers, strict=True)])

    def _tell(self, found: Comparison) -> None:
        """Says what has changed: when it has, when it changes more, and when it is as it was."""
        changed = found.agreement <= 1 - _TOLD or found.moved
        if changed and (abs(found.agreement - self._told) >= _TOLD or (found.moved and self._told == 1.0)):
            log_.warning("teacher %s has changed: asked again about %d lists, it %s", self._name, found.lists, found)
            self._told = min(found.agreement, 1 - 1e-9)
        elif not changed and self._told < 1.0:
            log_.warning("teacher %s answers as it did at first: asked again, it %s", self._name, found)
            self._told = 1.0

    def _read(self, log: Log) -> None:
        """Finds what was kept of this teacher by an earlier run. The newest record of each key counts."""
        newest: dict[bytes, Message] = {}
        source = log.source([CHECKS])
        try:
            while source.position()[CHECKS] < source.bounds(CHECKS)[1]:
                for message in source.read(500, 0.2):
                    newest[message.key or b""] = message
        finally:
            source.close()
        for key, message in newest.items():
            try:
                ranking = decode(Ranking, message.value)
                partition, n = map(int, key.decode().split("/"))
                about = dict(message.headers)
                kept = _First(
                    ranking,
                    int(about["block"]),
                    _items_of(ranking.impression),
                    np.frombuffer(about["items"], "<u4").astype(np.uint32),
                )
            except (DecodeError, KeyError, ValueError) as e:
                log_.warning("a record of %s at %d cannot be used: %s", CHECKS, message.offset, e)
                continue
            if f"{ranking.teacher_id}@{ranking.teacher_version}" == self._name and len(kept.items) == len(kept.marks_I):
                self._first.setdefault(partition, {})[n] = kept


def _asked(ranking: Ranking) -> Ranking:
    """The question as the teacher saw it: under a budget, the candidates that it was asked about."""
    if not ranking.candidates_sampled:
        return ranking
    own = [place for place, scored in enumerate(ranking.scored) if scored]
    candidates = tuple(ranking.impression.candidates[place] for place in own)
    return msgspec.structs.replace(
        ranking,
        impression=msgspec.structs.replace(ranking.impression, candidates=candidates),
        scores=tuple(ranking.scores[place] for place in own),
        scored=(True,) * len(own),
        candidates_sampled=(),
    )


def _items_of(impression: Impression) -> list[str]:
    return [event.item for event in impression.history] + [one.item for one in impression.candidates]


def _pair(ranking: Ranking, answer: Scores | TeacherError) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The first scores and the new ones of the candidates that have both."""
    first_L = np.array(ranking.scores, np.float64)
    none = np.zeros(0)
    if isinstance(answer, TeacherError) or answer.values_L.shape != first_L.shape:
        return none, none
    both_L = np.array(ranking.scored) & answer.scored_L & np.isfinite(answer.values_L)
    return (first_L[both_L], answer.values_L[both_L].astype(np.float64)) if both_L.sum() >= 2 else (none, none)
