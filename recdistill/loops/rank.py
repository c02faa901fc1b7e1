"""The champion -> answers over HTTP: follows the registry's alias and the catalogue, and serves what it has.

Beside the server, which has the calling thread, three threads work:

- *champion* looks at the alias. A new champion is fetched and verified, opened, brought up to the end of `items`,
  warmed up and held against its golden answers; then one reference is switched. Whatever fails on the way, the one
  before goes on serving, and the new one is tried again later.
- *items* reads `items` live and applies it to the serving recommender.
- *writer*, only with `rank.write_back`, writes a share of the answers to `impressions`. It never holds an answer up:
  what does not fit its queue is dropped and counted.

A log or a registry that is away stops nothing that already serves. Without a log there is no overlay; a first champion
then serves its own catalogue, but one is never replaced by another whose catalogue would be older.

It knows nothing of HTTP, nor of how a student answers.

Example:
    >>> run(Settings(), stop=threading.Event(), bundle=Path("no/such/folder"))
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: there is no bundle here; give the folder that holds manifest.json
"""

from __future__ import annotations

import contextlib
import gc
import logging
import queue
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from recdistill.bundle import Bundle, open_bundle
from recdistill.config import LogSettings, RankSettings, RegistrySettings, Settings
from recdistill.errors import DataError, DecodeError, OutOfRange, RecdistillError, RegistryError, StreamError
from recdistill.records import Impression, Item, decode, encode, key_of
from recdistill.serve import Ranker, Recommender, Request
from recdistill.serve.http import Limits, bind, create_app, serve
from recdistill.stream import Log, Source, Stage, TopicPartition, open_log

if TYPE_CHECKING:
    from recdistill.registry import Registry

log_ = logging.getLogger(__name__)

ALIAS: Final = "champion"
ITEMS: Final = TopicPartition("items", 0)
READ: Final = 1000  # catalogue records applied at a time
QUEUE: Final = 2000  # answers that may wait for the writer
WRITE: Final = 500  # answers in one transaction
WARM: Final = 20  # golden requests asked before a bundle serves
LATER_S: Final = (5.0, 300.0)  # a champion that failed is tried again after the first, at most the second, doubling
END_S: Final = 10.0  # longest wait for a thread at the end


def run(
    settings: Settings,
    *,
    stop: threading.Event,
    counts: Counter[str] | None = None,
    bundle: Path | None = None,
    started: Callable[[str, int], None] | None = None,
) -> Counter[str]:
    """Serves until stopped; requests in flight are finished.

    Args:
        settings: `rank`, `registry` and `log`.
        stop: The stop signal.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        bundle: Serve this folder and follow no registry.
        started: Told host and port once connections are accepted.

    Returns:
        Counts: swaps, refused_bundles, registry_failures, log_failures, items, bad_items, impressions_written,
        impressions_dropped.

    Raises:
        BundleError: `bundle` cannot be served.
        ConfigError: The address cannot be had.
    """
    ranker = Ranker(counts)
    done = threading.Event()
    with ExitStack() as stack:
        if bundle is not None:
            items = _Items(settings.log, ranker, done)
            stack.callback(items.close)
            ranker.swap(load(open_bundle(bundle), settings.rank, items, ranker))
        listener = bind(settings.rank.host, settings.rank.port)
        stack.callback(listener.close)
        host, port = listener.getsockname()[:2]
        threads = [("items", lambda: _follow_items(settings, ranker, done))]
        if bundle is None:
            threads.append(("champion", lambda: _follow_champion(settings, ranker, done)))
        writer = _Writer(settings.log, f"rank-{socket.gethostname()}-{port}", ranker.counts)
        if settings.rank.write_back:
            threads.append(("writer", lambda: writer.run(done)))
        running = [
            threading.Thread(target=_guarded, args=(work, name), name=name, daemon=True) for name, work in threads
        ]
        for thread in running:
            thread.start()
        limits = Limits(settings.rank.max_k, settings.rank.max_batch, settings.rank.max_body)
        app = create_app(ranker, limits, write_back=settings.rank.write_back, keep=writer.keep)
        log_.info("serving at http://%s:%d", host, port)
        if started is not None:
            started(host, port)
        try:
            serve(app, ranker, listener, stop)
        finally:
            done.set()
            for thread in running:
                thread.join(END_S)
    return ranker.counts


