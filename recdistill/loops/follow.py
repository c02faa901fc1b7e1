"""What a loop follows beside its own input: the catalogue on `items`, and the champion in the registry.

It knows nothing of how a student answers, nor of what becomes of a champion.

Example:
    >>> import tempfile
    >>> from recdistill.config import LogSettings
    >>> from recdistill.loops.feed import feed
    >>> from recdistill.stream import open_log, standard_topics
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = open_log(LogSettings(path=f"{folder}/log.sqlite"))
    ...     _ = log.create_topics(standard_topics())
    ...     _ = feed(log, [Item("a"), Item("b")])
    ...     source = log.source([ITEMS])
    ...     print([[item.id for item in items] for items in new_items(source, lambda message, error: None)])
    ...     source.close(); log.close()
    [['a', 'b']]
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar
from weakref import WeakSet

from recdistill.errors import DecodeError, OutOfRange, RegistryError, StreamError
from recdistill.records import Item, decode_item
from recdistill.stream import ITEMS, Message, Source

if TYPE_CHECKING:
    from recdistill.bundle import Bundle
    from recdistill.registry import BundleRef, Registry
    from recdistill.serve import Recommender

log_ = logging.getLogger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

READ: Final = 1000
"""Catalogue records read at a time."""

WAIT_S: Final = 0.2

PassedOver = Callable[[Message, DecodeError], None]
"""Told of each record that does not decode. The distiller owns its dead letter, so nobody else writes one."""


class FollowsItems(Protocol[T_co]):
    """A catalogue that knows how far it has read."""

    @property
    def position(self) -> int:
        """Next offset of `items` that it has not seen."""
        ...

    def apply_items(self, items: Sequence[Item], position: int) -> T_co:
        """Applies records; from then on it stands at `position`."""
        ...


# The catalogue


def new_items(source: Source, passed_over: PassedOver, *, stop: threading.Event | None = None) -> Iterator[list[Item]]:
    """The records of `items` from a source's position to the end, some at a time.

    Args:
        source: Of `items`.
        passed_over: Told of each record that does not decode.
        stop: Set it and no more is read.

    Raises:
        StreamError: The log cannot be read.
    """
    while source.position()[ITEMS] < source.bounds(ITEMS)[1] and not (stop is not None and stop.is_set()):
        records = []
        for message in source.read(READ, WAIT_S):
            try:
                records.append(decode_item(message.key, message.value))
            except DecodeError as e:
                passed_over(message, e)
        yield records


def catch_up(
    source: Source,
    catalogue: FollowsItems[T],
    passed_over: PassedOver,
    *,
    applied: Callable[[int, T], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Brings a catalogue up to the end of `items`, from wherever it stands.

    Args:
        source: Of `items`; it may stand elsewhere, for another catalogue.
        catalogue: The catalogue.
        passed_over: Told of each record that does not decode.
        applied: Told the number of records and what `apply_items` returned.
        stop: Set it and no more is read.

    Raises:
        StreamError: The log cannot be read.
    """
    if source.position()[ITEMS] != catalogue.position:
        try:
            source.seek({ITEMS: catalogue.position})
        except OutOfRange as e:
            # The topic keeps the newest record of every item, so all that it holds gives the same catalogue.
            beginning = source.bounds(ITEMS)[0]
            log_.warning("reading all of 'items' from %d: %s", beginning, e)
            source.seek({ITEMS: beginning})
            catalogue.apply_items([], beginning)
    for records in new_items(source, passed_over, stop=stop):
        result = catalogue.apply_items(records, source.position()[ITEMS])
        if applied is not None:
            applied(len(records), result)


