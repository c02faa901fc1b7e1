"""Finds the examples that a bundle learnt from, and those that are left to judge it on.

A bundle says at which position it stopped learning. It has learnt the examples before that position. The examples after
it may be judged. Students that stopped at the same position can be judged on the same lists.

It knows nothing of figures, or of how a bundle was made.

Example:
    >>> READ
    1000
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from recdistill.bundle import Bundle
from recdistill.errors import DataError, DecodeError
from recdistill.judge import Part
from recdistill.records import Example, decode
from recdistill.stream import (
    Cut,
    LanePosition,
    Lanes,
    Log,
    Message,
    Place,
    TopicPartition,
    cut_at,
    up_to,
    write_position,
    write_time,
)

log_ = logging.getLogger(__name__)

READ = 1000
"""So many examples are read at a time."""

_LEARN = 0.8
"""If there is nothing to judge on, a hint proposes to learn from this share of the log."""


def held_out(
    log: Log, bundle: Bundle, most: int, *, begins: LanePosition | None = None, ends: LanePosition | None = None
) -> list[Example]:
    """The newest examples with a label that come after a bundle's positions, oldest first.

    Args:
        log: The log with the topic `examples`.
        bundle: The bundle. Its provenance says where its student stopped learning.
        most: How many at most.
        begins: Where the part begins. None: where the bundle stopped learning.
        ends: Where the part ends. None: where the log ends now.
    """
    examples: list[Example] = []
    begins = stopped_at(log, bundle) if begins is None else begins
    scored: set[str] = set()
    for example in _examples(log, start=begins, until=ends):
        name = example.ranking.impression.id
        if example.label_state == "none":
            scored.add(name)
        elif example.label_state == "labels" and name not in scored:
            continue  # its scores came before this part of the log, so the bundle has learnt them
        if any(label > 0 for label in example.labels):
            examples.append(example)
            if len(examples) >= 2 * most:  # old ones are dropped from time to time, to save memory
                del examples[:-most]
    return examples[-most:]


def part_of(
    log: Log, bundle: Bundle, most: int, *, beside: Sequence[Bundle] = (), until: Place | None = None
) -> tuple[list[Example], Part]:
    """The lists on which bundles are judged together: none of the bundles has learnt from any of them.

    Args:
        log: The log with the topic `examples`.
        bundle: The bundle that is judged.
        most: How many lists at most, the newest.
        beside: Other bundles that are judged on the same lists.
        until: Where the part ends. None: where the log ends now.

    Raises:
        DataError: The part has no labelled example. The sentence says what to do.
    """
    learnt = stopped_at(log, bundle)
    begins = max([learnt, *(stopped_at(log, other) for other in beside)], key=lambda place: sum(place.offsets))
    cut = Cut(_end(log), inside=False) if until is None else cut_at(log, until)
    ends = cut.position
    examples = [] if sum(ends.offsets) <= sum(begins.offsets) else held_out(log, bundle, most, begins=begins, ends=ends)
    if not examples:
        raise DataError(f"{bundle.path}: {_nothing(log, learnt, begins, ends, until)}")
    times = [example.ranking.impression.time_us for example in examples]
    return examples, Part(
        learnt=_text(learnt),
        begins=_text(begins),
        ends=_text(ends),
        first=write_time(min(times)),
        last=write_time(max(times)),
    )


def count_held_out(log: Log, start: LanePosition, enough: int) -> tuple[int, LanePosition]:
    """How many labelled examples come after a position, and where the count stopped.

    Args:
        log: The log with the topic `examples`.
        start: Where a bundle's student stopped learning, or where an earlier count stopped.
        enough: The count stops soon after this number.
    """
    lanes = Lanes(log, state=start, dead_letters=_pass_over)
    try:
        until, found = lanes.end_state(), 0
        while found < enough:
            examples = lanes.next(READ, 0.2, until=until)
            found += sum(any(label > 0 for label in example.labels) for example in examples)
            if not examples and lanes.reached(until):
                break
        return found, lanes.state()
    finally:
        lanes.close()


def learnt_from(log: Log, bundle: Bundle, most: int | None = None) -> Iterator[Example]:
    """The examples before a bundle's positions.

    Args:
        log: The log with the topic `examples`.
        bundle: The bundle.
        most: About how many at most, the newest. None: all of them.

    Returns:
        All of them come in the order in which the student learnt from them. If some are left out, the rest comes lane
        after lane.
    """
    ends = stopped_at(log, bundle)
    if most is None:
        return _examples(log, until=ends)
    lanes = ends.by_partition()
    with closing(log.source(list(lanes))) as source:
        starts = {tp: source.bounds(tp)[0] for tp in lanes}
    each = -(-most // len(lanes))
    if all(end - starts[tp] <= each for tp, end in lanes.items()):
        return _examples(log, until=ends)
    return _newest(log, {tp: (max(starts[tp], end - each), end) for tp, end in lanes.items()})


def _newest(log: Log, parts: Mapping[TopicPartition, tuple[int, int]]) -> Iterator[Example]:
    """The examples between two offsets of each lane, lane after lane."""
    with closing(log.source(list(parts))) as source:
        for tp, (begin, end) in parts.items():
            source.seek({tp: begin})
            for message in up_to(source, tp, end, READ):
                try:
                    yield decode(Example, message.value)
                except DecodeError as e:
                    _pass_over(message, e)


def stopped_at(log: Log, bundle: Bundle) -> LanePosition:
    """Where a bundle's student stopped learning. The log must still be the one that it learnt from."""
    saved = bundle.manifest.provenance.get("positions")
    if not isinstance(saved, dict) or not isinstance(saved.get("lanes"), dict):
        raise DataError(
            f"{bundle.path}: its manifest does not say where it stopped learning, so nothing can be held out"
        )
    lanes = LanePosition.read(saved["lanes"])
    log.check_witness(lanes.by_partition(), saved.get("witness"))
    return lanes