def load(bundle: Bundle, settings: RankSettings, items: _Items, ranker: Ranker) -> Recommender:
    """Loads an opened bundle: up to date, warm, and seen to answer as it should.

    Raises:
        BundleError: It answers otherwise than at its export, or a tower or the index cannot be loaded.
        StreamError: The log is away, and something serves whose catalogue is newer.
    """
    recommender = Recommender(bundle, threads=settings.threads)
    try:
        items.catch_up(recommender)
    except StreamError as e:
        if ranker.champion is not None:
            raise
        log_.warning("%s serves its own catalogue until the log is back: %s", bundle.path.name, e)
        ranker.counts["log_failures"] += 1
    for golden in bundle.golden[:WARM]:
        recommender.recommend([Request(tuple(golden.history), golden.context, (), golden.time_us)], 10)
    recommender.check_golden()
    # What a bundle brings stays as long as it serves. Walking it took the collector a fifth of the time of an answer.
    gc.freeze()
    return recommender


def _guarded(work: Callable[[], None], name: str) -> None:
    try:
        work()
    except Exception:
        log_.exception("the thread %r ended on an error that recdistill should have explained", name)


class _Once:
    """Logs a condition when it begins or changes, not each time it is met."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, text: str) -> None:
        if text and text != self._last:
            log_.warning("%s", text)
        self._last = text


# The catalogue


class _Items:
    """Brings a recommender's catalogue up to the end of `items`. For one thread.

    Args:
        settings: Where the log is.
        ranker: Whose counts are added to.
        done: Set when there is no more use for it.
    """

    def __init__(self, settings: LogSettings, ranker: Ranker, done: threading.Event) -> None:
        self._settings, self._ranker, self._done = settings, ranker, done
        self._log: Log | None = None
        self._source: Source | None = None
        self._say = _Once()

    def catch_up(self, recommender: Recommender) -> bool:
        """Applies what the recommender has not seen; False when there is no `items` to read.

        Raises:
            StreamError: The log cannot be read.
        """
        try:
            source = self._source or self._open()
            if source is None:
                return False
            if source.position()[ITEMS] != recommender.position:
                self._seek(source, recommender)
            while source.position()[ITEMS] < source.bounds(ITEMS)[1] and not self._done.is_set():
                self._apply(source, recommender)
        except StreamError:
            self.close()
            raise
        return True

    def close(self) -> None:
        """Gives the log back; the next `catch_up` opens it again."""
        for part in (self._source, self._log):
            if part is not None:
                part.close()
        self._source = self._log = None

    def _open(self) -> Source | None:
        settings = self._settings
        if settings.kind == "embedded" and not Path(settings.path).exists():
            self._say(f"there is no log at {settings.path}: the catalogue is the bundle's")
            return None
        self._log = open_log(settings)
        if ITEMS.topic not in self._log.topics():
            self._say("the log has no topic 'items': the catalogue is the bundle's")
            self.close()
            return None
        self._say("")
        self._source = self._log.source([ITEMS])
        return self._source

    def _seek(self, source: Source, recommender: Recommender) -> None:
        try:
            source.seek({ITEMS: recommender.position})
        except OutOfRange as e:
            # The topic keeps the newest record of every item, so all that it holds gives the same catalogue.
            beginning = source.bounds(ITEMS)[0]
            log_.warning("reading all of 'items' from %d: %s", beginning, e)
            source.seek({ITEMS: beginning})
            recommender.apply_items([], beginning)

    def _apply(self, source: Source, recommender: Recommender) -> None:
        records, counts = [], self._ranker.counts
        for message in source.read(READ, 0.2):
            try:
                records.append(decode(Item, message.value))
            except DecodeError as e:
                log_.warning("item at %d is passed over: %s", message.offset, e)
                counts["bad_items"] += 1
        taken = recommender.apply_items(records, source.position()[ITEMS])
        counts["items"] += len(records)
        counts["bad_items"] += taken["refused"]


def _follow_items(settings: Settings, ranker: Ranker, done: threading.Event) -> None:
    items, say = _Items(settings.log, ranker, done), _Once()
    try:
        while not done.wait(settings.rank.items_s):
            champion = ranker.champion
            if champion is None:
                continue
            began = time.monotonic()
            try:
                if items.catch_up(champion.recommender):
                    ranker.caught_up = began
                say("")
            except StreamError as e:
                ranker.counts["log_failures"] += 1
                say(f"the catalogue stands still: {e}")
    finally:
        items.close()


# The champion


def _follow_champion(settings: Settings, ranker: Ranker, done: threading.Event) -> None:
    follower = _Follower(settings.registry, settings.rank, ranker, _Items(settings.log, ranker, done))
    while True:
        follower.look()
        if done.wait(settings.rank.follow_s):
            break
    follower.close()


class _Follower:
    """Makes the registry's champion the one that serves. For one thread."""

    def __init__(self, registry: RegistrySettings, rank: RankSettings, ranker: Ranker, items: _Items) -> None:
        self._settings, self._rank, self._ranker, self._items = registry, rank, ranker, items
        self._registry: Registry | None = None
        self._failed: dict[str, tuple[float, float]] = {}  # content hash -> when to try again, after how long
        self._say = _Once()

    def look(self) -> None:
        """Looks at the alias once, and does what follows from it."""
        counts, wanted = self._ranker.counts, ""
        try:
            registry = self._registry or self._open()
            ref = registry.find(ALIAS)
            self._say("" if ref else f"{self._settings.name!r} has no champion yet")
            serving = self._ranker.champion
            if ref is None or (serving is not None and serving.recommender.content_hash == ref.content_hash):
                return
            wanted = ref.content_hash
            if time.monotonic() < self._failed.get(wanted, (0.0, 0.0))[0]:
                return
            recommender = load(registry.fetch(ref, Path(self._settings.cache)), self._rank, self._items, self._ranker)
            self._ranker.swap(recommender, ref.number)
            self._failed.clear()
            log_.info("version %s serves: %s, %d items", ref.number, wanted[:12], recommender.live)
        except RegistryError as e:
            counts["registry_failures"] += 1
            self._say(f"the registry is not to be had; what serves goes on: {e}")
        except StreamError as e:
            counts["log_failures"] += 1
            self._say(f"the champion {wanted[:12]} waits, for its catalogue would be older than what serves: {e}")
        except RecdistillError as e:
            self._refuse(wanted, str(e))
        except Exception as e:
            log_.exception("an error that recdistill should have explained")
            self._refuse(wanted, str(e))

    def close(self) -> None:
        """Gives back what was opened."""
        self._items.close()

    def _open(self) -> Registry:
        from recdistill.registry import Registry

        self._registry = Registry(self._settings.uri, self._settings.name, timeout_s=self._settings.timeout_s)
        return self._registry

    def _refuse(self, wanted: str, why: str) -> None:
        wait_s = min(LATER_S[1], 2 * self._failed[wanted][1]) if wanted in self._failed else LATER_S[0]
        self._failed[wanted] = (time.monotonic() + wait_s, wait_s)
        self._ranker.counts["refused_bundles"] += 1
        log_.error("the champion %s is not served, tried again in %.0f s: %s", wanted[:12], wait_s, why)


