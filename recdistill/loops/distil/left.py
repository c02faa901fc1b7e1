r"""How much a student that is made anew still has to learn again, as a gauge in the text form of Prometheus.

While it is more than 0, no bundle is made, and the last one serves on.

It knows nothing of why a student is made anew, or of how it learns.

Example:
    >>> print(*lines_of(40), sep="\n")  # doctest: +ELLIPSIS
    # HELP recdistill_rebuild_left Offsets of `examples` that ...
    # TYPE recdistill_rebuild_left gauge
    recdistill_rebuild_left 40
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from recdistill.loops.distil.passes import passed
from recdistill.loops.distil.saved import Saved

NAME: Final = "recdistill_rebuild_left"
HELP: Final = "Offsets of `examples` that a student which is made anew still has to learn again; 0: it has caught up."


def left(saved: Saved) -> int:
    """Offsets that are left of the part that is learnt again; 0 where the student is not made anew.

    Another thread may ask while the student learns.
    """
    part, here = saved.range, saved.lanes
    # A later pass of a drained run goes over its part again as well, but it was not made anew when that began.
    if part is None or not part.again or not saved.rebuilt or saved.rebuilt != saved.seen.examples:
        return 0
    return max(0, passed(part.until) - passed(here))


def lines_of(offsets: int) -> Iterator[str]:
    """The gauge."""
    yield from (f"# HELP {NAME} {HELP}", f"# TYPE {NAME} gauge", f"{NAME} {offsets}")
