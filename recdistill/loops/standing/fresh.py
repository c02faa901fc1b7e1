"""How fresh each hop is: the newest event that has passed it, and how old the event was then.

The times stand in the rankings, in what was announced of bundles, in the registry, and in the processes that are asked.
Where a time does not stand, the hop has none: it is never guessed.

It knows nothing of how these times are made.

Example:
    >>> hop = HopAt(hop="scored", event_us=5_000_000, at_us=6_500_000)
    >>> hop.took_s, hop.age_s(9_000_000)
    (1.5, 4.0)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from recdistill.errors import DecodeError
from recdistill.hops import HOPS, Hop
from recdistill.ledger import Change
from recdistill.loops.inspect import look
from recdistill.records import Ranking, decode
from recdistill.registry import Version
from recdistill.stream import Log, MadeBundle


class HopAt(Struct, frozen=True, kw_only=True):
    """The newest event that has passed a hop.

    Attributes:
        hop: Which.
        event_us: Its time.
        at_us: When it passed.
    """

    hop: Hop
    event_us: int
    at_us: int

    @property
    def took_s(self) -> float:
        """How old it was then."""
        return (self.at_us - self.event_us) / 1e6

    def age_s(self, now_us: int) -> float:
        """How old it is now."""
        return (now_us - self.event_us) / 1e6


def hops_of(
    log: Log | None,
    made: Sequence[MadeBundle],
    versions: Sequence[Version],
    ledger: Sequence[Change],
    processes: Iterable[Mapping[Hop, tuple[int, int]]] = (),
) -> list[HopAt]:
    """The hops whose times are known, in their order.

    Args:
        log: Where rankings stand; None: it is not there.
        made: The bundles that were announced.
        versions: Those of the registry.
        ledger: Every change of champion, oldest first.
        processes: What processes say of the hops: times of the newest event, and when it passed.

    Raises:
        StreamError: The log cannot be read.
    """
    event_us = {one.content_hash: one.event_us for one in made if one.event_us}
    found: list[HopAt] = [] if log is None else list(_scored(log))
    for one in made:
        if one.event_us:
            if one.learnt_us:
                found.append(HopAt(hop="learnt", event_us=one.event_us, at_us=one.learnt_us))
            found += _at("exported", one.event_us, one.made_at)
    for version in versions:
        found += _at("judged", event_us.get(version.content_hash, 0), version.created_at)
    for entry in ledger:
        if entry.kind == "promote":
            found += _at("promoted", event_us.get(entry.content_hash, 0), entry.at)
    for said in processes:
        found += [HopAt(hop=hop, event_us=times[0], at_us=times[1]) for hop, times in said.items()]
    newest = {one.hop: one for one in sorted(found, key=lambda one: one.at_us)}
    return [newest[hop] for hop in HOPS if hop in newest]


def _scored(log: Log) -> Iterator[HopAt]:
    for number in range(log.topics().get("rankings", 0)):
        for message in look(log, "rankings", 1, newest=True, partition=number):
            try:
                ranking = decode(Ranking, message.value)
            except DecodeError:
                continue
            if ranking.scored_at_us and ranking.impression.time_us:
                yield HopAt(hop="scored", event_us=ranking.impression.time_us, at_us=ranking.scored_at_us)


def _at(hop: Hop, event_us: int, moment: str) -> list[HopAt]:
    try:
        at_us = round(datetime.fromisoformat(moment).timestamp() * 1e6)
    except ValueError:
        return []
    return [HopAt(hop=hop, event_us=event_us, at_us=at_us)] if event_us else []