class OtherLog:
    """What is done when a bundle was made on another log than the one whose `items` are followed.

    The catalogue of a bundle stands at an offset of the log that it was made on. The same offset of another log means
    nothing, so nobody reads on from there.

    Args:
        begin: `beginning`: all items of this log are applied to the bundle's. `latest`: only those that come from now
            on. Empty: neither, and it is an error.
    """

    def __init__(self, begin: Literal["", "beginning", "latest"] = "") -> None:
        self._begin = begin
        self._settled: WeakSet[Recommender] = WeakSet()

    def settle(self, source: Source, recommender: Recommender) -> None:
        """Lets a catalogue begin where it should, once; a catalogue of this log is left as it is.

        Args:
            source: Of `items`.
            recommender: With the bundle and the catalogue.

        Raises:
            StreamError: The bundle was made on another log, and nobody said what to do. It still serves what it holds.
        """
        made_on = _log_of(recommender.bundle.manifest.provenance)
        here = source.identity().cluster
        if not made_on or made_on == here or recommender in self._settled:
            return
        if not self._begin:
            raise StreamError(
                f"bundle {recommender.content_hash[:12]} was made on the log {made_on!r}, and this is {here!r}, so its "
                "catalogue is not followed; set log to the one it was made on, or begin on this one: "
                'rank.items_from = "beginning" (all its items over the bundle\'s) or "latest" (only what comes)'
            )
        beginning, end = source.bounds(ITEMS)
        recommender.apply_items([], beginning if self._begin == "beginning" else end)
        self._settled.add(recommender)


def _log_of(provenance: Mapping[str, Any]) -> str:
    """The id of the log that a bundle was made on; empty where its provenance does not say it."""
    found: Any = provenance
    for name in ("positions", "lanes", "identity", "cluster"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


# The champion


class Champion:
    """The registry's champion, and the folder that fetched bundles lie in.

    Args:
        name: Of the registered model.
        registry: Opens the registry; called at the first look, and again for as long as it fails.
        cache: The folder.
        decided: What the ledger made champion last: number and content hash; None: nothing yet. Where it is given, an
            alias that somebody moved by hand is not followed.
    """

    def __init__(
        self,
        name: str,
        registry: Callable[[], Registry],
        cache: Path,
        decided: Callable[[], tuple[str, str] | None] | None = None,
    ) -> None:
        self.name = name
        self._decided = decided
        self._open, self._cache = registry, cache
        self._registry: Registry | None = None
        self._serving: Path | None = None
        self._before = ""

    def look(self) -> BundleRef | None:
        """Who is champion now; None: nobody yet.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        from recdistill.registry import CHAMPION, touch

        if self._serving is not None:
            touch(self._serving)
        self._registry = self._registry or self._open()
        return self._registry.find(self._ledger_s() or CHAMPION)

    def _ledger_s(self) -> str:
        """The number of the version that the ledger made champion; empty: the alias says it."""
        if self._decided is None:
            return ""
        try:
            decided = self._decided()
        except StreamError as e:
            raise RegistryError(
                f"the ledger, which says who is champion (registry.by_hand), cannot be read: {e}"
            ) from e
        return decided[0] if decided else ""

    def find(self, alias: str) -> BundleRef | None:
        """Who has another alias now, as `previous` or `canary`; None: nobody.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        self._registry = self._registry or self._open()
        return self._registry.find(alias)

    def fetch(self, ref: BundleRef) -> Bundle:
        """Its bundle, verified.

        Raises:
            RegistryError: The registry cannot be reached.
            BundleError: What it holds does not verify.
        """
        self._registry = self._registry or self._open()
        return self._registry.fetch(ref, self._cache)

    def take(self, content_hash: str) -> Bundle:
        """A bundle that serves or has served, verified.

        Raises:
            RegistryError: The registry cannot be reached, or does not hold it.
            BundleError: What it holds does not verify.
        """
        self._registry = self._registry or self._open()
        return self._registry.take(content_hash, self._cache)

    def took(self, bundle: Bundle) -> None:
        """Says that this bundle serves from now on. The one before stays in the cache; older ones are deleted."""
        from recdistill.registry import prune_cache

        if self._serving is not None and self._serving.name != bundle.content_hash:
            self._before = self._serving.name
        self._serving = bundle.path
        prune_cache(self._cache, keep={bundle.content_hash, self._before})