def _nothing(log: Log, learnt: LanePosition, begins: LanePosition, ends: LanePosition, until: Place | None) -> str:
    """Why there is nothing to judge on, and what to do."""
    what = "there is no labelled example after those that this bundle learnt from"
    if begins != learnt:
        what = f"there is no labelled example after {_text(begins)}, up to which another bundle learnt"
    where = f"(it learnt up to {_text(learnt)}; the log ends at {_text(_end(log))})"
    if until is not None and sum(ends.offsets) <= sum(begins.offsets):
        return f"{what} and before --until {until.text} {where}; give a later place, or leave --until out"
    if until is not None:
        return (
            f"{what} and before --until {until.text} {where}; give a later place, or see `recdistill inspect examples`"
        )
    first = [round(_LEARN * offset) for offset in _end(log).offsets]
    proposed = LanePosition(learnt.identity, tuple(first), 0)
    text = str(first[0]) if len(first) == 1 else _text(proposed)
    trial = "--set distil.directory=recdistill-data/trial"
    return (
        f"{what} {where}; to leave a part for judging, train a student on the rest: `recdistill distil --until {text} "
        f"{trial}`, then `recdistill evaluate {trial}` (--until takes a time, too); or wait for newer examples"
    )


def _end(log: Log) -> LanePosition:
    lanes = Lanes(log, dead_letters=_pass_over)
    try:
        return lanes.end_state()
    finally:
        lanes.close()


def _text(position: LanePosition) -> str:
    return write_position(position.by_partition())


def _examples(log: Log, *, start: LanePosition | None = None, until: LanePosition | None = None) -> Iterator[Example]:
    lanes = Lanes(log, state=start, dead_letters=_pass_over)
    try:
        until = lanes.end_state() if until is None else until
        while True:
            examples = lanes.next(READ, 0.2, until=until)
            yield from examples
            if not examples and lanes.reached(until):
                return
    finally:
        lanes.close()


def _pass_over(message: Message, error: Exception) -> None:
    """Leaves out a record that cannot be read. The distiller writes the dead letters of `examples`, not the judge."""
    log_.debug("example at %d left out: %s", message.offset, error)
