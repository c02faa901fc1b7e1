"""Removes from the embedded log what nobody needs any more, as retention does in Kafka.

A record stays while one of these holds: it is younger than `keep_s`; a stage has still to read it; a checkpoint of a
student still rests on it; the newest announced bundle is still to be judged on it. A topic that no stage has read yet
stays whole. `items`, `bundles` and the dead letters stay whole too: they are small, and their oldest records count.

What a stage needs is counted in offsets, so no clock can remove it. The age needs a clock. If it jumps ahead while a
process runs, it is believed only after a day (`Clock`): what is removed does not come back when it is set right.

It knows nothing of SQLite.

Example:
    >>> needs({"score": {TopicPartition("impressions", 0): 7}}, None)[TopicPartition("impressions", 0)]
    (7, 'score')
    >>> needs({"import-c0ffee": {TopicPartition("impressions", 0): 7}}, None)
    {}
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

from recdistill.errors import StreamError
from recdistill.loops.workers import STAGE, is_former
from recdistill.stream import BUNDLES, HELD_OUT, LanePosition, Log, TopicPartition, made_bundles

log_ = logging.getLogger(__name__)

TOPICS: Final = ("impressions", "rankings", "feedback", "examples", "held-out")
"""The topics that grow with the stream."""

_STUDENT, _ANNOUNCER = "distil-", "distil-bundles-"
_WRITES: Final = "import-"
"""An import keeps how far it came under the name of a position. It reads nothing."""
HOUR_S: Final = 3600.0
"""A clock that is set ahead by less is believed at once."""

DAY_S: Final = 86_400.0
"""A clock that jumped ahead is believed after so long."""

_STEP: Final = 20_000
"""Offsets removed at a time, so that stages can write in between."""


@runtime_checkable
class Trimmable(Protocol):
    """What a log must be able to do beside the contract."""

    def positions(self) -> dict[str, dict[TopicPartition, int]]:
        """The committed positions of every stage."""

    def first_since(self, tp: TopicPartition, time_us: int) -> int:
        """The first offset that the log took at a time or later."""

    def trim(self, tp: TopicPartition, before: int) -> None:
        """Removes what lies before an offset."""

    def shrink(self) -> int:
        """Gives space back to the disk; the bytes of it."""


class Trimmed(Struct):
    """What became of one partition.

    Attributes:
        partition: Its name.
        beginning: The first offset that is still there.
        removed: Offsets that were removed.
        kept_for: What needs the first one that is still there.
    """

    partition: str
    beginning: int
    removed: int
    kept_for: str


class Clock:
    """The time now. A jump ahead is believed only when it has lasted for a day; a jump back at once.

    Args:
        wall: Seconds since 1970.
        steady: Seconds that never jump.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._ahead_s = wall() - steady()
        self._jumped_s: float | None = None  # since when the wall clock is ahead

    def __call__(self) -> int:
        """Microseconds since 1970."""
        now_s = self._steady()
        ahead_s = self._wall() - now_s
        if ahead_s <= self._ahead_s + HOUR_S:
            self._ahead_s, self._jumped_s = ahead_s, None
        elif self._jumped_s is None:
            self._jumped_s = now_s
            log_.warning(
                "the clock has jumped ahead by %.0f s; if it stays so for a day, the topics are trimmed by it",
                ahead_s - self._ahead_s,
            )
        elif now_s - self._jumped_s >= DAY_S:
            self._ahead_s, self._jumped_s = ahead_s, None
        return round((now_s + self._ahead_s) * 1e6)


def run(
    log: Log,
    file: Trimmable,
    *,
    keep_s: float,
    clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> tuple[list[Trimmed], int]:
    """Removes what nobody needs.

    Args:
        log: The log.
        file: The same log, where it can be trimmed.
        keep_s: Age up to which a record stays in any case.
        clock_us: The time now.

    Returns:
        What became of each partition, and the bytes given back to the disk.

    Raises:
        StreamError: The log cannot be read or written.
    """
    needed = needs(file.positions(), _judged_on(log))
    topics = log.topics()
    since_us = clock_us() - round(keep_s * 1e6)
    done: list[Trimmed] = []
    for topic in TOPICS:
        for tp in (TopicPartition(topic, number) for number in range(topics.get(topic, 0))):
            with closing(log.source([tp])) as source:
                beginning, source_end = source.bounds(tp)
            # No stage reads what is held out: judges look at the newest of it.
            unread = (source_end, "no stage reads it") if tp == HELD_OUT else (beginning, "no stage has read it yet")
            wanted, by = needed.get(tp, unread)
            young = file.first_since(tp, since_us)
            if young < wanted:
                wanted, by = young, "younger than the time to keep"
            for step in range(beginning + _STEP, wanted, _STEP):
                file.trim(tp, step)
            if wanted > beginning:
                file.trim(tp, wanted)
            done.append(Trimmed(str(tp), max(beginning, wanted), max(0, wanted - beginning), by))
    return done, file.shrink()


def trimmed(
    log: Log, keep_days: float, tell: Callable[[str, dict[str, object]], None], *, clock_us: Callable[[], int]
) -> int:
    """Trims a log that can be trimmed, and tells of it; the offsets removed. Where it cannot, nothing happens.

    A log that cannot be read at this moment is trimmed the next time.
    """
    if not isinstance(log, Trimmable):
        return 0
    try:
        done, freed = run(log, log, keep_s=keep_days * 24 * 3600, clock_us=clock_us)
    except StreamError as e:
        log_.warning("the topics are not trimmed now: %s", e)
        return 0
    removed = sum(each.removed for each in done)
    if removed:
        tell("trimmed", {"offsets": removed, "freed_bytes": freed})
    return removed


def needs(
    stages: Mapping[str, Mapping[TopicPartition, int]], judged_on: LanePosition | None
) -> dict[TopicPartition, tuple[int, str]]:
    """The first offset of each partition that is needed, and by whom. A partition that nobody has read is not in it.

    Args:
        stages: The committed positions of every stage.
        judged_on: Where the newest announced bundle stopped learning; the judge reads what follows.
    """
    found: dict[TopicPartition, tuple[int, str]] = {}

    def need(tp: TopicPartition, offset: int, by: str) -> None:
        if tp not in found or offset < found[tp][0]:
            found[tp] = (offset, by)

    stages = {name: position for name, position in stages.items() if not name.startswith(_WRITES)}
    lanes = {tp for position in stages.values() for tp in position if tp.topic == "examples"}
    for name, position in stages.items():
        for tp, offset in position.items():
            # What a scorer of an older version left behind counts until a present one has taken it over.
            if not (is_former(name) and tp in stages.get(STAGE, {})):
                need(tp, offset, name)
        # A student of an older version does not say where its checkpoints stand.
        if name.startswith(_STUDENT) and not name.startswith(_ANNOUNCER):
            for tp in lanes - position.keys():
                need(tp, 0, f"{name}, which an older version made")
    if judged_on is not None:
        for tp, offset in judged_on.by_partition().items():
            if tp in lanes:
                need(tp, offset, "the judge of the newest bundle")
    return found


def _judged_on(log: Log) -> LanePosition | None:
    topics = log.topics()
    if BUNDLES.topic not in topics or "examples" not in topics:
        return None
    with closing(log.source([BUNDLES])) as source, closing(log.source(["examples"])) as examples:
        made, _ = made_bundles(source)
        identity = examples.identity()
    # A bundle of another log, such as one that a student took along, is not judged on this one.
    here = [each.lanes for each in made if each.lanes is not None and each.lanes.identity == identity]
    return here[-1] if here else None