# What was answered


class _Writer:
    """Writes answers to `impressions`, in a thread of its own.

    Args:
        settings: Where the log is.
        name: Of the stage: no other process may have it.
        counts: Counts to add to.
    """

    def __init__(self, settings: LogSettings, name: str, counts: Counter[str]) -> None:
        self._settings, self._name, self._counts = settings, name, counts
        self._queue: queue.Queue[Impression] = queue.Queue(QUEUE)
        self._say = _Once()

    def keep(self, impression: Impression) -> bool:
        """Takes an answer if there is room; never waits."""
        try:
            self._queue.put_nowait(impression)
        except queue.Full:
            self._counts["impressions_dropped"] += 1
            return False
        return True

    def run(self, done: threading.Event) -> None:
        """Writes until `done`, then what is left."""
        with ExitStack() as stack:
            stage: Stage | None = None
            while not (done.is_set() and self._queue.empty()):
                some = self._some()
                if not some:
                    continue
                try:
                    if stage is None:
                        stage = self._open(stack)
                    self._write(stage, some)
                    self._say("")
                except StreamError as e:
                    self._counts["impressions_dropped"] += len(some)
                    self._say(f"answers are not written back: {e}")
                    stack.close()
                    stage = None

    def _some(self) -> list[Impression]:
        some: list[Impression] = []
        with contextlib.suppress(queue.Empty):
            some.append(self._queue.get(timeout=0.2))
            while len(some) < WRITE:
                some.append(self._queue.get_nowait())
        return some

    def _open(self, stack: ExitStack) -> Stage:
        log = open_log(self._settings)
        stack.callback(log.close)
        stage = log.stage(self._name)
        stack.callback(stage.close)
        return stage

    def _write(self, stage: Stage, some: list[Impression]) -> None:
        written = 0
        with stage.transaction() as transaction:
            for impression in some:
                try:
                    value = encode(impression)
                except DataError as e:  # the request broke a rule that only records have
                    self._say(f"an answer is not written back: {e}")
                    continue
                transaction.send("impressions", value, key=key_of(impression))
                written += 1
        self._counts["impressions_written"] += written
        self._counts["impressions_dropped"] += len(some) - written
