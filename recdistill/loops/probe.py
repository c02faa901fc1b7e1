"""Impressions -> more impressions: the student's own top items, so that the teacher scores them too.

A product's lists hold what the product showed. A student may be wrong about items that were never shown, and no list
tells it. So a share of the impressions is probed; a hash of their ids chooses which. The champion is asked for its best
items, and these go back to `impressions` as a list of origin `student`, with the student's scores and the bundle that
gave them. From there they are scored, joined and learnt from like any other list. Nobody was shown a probe. So the
joiner closes it without labels, and only the teacher's scores teach.

A probe has the id of its impression with `.probe` at the end. It is written in the same transaction that moves past the
impression, so an impression has at most one probe, also after a kill. A list that a student answered is never probed,
and so a probe is never probed. At most `per_s` probes are written a second; when more are due, the prober falls behind.

It knows nothing of the teacher, nor of what a probe teaches.

Example:
    >>> probe_of(Impression("r1", 5), ["a", "b"], [0.5, 0.25], "c0ffee").id
    'r1.probe'
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from recdistill.budget import unit
from recdistill.errors import (
    BundleError,
    DataError,
    DecodeError,
    Interrupted,
    RegistryError,
    RequestError,
    StreamError,
)
from recdistill.loops import ends_of, reached
from recdistill.loops.begin import begun
from recdistill.loops.follow import Champion, OtherLog, catch_up
from recdistill.loops.once import Once
from recdistill.loops.swap import Try
from recdistill.progress import Progress
from recdistill.records import MAX_ID, Candidate, Impression, decode, encode, key_of
from recdistill.serve import Filters, Recommender, Request
from recdistill.stream import (
    ITEMS,
    Delivery,
    Log,
    Message,
    Outgoing,
    Place,
    Position,
    Source,
    Stage,
    TopicPartition,
    deliver,
)

if TYPE_CHECKING:
    from recdistill.bundle import Bundle

log_ = logging.getLogger(__name__)

MARK: Final = ".probe"


def probe_of(impression: Impression, items: Sequence[str], scores: Sequence[float], bundle: str) -> Impression:
    """The impression that asks for the student's answer to another one to be scored.

    Args:
        impression: Whose request it was.
        items: The answer, best first.
        scores: The student's.
        bundle: Content hash of the bundle that answered.
    """
    name = impression.id + MARK
    if len(name) > MAX_ID:
        name = hashlib.blake2b(impression.id.encode(), digest_size=16).hexdigest() + MARK
    chosen = set(items)
    return msgspec.structs.replace(
        impression,
        id=name,
        candidates=tuple(Candidate(item, score) for item, score in zip(items, scores, strict=True)),
        exclude=tuple(item for item in impression.exclude if item not in chosen),
        origin="student",
        served_by=bundle,
    )


def run(
    log: Log,
    champion: Champion | Recommender,
    *,
    share: float = 0.05,
    k: int = 20,
    per_s: float = 20.0,
    batch: int = 200,
    wait_s: float = 0.5,
    follow_s: float = 5.0,
    try_it: Try | None = None,
    begin: Place | None = None,
    stop: threading.Event,
    drain: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
) -> Counter[str]:
    """Probes until stopped, or until the ends seen at the start when draining.

    Args:
        log: Where `impressions` and `items` are read, and `impressions` written.
        champion: The registry's, which is followed; or one recommender, which alone is asked.
        share: Share of the product's impressions that are probed.
        k: Items of a probe.
        per_s: Most probes written a second.
        batch: Most impressions passed, and committed, at once.
        wait_s: Longest wait for the first impression of a batch.
        follow_s: How often the champion is looked at.
        try_it: Runs a champion in a process of its own, before it is asked. None: it is not tried.
        begin: Where in `impressions` to begin; None: where it stopped.
        stop: Set it and the batch in work is committed, then the function returns.
        drain: Return when everything that the log held at the start is passed.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.

    Returns:
        Counts: impressions (passed), probes, impersonal (the student knew nothing of the user), refused (a request that
        it cannot read), bad_records, swaps (of the champion), registry_failures; dead_letters (probes that cannot be
        written), if there are any.

    Raises:
        RegistryError, BundleError: Draining, and there is no champion, or it cannot be fetched.
        StreamError: The log cannot be read or written, or another prober took over.
    """
    counts = Counter() if counts is None else counts
    partitions = log.topics().get("impressions")
    if partitions is None:
        raise StreamError("there is no topic 'impressions'; make the topics with `recdistill topics create`")
    inputs = [TopicPartition("impressions", p) for p in range(partitions)]
    with (
        begun(log, "probe", "probe", inputs, begin) as (stage, source),
        closing(_Asked(log, champion, follow_s, counts)) as asked,
    ):
        if try_it is not None:
            asked.try_it = partial(try_it, stop=stop.is_set)
        start, ends = source.position(), ends_of(source, inputs)
        total = sum(ends[tp] - start[tp] for tp in inputs) if drain else None
        while not stop.is_set() and not (drain and reached(source.position(), ends)):
            recommender = asked.look()
            if recommender is None:
                if drain:
                    if asked.failed is not None:
                        raise asked.failed
                    name = "the registry" if isinstance(champion, Recommender) else repr(champion.name)
                    raise RegistryError(f"{name} has no champion to ask; promote one first")
                stop.wait(follow_s)
                continue
            began = time.monotonic()
            messages = source.read(batch, wait_s)
            if not messages:
                stage.keep()
                continue
            probes = _probes(messages, recommender, share, k, counts)
            position = source.position()
            written = _write(stage, probes, position)
            counts["impressions"] += len(messages)
            counts["probes"] += written
            if written < len(probes):
                counts["dead_letters"] += len(probes) - written
            if progress:
                progress(sum(position[tp] - start[tp] for tp in inputs), total)
            stop.wait(max(0.0, len(probes) / per_s - (time.monotonic() - began)))
    return counts


Probes = list[tuple[Message, Impression]]
"""Each probe with the message of its impression."""


def _write(stage: Stage, probes: Probes, position: Position) -> int:
    """Writes probes. Returns how many; the impression of one that cannot be written goes to the dead letters."""
    outgoing: list[Outgoing] = []
    dead: list[tuple[Message, Exception]] = []
    for message, probe in probes:
        try:
            outgoing.append(Outgoing("impressions", encode(probe), key=key_of(probe), source=message))
        except DataError as e:
            dead.append((message, e))
    refused = deliver(stage, "probe", lambda _: Delivery(outgoing, dead, position))
    return len(outgoing) - len(refused)


def _probes(
    messages: Sequence[Message], recommender: Recommender, share: float, k: int, counts: Counter[str]
) -> Probes:
    probes: Probes = []
    for message in messages:
        try:
            impression = decode(Impression, message.value)
        except DecodeError:  # the scorer owns its dead letter
            counts["bad_records"] += 1
            continue
        if impression.origin != "product" or unit("probe", impression.id) >= share:
            continue
        known = frozenset(event.item for event in impression.history)
        request = Request(impression.history, impression.context, impression.exclude, impression.time_us)
        try:
            [answer] = recommender.recommend([request], k, Filters(exclude=known))
        except RequestError as e:
            log_.debug("%s is not probed: %s", impression.id, e)
            counts["refused"] += 1
            continue
        if answer.source != "personal" or not answer.items:
            counts["impersonal"] += 1
            continue
        probes.append((message, probe_of(impression, answer.items, answer.scores, answer.bundle)))
    return probes


class _Asked:
    """Whom to ask: the registry's champion as it is now, with the catalogue as it is now."""

    def __init__(self, log: Log, champion: Champion | Recommender, follow_s: float, counts: Counter[str]) -> None:
        self._follow_s, self._counts = follow_s, counts
        self._champion = champion if isinstance(champion, Champion) else None
        self._recommender = champion if isinstance(champion, Recommender) else None
        self._next_s = 0.0
        self._items: Source = log.source([ITEMS])
        # The place of a bundle of another log means nothing in this one: then all items of this log are read.
        self._other = OtherLog("beginning")
        self._say = Once(log_)
        self.try_it: Callable[[Bundle], object] = id
        self.failed: RegistryError | BundleError | None = None  # why there is none, where one could not be fetched

    def look(self) -> Recommender | None:
        """The recommender to ask; what fails leaves the one before."""
        if self._champion is not None and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + self._follow_s
            try:
                self._follow(self._champion)
            except Interrupted:  # the process stops
                return self._recommender
            except (RegistryError, BundleError) as e:
                self._counts["registry_failures"] += 1
                self.failed = e
                self._say(f"the champion cannot be fetched; the one before is asked until it can: {e}")
            else:
                self.failed = None
                self._say("")
        if self._recommender is not None:
            self._other.settle(self._items, self._recommender)
            catch_up(
                self._items,
                self._recommender,
                lambda message, error: log_.debug("item at %d is passed over: %s", message.offset, error),
            )
        return self._recommender

    def close(self) -> None:
        """Gives back what was opened."""
        self._items.close()

    def _follow(self, champion: Champion) -> None:
        ref = champion.look()
        if ref is None or (self._recommender and self._recommender.content_hash == ref.content_hash):
            return
        bundle = champion.fetch(ref)
        self.try_it(bundle)
        self._recommender = Recommender(bundle)
        champion.took(bundle)
        self._counts["swaps"] += 1
