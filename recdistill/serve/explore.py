"""Changes a few answers a little (exploration), to learn how users like items that are usually not shown.

The first places of an answer never change. The other places are the tail. In a share of the answers, one item is drawn
from the candidates: the items of the tail, and the next items after the answer. A place of the tail is drawn, too. The
item goes there, and the items from there on move down by one. Each item and each place has the same chance. So the
chance of any item at any place can be computed exactly.

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
        share: Share of the answers that are changed.
        first: The first place that may change, counted from 1.
        pool: How many of the next items after the answer are candidates, too.
    """

    share: float = 0.0
    first: int = 1
    pool: int = 0


def shown(explore: Explore, name: str, *, found: int, k: int) -> tuple[list[int], list[float]]:
    """Which items are shown, in which order, when some items were found.

    Args:
        explore: How answers are changed.
        name: The name of the answer. All draws come from it.
        found: How many items were found, the best first. Those after place k + `explore.pool` are not candidates.
        k: How many items are shown at most.

    Returns:
        The items in the order in which they are shown, by their numbers among the found ones. And for each, the chance
        that it is at its place.
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
    """The chance that a candidate is at a place of the tail. Both count from 0. Candidate 0 is the best.

    An item that was not drawn keeps its place, or moves by one. It moves up when a better item was drawn, and down when
    the drawn item went to its place or above. The sum counts the pairs (drawn item, drawn place) that bring the
    candidate to this place.
    """
    pairs = 1  # the pair of this candidate and this place
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
