"""The long jobs as plain functions with a stop signal: score, probe, join, distil, promote, rank.

Each `run` takes the log, its parts and the values that it uses. It works until `stop` is set, or with `drain=True`
until it has done all that the log held when it began. It returns its counts. `wire` opens the parts and reads the
settings. A loop knows nothing of processes, signals, health or images: `services/` makes a process of it, the command
line runs it in a terminal, tests call it.
"""

from __future__ import annotations

from collections.abc import Mapping

from recdistill.stream import Position, Source, TopicPartition


def ends_of(source: Source, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    """The committed ends now: where a draining loop stops."""
    return {tp: source.bounds(tp)[1] for tp in partitions}


def reached(position: Position, ends: Mapping[TopicPartition, int]) -> bool:
    """Whether every partition stands at its end or behind it."""
    return all(position.get(tp, 0) >= end for tp, end in ends.items())
