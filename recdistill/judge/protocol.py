"""Chooses the protocol that suits the lists: rank the whole catalogue, or rank what was shown. It also says why.

There are two kinds of lists. Some were really shown to people, and are a small part of the catalogue. They say nothing
about the items that were not shown, so each contender ranks what was shown. Other lists were made later: some items
were drawn and added to one chosen item (`recdistill import --kind interactions` does this). The drawn items mean
nothing, so each contender ranks the whole catalogue.

It knows nothing of bundles, teachers or metrics.

Example:
    >>> choose([], 1000).protocol
    'catalogue'
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final, Literal, NamedTuple

from recdistill.records import Example

Protocol = Literal["catalogue", "shown"]

SMALL: Final = 0.01
"""Lists are small parts of the catalogue when the median list has at most this share of it."""


class Choice(NamedTuple):
    """A protocol, and why it was chosen."""

    protocol: Protocol
    why: str


def choose(held_out: Sequence[Example], catalogue: int, asked: str = "auto") -> Choice:
    """The protocol for held-out lists.

    Args:
        held_out: The examples.
        catalogue: How many items the bundle holds.
        asked: `judge.protocol` of the settings. `catalogue` and `shown` decide it; `auto`: the lists decide it.
    """
    if asked == "catalogue":
        return Choice("catalogue", "the settings ask for it")
    if asked == "shown":
        return Choice("shown", "the settings ask for it")
    liked = [(len(each.labels), sum(label > 0 for label in each.labels)) for each in held_out]
    usable = [(length, count) for length, count in liked if 0 < count < length]
    if 2 * len(usable) <= len([count for _, count in liked if count]):
        return Choice("catalogue", "few lists have both a candidate that was liked and one that was not")
    middle = median(length for length, _ in usable)
    size = f"half of the lists have {middle:g} candidates or fewer, of {catalogue:,} items"
    if middle > SMALL * catalogue:
        return Choice("catalogue", f"{size}: no small part")
    if len({length for length, _ in usable}) == 1 and all(count == 1 for _, count in usable):
        return Choice("catalogue", f"all lists have {middle:g} candidates and one liked: they look drawn, not shown")
    return Choice("shown", f"{size}, with clicks among what was shown")
