"""How much of its input each stage has still to read, and for how long it waits there. Nothing is opened as a stage.

It knows nothing of what a stage does.

Example:
    >>> import tempfile
    >>> from recdistill.stream.embedded import EmbeddedLog
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = EmbeddedLog(f"{folder.name}/log.sqlite")
    >>> made, product = log.create_topics({"impressions": 1}), log.stage("product")
    >>> with product.transaction() as transaction:
    ...     transaction.send("impressions", b"one", time_us=7)
    >>> [(one.stage, one.topic, one.behind, one.waits_since_us, one.began) for one in backlogs(log)]
    [('score', 'impressions', 1, 7, False)]
    >>> product.close(); log.close(); folder.cleanup()
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Final

from msgspec import Struct

from recdistill.errors import OutOfRange
from recdistill.loops.kept import read_line
from recdistill.loops.workers import STAGE, is_former
from recdistill.stream import Log, Source, TopicPartition

MOST: Final = 2000
"""So many messages of a partition are counted one by one. Where more wait, their offsets are."""

_READS: Final[Mapping[str, tuple[str, ...]]] = {
    STAGE: ("impressions",),
    "probe": ("impressions",),
    "join": ("rankings", "feedback"),
}
_ALWAYS: Final = (STAGE, "join")
"""Stages that every loop has. The prober is told of only where it has run."""

STUDENT: Final = "distil-"
"""Before the name of a student: the stage of its distiller."""

_ANNOUNCER: Final = "distil-bundles-"


class Backlog(Struct, frozen=True, kw_only=True):
    """What a stage has still to read of a topic.

    Attributes:
        stage: Its name. That of a distiller ends with the name of its student.
        topic: What it reads.
        behind: Messages that wait.
        exact: Whether they were counted; otherwise these are offsets, and some of them may be no messages.
        waits_since_us: When the log took the oldest of them; 0 where none waits.
        read_us: When that was read; 0 where it is not known. A registry may take seconds to answer after it.
        began: Whether the stage has ever committed a position.
        lost: Messages that retention removed before the stage had read them, in a sentence; empty where there are none.
    """

    stage: str
    topic: str
    behind: int
    exact: bool = True
    waits_since_us: int = 0
    read_us: int = 0
    began: bool = True
    lost: str = ""


def backlogs(log: Log, students: Mapping[str, Sequence[int]] | None = None) -> list[Backlog]:
    """What each stage has still to read.

    Args:
        log: The log.
        students: Where in the lanes the newest checkpoint of a student stands, by its name. In the log stands only what
            its oldest checkpoint rests on, so one that is not named here seems to be further behind.

    Raises:
        StreamError: The log cannot be read.
    """
    topics = log.topics()
    positions: dict[str, Mapping[TopicPartition, int]] = {**log.positions()}
    for name, offsets in (students or {}).items():
        positions[f"{STUDENT}{name}"] = {TopicPartition("examples", lane): at for lane, at in enumerate(offsets)}
    # A joiner's position is the place from which its window is read again; how far it has read stands beside it.
    noted = log.noted("join", list(positions.get("join", {})))
    read = {tp: read_line(line).read for tp, line in noted.items()}
    positions["join"] = {tp: max(at, read.get(tp, 0)) for tp, at in positions.get("join", {}).items()}
    return [
        _behind(log, stage, topic, topics[topic], positions.get(stage, {}))
        for stage, topic in _pairs(positions)
        if topic in topics
    ]


def _pairs(positions: Mapping[str, Mapping[TopicPartition, int]]) -> Iterator[tuple[str, str]]:
    for stage, topics in _READS.items():
        former = stage == STAGE and any(is_former(name) for name in positions)
        if stage in _ALWAYS or stage in positions or former:
            yield from ((stage, topic) for topic in topics)
    for stage in sorted(positions):
        if stage.startswith(STUDENT) and not stage.startswith(_ANNOUNCER):
            yield stage, "examples"


def _behind(log: Log, stage: str, topic: str, partitions: int, position: Mapping[TopicPartition, int]) -> Backlog:
    behind, exact, oldest_us, lost = 0, True, 0, ""
    with closing(log.source([topic])) as source:
        for tp in (TopicPartition(topic, number) for number in range(partitions)):
            beginning, end = source.bounds(tp)
            begin = position.get(tp, beginning)
            if begin < beginning:
                lost = f"{tp}: stands at {begin}, and retention has removed what lies before {beginning}"
                begin = beginning
            found, counted, since_us = _count(source, tp, min(begin, end), end)
            behind, exact = behind + found, exact and counted
            oldest_us = min(filter(None, (oldest_us, since_us)), default=0)
    began = any(tp.topic == topic for tp in position)
    return Backlog(
        stage=stage,
        topic=topic,
        behind=behind,
        exact=exact,
        waits_since_us=oldest_us,
        read_us=time.time_ns() // 1000,
        began=began,
        lost=lost,
    )


def _count(source: Source, tp: TopicPartition, begin: int, end: int) -> tuple[int, bool, int]:
    """Messages from an offset on, whether they were counted, and when the log took the first."""
    if begin >= end:
        return 0, True, 0
    found, since_us = 0, 0
    try:
        source.seek({tp: begin})
        while found < MOST and source.position()[tp] < end:
            messages = [one for one in source.read_from(tp, min(500, MOST - found), 0.2) if one.offset < end]
            since_us = since_us or (max(0, messages[0].time_us) if messages else 0)  # below 0: it has no time
            found += len(messages)
            if not messages and source.position()[tp] < end:
                break  # the log does not answer in time; what is known is told
    except OutOfRange:  # retention was quicker
        return end - begin, False, 0
    left = end - source.position()[tp]
    return (found + left, False, since_us) if left > 0 else (found, True, since_us)
