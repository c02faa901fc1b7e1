"""Sentences for positions that cannot be used, and for topics that changed while they were read. Both logs use them.

It knows nothing of SQLite or Kafka.

Example:
    >>> str(out_of_range(TopicPartition("items", 0), 3, 5, 9))  # doctest: +ELLIPSIS
    'the position 3 of items/0 is outside of what the log holds (5 to 9); go back to ...'
    >>> grown("impressions", 2, 3).ways  # the sentence itself says what to do
    ''
"""

from __future__ import annotations

import logging

from recdistill.errors import CheckpointError, LogChanged, LostPosition, OutOfRange, WrongLog
from recdistill.stream.contract import Position, TopicPartition
from recdistill.stream.names import OUTSIDE

log_ = logging.getLogger(__name__)

_MADE = {False: "make the topics again with `recdistill topics create`", True: "let its owner make it again"}
"""How a topic comes back, by whether it is somebody else's."""


def out_of_range(tp: TopicPartition, offset: int, beginning: int, end: int) -> OutOfRange:
    """The error for a position that a log does not hold, with all three numbers."""
    return OutOfRange(
        f"the position {offset} of {tp} is outside of what the log holds ({beginning} to {end})",
        "go back to an older or newer checkpoint, or start again from the beginning",
    )


def say_adopted(tp: TopicPartition, offset: int, former: str, stage: str) -> None:
    """Writes to the log which position a shared stage has taken over from an older version."""
    log_.warning("%s: the stage %s goes on at %d, where %s of an older version stopped", tp, stage, offset, former)


def cut_back(tp: TopicPartition, offset: int, cut: int, *, at_most: bool = False) -> WrongLog:
    """The error for a log that lost messages that were read before, and has grown again.

    Args:
        tp: The partition.
        offset: The saved position.
        cut: First offset that holds another message now than when the position was saved.
        at_most: Whether the cut can also be before `cut`.
    """
    where = f"{cut} at the latest" if at_most else str(cut)
    return WrongLog(
        f"{tp} was read up to {offset}, and then the log was cut back (by a power cut, a restored copy or a lost "
        f"disk): from {where} on it holds other messages now, and those before {offset} would never be read",
        f"go back to a checkpoint at {cut} or before, put the whole log back, or start again from the beginning "
        "in a new output folder",
    )


def grown(topic: str, before: int, now: int) -> LogChanged:
    """The error for a topic that got more partitions while it was read: nobody would read the new ones."""
    return LogChanged(
        f"topic {topic!r} has {now} partitions now, and had {before} when this process began to read it, so it would "
        f"never read the others; end all stages, type `recdistill topics create --grow` (it brings impressions, "
        f"rankings and feedback to the same number), set topics.partitions = {now}, and start them again"
    )


def check_count(topic: str, found: int, wanted: int) -> None:
    """Checks that a topic that is there has as many partitions as wanted.

    Raises:
        WrongLog: It has more or fewer.
    """
    if found != wanted:
        more = "add partitions with `recdistill topics create --grow`, "
        ways = more if topic in ("impressions", "rankings", "feedback") and found < wanted else ""
        raise WrongLog(
            f"topic {topic!r} exists with {found} partitions, not {wanted}; a count never changes"
            f"{' by itself' if ways else ''}: ask for {found}, {ways}or choose another prefix or log"
        )


def check_growth(topic: str, found: int, wanted: int) -> None:
    """Checks that a topic does not have to shrink.

    Raises:
        WrongLog: It has more partitions than wanted.
    """
    if found > wanted:
        raise WrongLog(f"topic {topic!r} has {found} partitions, more than {wanted}, and a count never shrinks")


def gone(topic: str) -> LogChanged:
    """The error for a topic that was deleted while it was used."""
    return LogChanged(
        f"topic {topic!r} was deleted while this process used it; end all stages, {_MADE[topic.startswith(OUTSIDE)]}, "
        "and start them again; one that has read the old topic then says how it can go on"
    )


def made_again(topic: str) -> LogChanged:
    """The error for a topic that was deleted and made again while it was used."""
    return LogChanged(
        f"topic {topic!r} was deleted and made again while this process used it, so what the old one held is gone; end "
        "all stages, and start them again; one that has read the old topic then says how it can go on"
    )


def made_again_since(topic: str, stage: str) -> LostPosition:
    """The error for a stage whose position is that of a topic which was deleted and made again since it ran."""
    return LostPosition(
        f"topic {topic!r} was deleted and made again since the stage {stage!r} ran, so what it had not read is gone, "
        "and its position means nothing there",
        "put back a copy of the log that has the old topic",
    )


def unwitnessed(position: Position) -> bool:
    """Warns of positions that were saved without a witness. Returns whether it warned."""
    saved = [f"{tp} at {offset}" for tp, offset in position.items() if offset > 0]
    if saved:
        log_.warning(
            "the saved position (%s) has no witness, as an older version saved it: whether the log was cut back since "
            "cannot be checked; the next position that is saved has one",
            ", ".join(saved),
        )
    return bool(saved)


def bad_witness(tp: TopicPartition, text: str) -> CheckpointError:
    """The error for a witness that no log of this kind has written."""
    return CheckpointError(
        f"the witness {text!r} beside the saved position of {tp} is not a witness; use another checkpoint"
    )
