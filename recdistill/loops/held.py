"""Which users no student learns from, and how many of them there are.

A user is held out when a hash of the user is below a share. So where the share grows, those who were held out stay so;
where it shrinks, some of them are learnt from again, but their lists of before are not. A list without a user is chosen
by its own id.

The share follows the traffic: as many labelled lists a day as a judge needs, within two bounds. It changes only with
the first record of a day, in the time of the records, and after enough labelled lists were seen. A list is held out by
the share that holds at its own time. So the answer depends on the order of the records alone.

It knows nothing of logs or of judges.

Example:
    >>> share = Share(least=0.0, most=0.5, per_day=500)
    >>> share.at(0)
    0.0
    >>> for n in range(2000):
    ...     share.moved(43_200_000_000 // 2000 * n, 43_200_000_000 // 2000 * (n + 1))
    ...     share.labelled()
    >>> share.turns(86_400_000_000), share.turn(86_400_000_000), round(share.at(86_400_000_000), 3), share.at(5)
    (True, None, 0.125, 0.0)
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from typing import Final

import msgspec

DAY_US: Final = 86_400_000_000

ENOUGH: Final = 1_000
"""Labelled lists that must be seen before the share changes."""

_SLIGHT: Final = 0.1
"""A change by less than this part of the share is left out, so that the users stay the same."""

_MOST_CHANGES: Final = 40


class Saved(msgspec.Struct, omit_defaults=True):
    """What is known of the share, as it travels with a commit.

    Attributes:
        changes: From when (microseconds), and the share.
        labelled: Labelled lists since the last change.
        busy_us: Time that they took, without long pauses.
    """

    changes: list[tuple[int, float]] = []
    labelled: int = 0
    busy_us: int = 0


class Share:
    """The share of users that are held out, over time; see the header of this module.

    Args:
        least: The share is at least this; it begins here.
        most: It is at most this.
        per_day: Labelled lists a day that should be held out.
        saved: What an earlier one knew.
    """

    def __init__(self, *, least: float, most: float, per_day: float, saved: Saved | None = None) -> None:
        self._least, self._most, self._per_day = least, most, per_day
        self.saved = saved if saved is not None and saved.changes else Saved([(0, least)])

    def at(self, time_us: int) -> float:
        """The share at a time."""
        changes = self.saved.changes
        if time_us >= changes[-1][0]:
            return changes[-1][1]
        return changes[max(0, bisect_right(changes, (time_us, 2.0)) - 1)][1]

    def holds(self, name: str, time_us: int) -> bool:
        """Whether the lists of a user, or a list without a user, are held out at a time."""
        share = self.at(time_us)
        return share > 0 and _place_of(name) < share

    def bound(self, clock_us: int) -> None:
        """Takes new bounds, from behind a time on."""
        share = self.saved.changes[-1][1]
        if not self._least <= share <= self._most:
            self._change(clock_us + 1, min(max(share, self._least), self._most))

    def moved(self, before_us: int, after_us: int) -> None:
        """Notes that the clock moves. A pause of more than a day counts as a day."""
        self.saved.busy_us += min(max(0, after_us - before_us), DAY_US)

    def labelled(self) -> None:
        """Notes that the window of a labelled list is over."""
        self.saved.labelled += 1

    def turns(self, clock_us: int, before_us: int = 0) -> bool:
        """Whether a new day begins when the clock moves; then everything before it must have been noted."""
        return clock_us // DAY_US > before_us // DAY_US

    def turn(self, clock_us: int) -> None:
        """Begins a new day with the share that fits the days before."""
        saved = self.saved
        if saved.labelled < ENOUGH or not saved.busy_us:
            return
        rate = saved.labelled * DAY_US / saved.busy_us
        wanted = min(max(self._per_day / rate, self._least), self._most)
        share = saved.changes[-1][1]
        if abs(wanted - share) > _SLIGHT * share:
            self._change(clock_us // DAY_US * DAY_US, wanted)
        saved.labelled = saved.busy_us = 0

    def forget(self, before_us: int) -> None:
        """Forgets what held only before a time."""
        changes = self.saved.changes
        while len(changes) > 1 and (changes[1][0] <= before_us or len(changes) > _MOST_CHANGES):
            changes.pop(0)

    def _change(self, from_us: int, share: float) -> None:
        if from_us <= self.saved.changes[-1][0]:
            self.saved.changes[-1] = (self.saved.changes[-1][0], share)
        else:
            self.saved.changes.append((from_us, share))


def _place_of(name: str) -> float:
    """A number from 0 to 1 for a name, always the same."""
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"held-out").digest()
    return int.from_bytes(digest, "big") / 2**64
