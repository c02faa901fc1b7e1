"""Makes a student anew after a drift: a fresh student before its newest examples, with all that it knows of the stream.

It knows nothing of how a student learns, or of what a drift is. `rebuilds` says when, and from where.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from recdistill.errors import OutOfRange
from recdistill.loops.distil.passes import Range
from recdistill.loops.distil.rebuilds import Mark, marked, start_of
from recdistill.loops.distil.saved import Saved
from recdistill.stream import LanePosition

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
    made = fresh(saved)
    made.restore(*trainer.state_anew(made))
    if made.watch is not None:
        made.watch.rewind(start.lists)
    saved.then_until = saved.range.until if saved.range else None
    saved.range = Range(2, start.lanes, saved.lanes, done=1)
    saved.rebuilt, saved.lanes = here.examples, start.lanes
    newest = here.examples - start.examples
    log_.warning("the student is made anew from its newest %s examples, because %s", f"{newest:,}", "; ".join(drifts))
    return made
