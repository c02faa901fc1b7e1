"""Impressions -> more impressions: the student's own top items, so that the teacher says what it thinks of them.

A product's lists hold what the product showed. What a student would show, and nobody has, is where it is wrong unseen.
For a share of the impressions, chosen by a hash of their ids, the champion is asked for its best items, and these go
back to `impressions` as a list of origin `student`, with the student's scores and the bundle that gave them. From there
they are scored, joined and learnt from like any other list. Nobody was shown them, so the joiner closes such a list
without labels, and it teaches by the teacher's scores alone.

A probe's id is its impression's with `.probe` behind it, and it is written in the transaction that passes the
impression: each has at most one, whatever is killed. What a student answered is never probed, its probes least of all.
At most `per_s` probes are written a second; when more are due, the prober falls behind.

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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from recdistill.budget import unit
from recdistill.bundle import open_bundle
from recdistill.config import ProbeSettings, RegistrySettings
from recdistill.errors import BundleError, DecodeError, OutOfRange, RegistryError, RequestError, StreamError
from recdistill.loops import ends_of, reached
from recdistill.progress import Progress
from recdistill.records import MAX_ID, Candidate, Impression, Item, decode, encode, key_of
from recdistill.serve import Filters, Recommender, Request
from recdistill.stream import Log, Message, Source, TopicPartition

if TYPE_CHECKING:
    from recdistill.registry import Registry

log_ = logging.getLogger(__name__)

ALIAS: Final = "champion"
ITEMS: Final = TopicPartition("items", 0)
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
    registry: RegistrySettings,
    settings: ProbeSettings,
    *,
    stop: threading.Event,
    drain: bool = False,
    bundle: Path | None = None,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
) -> Counter[str]:
    """Probes until stopped, or until the ends seen at the start when draining.

    Args:
        log: Where `impressions` and `items` are read, and `impressions` written.
        registry: Whose champion is asked.
        settings: Share, length, rate.
        stop: Set it and the batch in work is committed, then the function returns.
        drain: Return when everything that the log held at the start is passed.
        bundle: Ask this one, and follow no registry.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.

    Returns:
        Counts: impressions (passed), probes, impersonal (the student knew nothing of the user), refused (a request that
        it cannot read), bad_records, swaps (of the champion), registry_failures.

    Raises:
        RegistryError: Draining, and there is no champion.
        BundleError: `bundle` cannot be opened.
        StreamError: The log cannot be read or written, or another prober took over.
    """
    counts = Counter() if counts is None else counts
    partitions = log.topics().get("impressions")
    if partitions is None:
        raise StreamError("there is no topic 'impressions'; make the topics with `recdistill topics create`")
    inputs = [TopicPartition("impressions", p) for p in range(partitions)]
    stage = log.stage("probe", inputs)
    source = log.source(inputs, stage.position())
    champion = _Champion(log, registry, settings, counts, bundle)
    try:
        start, ends = source.position(), ends_of(source, inputs)
        total = sum(ends[tp] - start[tp] for tp in inputs) if drain else None
        while not stop.is_set() and not (drain and reached(source.position(), ends)):
            recommender = champion.look()
            if recommender is None:
                if drain:
                    raise RegistryError(f"{registry.name!r} has no champion to ask; promote one, or name a bundle")
                stop.wait(settings.follow_s)
                continue
            began = time.monotonic()
            messages = source.read(settings.batch, settings.wait_s)
            if not messages:
                continue
            probes = _probes(messages, recommender, settings, counts)
            position = source.position()
            with stage.transaction() as transaction:
                for probe in probes:
                    transaction.send("impressions", encode(probe), key=key_of(probe))
                transaction.commit_inputs(position)
            counts["impressions"] += len(messages)
            counts["probes"] += len(probes)
            if progress:
                progress(sum(position[tp] - start[tp] for tp in inputs), total)
            stop.wait(max(0.0, len(probes) / settings.per_s - (time.monotonic() - began)))
    finally:
        champion.close()
        source.close()
        stage.close()
    return counts


def _probes(
    messages: Sequence[Message], recommender: Recommender, settings: ProbeSettings, counts: Counter[str]
) -> list[Impression]:
    probes = []
    for message in messages:
        try:
            impression = decode(Impression, message.value)
        except DecodeError:  # the scorer owns its dead letter
            counts["bad_records"] += 1
            continue
        if impression.origin != "product" or unit("probe", impression.id) >= settings.share:
            continue
        known = frozenset(event.item for event in impression.history)
        request = Request(impression.history, impression.context, impression.exclude, impression.time_us)
        try:
            [answer] = recommender.recommend([request], settings.k, Filters(exclude=known))
        except RequestError as e:
            log_.debug("%s is not probed: %s", impression.id, e)
            counts["refused"] += 1
            continue
        if answer.source != "personal" or not answer.items:
            counts["impersonal"] += 1
            continue
        probes.append(probe_of(impression, answer.items, answer.scores, answer.bundle))
    return probes


class _Champion:
    """Whom to ask: the registry's champion as it is now, with the catalogue as it is now."""

    def __init__(
        self, log: Log, registry: RegistrySettings, settings: ProbeSettings, counts: Counter[str], bundle: Path | None
    ) -> None:
        self._settings, self._registry_settings, self._counts = settings, registry, counts
        self._fixed = bundle is not None
        self._registry: Registry | None = None
        self._recommender = None if bundle is None else Recommender(open_bundle(bundle))
        self._next_s = 0.0
        self._items: Source = log.source([ITEMS])

    def look(self) -> Recommender | None:
        """The recommender to ask; what fails leaves the one before."""
        if not self._fixed and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + self._settings.follow_s
            try:
                self._follow()
            except (RegistryError, BundleError) as e:
                self._counts["registry_failures"] += 1
                log_.warning("the champion is not to be had, what was asked before is asked on: %s", e)
        if self._recommender is not None:
            self._catch_up(self._recommender)
        return self._recommender

    def close(self) -> None:
        self._items.close()

    def _follow(self) -> None:
        if self._registry is None:
            from recdistill.registry import Registry

            settings = self._registry_settings
            self._registry = Registry(settings.uri, settings.name, timeout_s=settings.timeout_s)
        ref = self._registry.find(ALIAS)
        if ref is None or (self._recommender and self._recommender.content_hash == ref.content_hash):
            return
        self._recommender = Recommender(self._registry.fetch(ref, Path(self._registry_settings.cache)))
        self._counts["swaps"] += 1

    def _catch_up(self, recommender: Recommender) -> None:
        if self._items.position()[ITEMS] != recommender.position:
            try:
                self._items.seek({ITEMS: recommender.position})
            except OutOfRange:  # the topic keeps the newest record of every item
                beginning = self._items.bounds(ITEMS)[0]
                self._items.seek({ITEMS: beginning})
                recommender.apply_items([], beginning)
        while self._items.position()[ITEMS] < self._items.bounds(ITEMS)[1]:
            records = []
            for message in self._items.read(1000, 0.2):
                try:
                    records.append(decode(Item, message.value))
                except DecodeError as e:
                    log_.debug("item at %d is passed over: %s", message.offset, e)
            recommender.apply_items(records, self._items.position()[ITEMS])
