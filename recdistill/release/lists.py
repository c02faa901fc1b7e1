"""Chooses the lists to judge a bundle on: those of the topic `held-out`, or those after the place where it stopped.

No student ever learns from a list of `held-out`. So every bundle can be judged on the newest of them as soon as it is
made. Some of them may be older than the place where the bundle stopped learning. That is no harm: the champion is
judged on the same lists. To wait for newer lists would take at least the window of the joiner. The newest lists are
taken, because tastes change.

The topic may have too few labelled lists: an older installation, or a small import. Then the bundle is judged on the
examples after the place where it stopped learning.

It knows nothing of figures, or of how a bundle was made.

Example:
    >>> HELD, BEHIND
    ('held-out', 'behind')
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from recdistill.bundle import Bundle
from recdistill.errors import DataError
from recdistill.judge import Part
from recdistill.records import Example
from recdistill.release.parts import part_of, stopped_at
from recdistill.release.window import HeldOutWindow, newest_held_out
from recdistill.stream import HELD_OUT, Log, Place, write_position, write_time

Which = Literal["auto", "held-out", "behind"]
"""The values of the setting `judge.lists`."""

HELD: Final = "held-out"
BEHIND: Final = "behind"


def lists_for(
    log: Log,
    bundle: Bundle,
    most: int,
    *,
    which: Which = "auto",
    least: int = 1,
    beside: Sequence[Bundle] = (),
    until: Place | None = None,
    taught_us: int | None = None,
    window: HeldOutWindow | None = None,
) -> tuple[list[Example], Part]:
    """The lists on which a bundle, and those beside it, are judged.

    Args:
        log: The log.
        bundle: The bundle that is judged.
        most: How many lists at most, the newest.
        which: `held-out`, `behind`, or `auto`: held-out where there are enough.
        least: How many held-out lists are enough.
        beside: Other bundles that are judged on the same lists.
        until: Where the judged part of `examples` ends. If it is given, `auto` means `behind`.
        taught_us: Time of the latest list that the teacher learnt from. Held-out lists up to it are left out.
        window: The window of a caller that judges again and again. None: it is read now.

    Raises:
        DataError: There is nothing to judge on. The sentence says what to do.
    """
    if which == "held-out" and until is not None:
        raise DataError(
            f"--until {until.text}: is a place in examples, and judge.lists is held-out; leave --until out, or set "
            "judge.lists to behind"
        )
    why = "the settings ask for them" if which != "auto" else "there are enough of them"
    if which == "auto" and until is not None:
        which, why = "behind", "--until names their end"
    if which != "behind":
        window = newest_held_out(log, most, after_us=taught_us) if window is None else window
        short = too_few(window, least)
        if not short:
            return window.examples(), _part(log, bundle, window, why)
        if which == "held-out":
            raise DataError(f"{bundle.path}: {short}; wait for more, or set judge.lists to behind")
        why = short
    examples, part = part_of(log, bundle, most, beside=beside, until=until)
    return examples, msgspec.structs.replace(part, lists=BEHIND, why=why)


def too_few(window: HeldOutWindow, least: int) -> str:
    """Why the held-out lists are not enough for a verdict. Empty: they are enough."""
    if not window.exists:
        return f"the log has no topic {HELD_OUT.topic} (`recdistill topics create` makes it)"
    if len(window) >= least:
        return ""
    if window.passed_over:
        return (
            f"of the topic {HELD_OUT.topic}, lists up to the time to which the teacher learnt are left out; "
            f"{window.outlook(least)}"
        )
    return f"the topic {HELD_OUT.topic} is too small: {window.outlook(least)}"


def _part(log: Log, bundle: Bundle, window: HeldOutWindow, why: str) -> Part:
    first, end = window.offsets()
    first_us, last_us = window.span_us()
    return Part(
        learnt=write_position(stopped_at(log, bundle).by_partition()),
        begins=write_position({HELD_OUT: first}),
        ends=write_position({HELD_OUT: end}),
        first=write_time(first_us),
        last=write_time(last_us),
        lists=HELD,
        why=why,
    )
