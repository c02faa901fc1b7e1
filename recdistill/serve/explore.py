"""Shows a few answers a little differently, so that it can be learnt what the usual answers cannot tell.

The first places of an answer are never touched. In a share of the answers, one item is drawn from the candidates: the
items of the other places (the tail) and some more behind the answer. It goes to a place of the tail, drawn too, and the
items from there on move down by one. Each item and each place has the same chance. So the chance of any item at any
place is a number that can be computed, not estimated.

All draws come from a hash of the answer's name. So the same name, request and bundle give the same answer again.

It knows nothing of requests, scores or HTTP.

Example:
    >>> explore = Explore(share=1.0, first=2, pool=1)
    >>> order, chances = shown(explore, "a name", found=4, k=3)
    >>> order, [round(chance, 4) for chance in chances]
    ([0, 2, 1], [1.0, 0.3333, 0.5])
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

_DRAWS: Final = 3
_WORD: Final = 8


class Explore(NamedTuple):
    """How answers are changed.

    Args:
        share: Share of the answers that are.
        first: The first place that may change, counted from 1.
        pool: How many items behind the answer are candidates too.
    """

    share: float = 0.0
    first: int = 1
    pool: int = 0


def shown(explore: Explore, name: str, *, found: int, k: int) -> tuple[list[int], list[float]]:
    """What is shown of some items that were found, best first.

    Args:
        explore: How answers are changed.
        name: Of the answer; all draws come from it.
        found: How many items there are. Those after place k + `explore.pool` are no candidates.
        k: Most items that are shown.

    Returns:
        The items in the order in which they are shown, by their numbers among the found ones; and the chance of each
        to be at its place.
    """
    kept = min(k, found)
    head = min(explore.first - 1, kept)
    tail, candidates = kept - head, min(found, k + explore.pool) - head
    if explore.share <= 0 or tail < 1 or candidates < 2:
        return list(range(kept)), [1.0] * kept
    behind = list(range(candidates))
    whether, which, where = _draws(name)
    if whether < explore.share:
        place = int(where * tail)
        item = behind.pop(int(which * candidates))
        behind.insert(place, item)
    order = behind[:tail]
    chances = [
        chance_at(item, place, tail=tail, candidates=candidates, share=explore.share)
        for place, item in enumerate(order)
    ]
    return [*range(head), *(head + item for item in order)], [*([1.0] * head), *chances]


def chance_at(item: int, place: int, *, tail: int, candidates: int, share: float) -> float:
    """The chance of a candidate to be at a place of the tail. Both are counted from 0; candidate i is the i-th best.

    An item that was not drawn keeps its place, or moves: up by one when a better item was drawn, and down by one when
    the drawn item went to its place or above. The sum counts the pairs (item drawn, place drawn) that end there.
    """
    pairs = 1  # the item itself is drawn, and the place
    worse, below = candidates - 1 - item, tail - 1 - place
    if item == place:
        pairs += item * place + worse * below
    elif item == place - 1:
        pairs += worse * place
    elif item == place + 1:
        pairs += item * below
    return (1.0 - share) * (item == place) + share * pairs / (candidates * tail)


def _draws(name: str) -> tuple[float, ...]:
    """Three numbers from 0 to below 1, independent of each other, always the same for a name."""
    digest = hashlib.blake2b(name.encode(), digest_size=_DRAWS * _WORD, person=b"explore").digest()
    words = (int.from_bytes(digest[at : at + _WORD], "big") for at in range(0, len(digest), _WORD))
    return tuple((word >> 11) / 2**53 for word in words)
