"""Makes a student anew: a fresh student before its newest examples, with all that it knows of the stream.

It knows nothing of how a student learns, or of what a drift is. `rebuilds` says when, and from where.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from recdistill.errors import OutOfRange
from recdistill.loops.distil.passes import Range
from recdistill.loops.distil.rebuilds import Mark, marked, passed_by, place_for, start_of
from recdistill.loops.distil.requests import Request
from recdistill.loops.distil.saved import Saved
from recdistill.stream import LanePosition, Log, place_at, read_place

if TYPE_CHECKING:
    from recdistill.train import Trainer

log_ = logging.getLogger(__name__)


def begun_anew(
    saved: Saved,
    trainer: Trainer,
    drifts: Sequence[str],
    *,
    fresh: Callable[[Saved], Trainer],
    seek: Callable[[LanePosition], None],
) -> Trainer | None:
    """Marks where the student stands. After a drift it gives the student that goes on from `saved.lanes`.

    Args:
        saved: The student's state; it gets the mark, and the range that is learnt again.
        trainer: The student that has learnt.
        drifts: What has drifted in its newest batch.
        fresh: Makes a trainer of the settings that hold, which has learnt nothing.
        seek: Goes to a place of the log.

    Returns:
        None: it goes on as it is.
    """
    examples, watch = saved.recipe.rebuild, trainer.watch
    here = Mark(saved.seen.examples, 0 if watch is None else watch.now.at, saved.lanes)
    saved.marks = marked(saved.marks, here, examples)
    if not drifts:
        return None
    while (start := start_of(saved.marks, learnt=here.examples, rebuilt=saved.rebuilt, examples=examples)) != here:
        if start is None:
            return None
        try:
            seek(start.lanes)
            break
        except OutOfRange as e:
            # The log was cut since; a later mark may still be there. The newest one is where the student stands.
            log_.warning("the student cannot be made anew from there: %s", e.facts)
            saved.marks = [mark for mark in saved.marks if mark.examples > start.examples] or [here]
            seek(here.lanes)
    else:
        return None
    newest = here.examples - start.examples
    made = begun_at(start, saved, trainer, fresh=fresh)
    log_.warning("the student is made anew from its newest %s examples, because %s", f"{newest:,}", "; ".join(drifts))
    return made


def begun_at(start: Mark, saved: Saved, trainer: Trainer, *, fresh: Callable[[Saved], Trainer]) -> Trainer:
    """The student that goes on from a mark: it learns what it has learnt since once more, then what follows.

    Args:
        start: The mark.
        saved: The student's state; it gets the range that is learnt again. Its lanes are those of the mark then.
        trainer: The student that has learnt.
        fresh: Makes a trainer of the settings that hold, which has learnt nothing.
    """
    made = fresh(saved)
    made.restore(*trainer.state_anew(made))
    if made.watch is not None:
        made.watch.rewind(start.lists)
    until, r = saved.lanes, saved.range
    if r is not None and r.again:  # what lies behind `lanes` was learnt too, before the pass that is being made
        until = r.until
    else:
        saved.then_until = r.until if r else None
    saved.range = Range(2, start.lanes, until, done=1)
    saved.rebuilt, saved.lanes = saved.seen.examples, start.lanes
    return made


def noted(saved: Saved, trainer: Trainer) -> None:
    """Notes the place where a student stands, so that it can be made anew from there. Not in a later pass."""
    if saved.range is not None and saved.range.again:
        return
    here = Mark(saved.seen.examples, 0 if trainer.watch is None else trainer.watch.now.at, saved.lanes)
    if not saved.places and saved.events and not saved.events[0].step and not saved.restarts:
        # A student of an older version has no places. It began where its first settings held.
        saved.places = [Mark(0, 0, saved.events[0].lanes)]
    saved.places = passed_by(saved.places, here)


def mark_for(log: Log, request: Request, saved: Saved) -> Mark | None:
    """From where a student is made anew that a person asks for; None: the log holds nothing that it has learnt.

    Raises:
        UsageError: The place that was typed is none of this log.
        OutOfRange: The log does not hold it.
        StreamError: The log cannot be read.
    """
    lanes = list(saved.lanes.by_partition())
    held = place_at(log, lanes, read_place("beginning", words=True))
    found = place_for(saved.places, held=held, wanted=place_at(log, lanes, read_place(request.place, words=True)))
    return None if found is None or found.examples >= saved.seen.examples else found
