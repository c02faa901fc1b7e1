"""A student that goes on at another place of its log: what lies between is left out, or comes again.

It knows nothing of how a student learns.
"""

from __future__ import annotations

import logging

from recdistill.errors import OutOfRange
from recdistill.loops.distil.saved import Saved
from recdistill.loops.distil.stamped import StampedItems
from recdistill.loops.distil.warm import Restart
from recdistill.stream import LanePosition, Lanes, Log, Place, check_identity, place_at

log_ = logging.getLogger(__name__)


def place_of(log: Log, lanes: Lanes, place: Place) -> LanePosition:
    """A place in the lanes, with the first lane in turn."""
    here = lanes.state()
    found = place_at(log, list(here.by_partition()), place)
    return LanePosition(here.identity, tuple(found[tp] for tp in here.by_partition()), 0)


def go_on_at(log: Log, lanes: Lanes, items: StampedItems, saved: Saved, place: Place, *, step: int) -> None:
    """Goes to another place of the same log, and notes it in the student's state."""
    check_identity(saved.lanes.identity, lanes.state().identity)
    left = saved.lanes
    lanes.seek(place_of(log, lanes, place))
    saved.lanes, saved.range = lanes.state(), None
    saved.marks, saved.then_until = [], None  # what lies between is not what it has learnt
    try:
        items.seek(saved.items_identity, saved.items_next)
    except OutOfRange as e:
        # The topic keeps the newest record of every item, so all of it gives the same catalogue.
        items.seek(saved.items_identity, beginning := items.beginning())
        log_.warning("reading all of 'items' from %d: %s", beginning, e.facts)
    saved.items_next = items.next
    saved.restarts = [*saved.restarts, Restart(how="from", step=step, to=saved.lanes, left=left)]
    log_.warning("the student goes on at %s; it stood at %s", saved.lanes.offsets, left.offsets)
