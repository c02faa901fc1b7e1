"""A student that goes on at another place of its log: what lies between is left out, or comes again, as in a next pass.

It knows nothing of how a student learns.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from recdistill.errors import OutOfRange
from recdistill.loops.distil.saved import Saved
from recdistill.loops.distil.stamped import StampedItems
from recdistill.loops.distil.warm import Restart
from recdistill.stream import LanePosition, Lanes, Log, Place, check_identity, place_at

if TYPE_CHECKING:
    from recdistill.watch import Watch

log_ = logging.getLogger(__name__)


def place_of(log: Log, lanes: Lanes, place: Place) -> LanePosition:
    """A place in the lanes, with the first lane in turn."""
    here = lanes.state()
    found = place_at(log, list(here.by_partition()), place)
    return LanePosition(here.identity, tuple(found[tp] for tp in here.by_partition()), 0)


def next_pass(saved: Saved, lanes: Lanes, watch: Watch | None, *, step: int, until: LanePosition | None) -> bool:
    """A pass has ended: the next one begins, or the stream goes on.

    Args:
        saved: The student's state.
        lanes: The examples; they stand at the end of the pass.
        watch: Who looks at the lists of the student; None: nobody does.
        step: The student's step.
        until: Where this call ends; None: it has no end, or the one that was interrupted.

    Returns:
        Whether it was the last pass.
    """
    if (r := saved.range) is None:
        return False
    if last := not r.another:
        saved.range = None
        if watch:
            watch.forget_passes()
        until, saved.then_until = until or saved.then_until, None
        if until is not None and not lanes.reached(until):
            # The range was that of an earlier call, or the student was made anew: this call ends behind it.
            saved.go_over(step, 1, lanes.state(), until)
    else:
        lanes.seek(r.start)
        if watch:
            watch.rewind()
    r.done += 1
    saved.lanes = lanes.state()
    return last


def go_on_at(log: Log, lanes: Lanes, items: StampedItems, saved: Saved, place: Place, *, step: int) -> None:
    """Goes to another place of the same log, and notes it in the student's state."""
    check_identity(saved.lanes.identity, lanes.state().identity)
    left = saved.lanes
    lanes.seek(place_of(log, lanes, place))
    saved.lanes, saved.range = lanes.state(), None
    saved.marks, saved.places, saved.then_until = [], [], None  # what lies between is not what it has learnt
    try:
        items.seek(saved.items_identity, saved.items_next)
    except OutOfRange as e:
        # The topic keeps the newest record of every item, so all of it gives the same catalogue.
        items.seek(saved.items_identity, beginning := items.beginning())
        log_.warning("reading all of 'items' from %d: %s", beginning, e.facts)
    saved.items_next = items.next
    saved.restarts = [*saved.restarts, Restart(how="from", step=step, to=saved.lanes, left=left)]
    log_.warning("the student goes on at %s; it stood at %s", saved.lanes.offsets, left.offsets)
