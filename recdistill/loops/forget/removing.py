"""Removes what the traces of a person name, and says what is left, where, and until when.

The embedded log removes single records. In `examples` a removed record leaves its place empty, because the lanes count
in turn. Kafka cannot remove single records: there it is said what stays until retention removes it. A compacted topic
gets a tombstone for each key, and where somebody means it, all records up to the person's newest one are deleted.

It knows nothing of SQLite or of Kafka's client: a log says what it can do.

Example:
    >>> Left(topic="feedback", records=3, until_us=0).until_us
    0
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

from recdistill.loops.forget.traces import ORDER, Traces, trace
from recdistill.loops.trim import needs
from recdistill.stream import Log, TopicPartition

_PASSES: Final = 5
"""So often the log is looked through again: a stage that runs may write what it had read before."""


@runtime_checkable
class Removing(Protocol):
    """What a log can do that removes single records."""

    def remove(self, tp: TopicPartition, offsets: Iterable[int]) -> int:
        """Removes messages; they leave holes."""

    def blank(self, tp: TopicPartition, offsets: Iterable[int]) -> int:
        """Empties messages; their places stay."""

    def scrub(self) -> bool:
        """Removes what was deleted from the files too. False: another process reads, so a part may be left."""


@runtime_checkable
class Keeping(Protocol):
    """What a log can do whose records go by retention."""

    def kept_for(self, topics: Iterable[str]) -> Mapping[str, tuple[bool, int]]:
        """Whether a topic is compacted, and for how many microseconds it keeps a record; -1: for ever."""

    def delete_before(self, tp: TopicPartition, offset: int) -> None:
        """Deletes every record before an offset."""


class Left(Struct, frozen=True, kw_only=True):
    """Records of the person that the log still holds.

    Attributes:
        topic: Where.
        records: How many.
        until_us: When retention removes the newest of them, by the time when the log took it; 0: never by itself.
    """

    topic: str
    records: int
    until_us: int


class Forgotten(Struct, frozen=True, kw_only=True):
    """What was removed.

    Attributes:
        lists: Impressions of the person that were found.
        removed: Messages that were removed, by topic.
        tombstones: Keys that got a tombstone, by topic.
        others: Offsets that were deleted along with them, by partition: everybody's older records.
        left: What the log still holds.
        scrubbed: Whether the bytes are gone from the files too; None where the log has no files of its own.
    """

    lists: int = 0
    removed: dict[str, int] = {}
    tombstones: dict[str, int] = {}
    others: dict[str, int] = {}
    left: list[Left] = []
    scrubbed: bool | None = None


def run(
    log: Log,
    user: str,
    *,
    first: Callable[[frozenset[str]], None] = lambda _: None,
    delete_older: bool = False,
    dry: bool = False,
) -> Forgotten:
    """Removes a person from the log.

    Args:
        log: The log.
        user: The `user` of their impressions.
        first: Called with the ids of their impressions before anything is removed from the log. What it removes
            elsewhere is found by these ids, so a run that was killed there is finished by the next one.
        delete_older: Where single records cannot be removed: delete all records up to the person's newest one, as far
            as no stage still needs them.
        dry: Only look.

    Raises:
        StreamError: The log cannot be read or written.
    """
    found = trace(log, user)
    if dry:
        return Forgotten(lists=len(found.ids), left=_left(log, found))
    first(found.ids)
    if isinstance(log, Removing):
        return _removed(log, log, user, found)
    return _kept(log, found, delete_older=delete_older)


def _removed(log: Log, file: Removing, user: str, found: Traces) -> Forgotten:
    removed: dict[str, int] = {}
    ids = set(found.ids)
    for _ in range(_PASSES):
        if not found.places:
            break
        for topic in ORDER:
            for tp, places in found.of(topic).items():
                offsets = [offset for offset, _, _ in places]
                gone = file.blank(tp, offsets) if topic == "examples" else file.remove(tp, offsets)
                removed[topic] = removed.get(topic, 0) + gone
        found = trace(log, user)
        ids |= found.ids
    return Forgotten(lists=len(ids), removed=removed, left=_left(log, found), scrubbed=file.scrub())


def _kept(log: Log, found: Traces, *, delete_older: bool) -> Forgotten:
    tombstones: dict[str, int] = {}
    others: dict[str, int] = {}
    kept_for = log.kept_for(log.topics()) if isinstance(log, Keeping) else {}
    for topic in ORDER:
        if kept_for.get(topic, (False, -1))[0]:
            keys = {key for places in found.of(topic).values() for _, key, _ in places if key is not None}
            with closing(log.stage("forget")) as stage, stage.transaction() as transaction:
                for tp, places in found.of(topic).items():
                    for key in sorted({key for _, key, _ in places if key is not None}):
                        transaction.send(topic, None, key=key, partition=tp.partition)
            if keys:
                tombstones[topic] = len(keys)
    if delete_older and isinstance(log, Keeping):
        needed = needs(log.positions(), None)
        for tp, places in found.places.items():
            before = min(places[-1][0] + 1, needed.get(tp, (places[-1][0] + 1, ""))[0])
            with closing(log.source([tp])) as source:
                beginning = source.bounds(tp)[0]
            if before > beginning and not kept_for.get(tp.topic, (False, -1))[0]:
                log.delete_before(tp, before)
                others[str(tp)] = before - beginning
        still = {tp: [one for one in some if one[0] >= _beginning(log, tp)] for tp, some in found.places.items()}
        found = Traces(found.ids, {tp: some for tp, some in still.items() if some})
    return Forgotten(lists=len(found.ids), tombstones=tombstones, others=others, left=_left(log, found))


def _beginning(log: Log, tp: TopicPartition) -> int:
    with closing(log.source([tp])) as source:
        return source.bounds(tp)[0]


def _left(log: Log, found: Traces) -> list[Left]:
    kept_for = log.kept_for({tp.topic for tp in found.places}) if isinstance(log, Keeping) else {}
    left = []
    for topic in ORDER:
        places = found.of(topic)
        if not places:
            continue
        compacted, keep_us = kept_for.get(topic, (False, -1))
        newest_us = max(time_us for some in places.values() for _, _, time_us in some)
        until_us = newest_us + keep_us if keep_us >= 0 and not compacted else 0
        left.append(Left(topic=topic, records=found.count(topic), until_us=until_us))
    return left
