"""The champion -> answers over HTTP: follows the registry's alias and the catalogue, and serves what it has.

The server has the calling thread. More threads work beside it:

- *champion* looks at the alias, and makes the champion serve; see `loops.swap`. *looks* listens to `look-now`, and
  wakes it. *canary* makes the registry's canary answer a share of the users, where there is one; see `loops.side`.
- *items* reads `items` live and applies it to the serving recommender.
- *writer*, only with `rank.write_back`, writes a share of the answers to `impressions`. It never delays an answer: what
  does not fit into its queue is dropped and counted.

When the log or the registry is away, what serves goes on serving. A first champion then serves its own catalogue. But
no champion is replaced by another whose catalogue would be older.

A log or a topic that was removed or replaced under the process, and a thread that ends, do not heal. What serves
goes on serving here too, but `/readyz` says 503 with the reason, a line in the log says it, and it is counted.

It knows nothing of what an HTTP request looks like, nor of how a student answers.

Example:
    >>> WARM
    20
"""

from __future__ import annotations

import gc
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal

from recdistill.bundle import Bundle, open_bundle
from recdistill.errors import DecodeError, StreamError, WrongLog
from recdistill.loops.follow import Champion, OtherLog, catch_up
from recdistill.loops.once import Once
from recdistill.loops.one_log import OneLog
from recdistill.loops.side import Side
from recdistill.loops.swap import Follower, Listener, Try
from recdistill.loops.writer import Writer
from recdistill.serve import Ranker, Recommender, Request
from recdistill.serve.http import App, Keep, serve
from recdistill.stream import ITEMS, Log, Message, Source

log_ = logging.getLogger(__name__)

WARM: Final = 20  # golden requests asked before a bundle serves
END_S: Final = 10.0  # longest wait for each thread at the end


def run(
    champion: Champion | Path,
    *,
    listen: Callable[[], socket.socket],
    app: Callable[[Ranker, Keep | None], App],
    read_log: Callable[[], Log | None],
    write_back: bool = False,
    threads: int = 1,
    follow_s: float = 2.0,
    items_s: float = 0.5,
    items_from: Literal["", "beginning", "latest"] = "",
    try_it: Try | None = None,
    warm_bytes: int = 0,
    share: float = 0.0,
    stop: threading.Event,
    counts: Counter[str] | None = None,
    started: Callable[[str, int], None] | None = None,
) -> Counter[str]:
    """Serves until stopped; requests in flight are finished.

    Args:
        champion: The registry's, which is followed; or the folder of a bundle, which alone serves.
        listen: Opens the socket.
        app: Makes the application: of what serves, and of what takes an answer to be written back, if anything does.
        read_log: Opens the log that `items` is read from; None: there is none yet.
        write_back: Whether answers are written to `impressions`.
        threads: Threads of one inference.
        follow_s: How often the champion is looked at.
        items_s: How often new catalogue records are taken in.
        items_from: What is done with a bundle that was made on another log, see `OtherLog`.
        try_it: Tries a bundle before it serves. None: it is not tried.
        warm_bytes: The champion before stays open when its files have at most so many bytes.
        share: Share of the users whom the registry's canary answers; 0: no canary is looked for.
        stop: The stop signal.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        started: Told host and port once connections are accepted.

    Returns:
        Counts: swaps, warm_swaps, refused_bundles, registry_failures, log_failures, items, bad_items,
        impressions_written, impressions_dropped, ended_threads, and those of `serve.http.gate` and `guard`.

    Raises:
        BundleError: The folder's bundle cannot be served.
        ConfigError: The address cannot be had.
    """
    ranker = Ranker(counts, share)
    done = threading.Event()
    one, other = OneLog(read_log), OtherLog(items_from)
    with ExitStack() as stack:
        if isinstance(champion, Path):
            items = _Items(one, ranker, done, other)
            stack.callback(items.close)
            bundle = open_bundle(champion)
            if try_it is not None:
                try_it(bundle, stop=stop.is_set)
            ranker.swap(load(bundle, threads, items, ranker))
        listener = listen()
        stack.callback(listener.close)
        host, port = listener.getsockname()[:2]
        jobs = [("items", lambda: _follow_items(_Items(one, ranker, done, other), items_s, ranker, done))]
        wake = threading.Event()
        if isinstance(champion, Champion):
            mine = _Items(one, ranker, done, other)
            follower = Follower(
                champion,
                ranker,
                mine,
                lambda bundle: load(bundle, threads, mine, ranker),
                try_it=try_it,
                warm_bytes=warm_bytes,
                follow_s=follow_s,
            )
            wake = follower.wake
            jobs.append(("champion", lambda: follower.run(done)))
            if share:
                theirs = _Items(one, ranker, done, other)
                side = Side(
                    champion,
                    ranker,
                    theirs,
                    lambda bundle: load(bundle, threads, theirs, ranker),
                    try_it=try_it,
                    follow_s=follow_s,
                )
                jobs.append(("canary", lambda: side.run(done)))
            jobs.append(("looks", lambda: Listener(one, wake).run(done)))
        keep: Keep | None = None
        if write_back:
            writer = Writer(one, f"rank-{socket.gethostname()}-{port}", ranker)
            jobs.append(("writer", lambda: writer.run(done)))
            keep = writer.keep
        running = [
            threading.Thread(target=_guarded, args=(work, name, ranker, done), name=name, daemon=True)
            for name, work in jobs
        ]
        for thread in running:
            thread.start()
        application = app(ranker, keep)
        log_.info("serving at http://%s:%d", host, port)
        if started is not None:
            started(host, port)
        try:
            serve(application, ranker, listener, stop)
        finally:
            done.set()
            wake.set()
            for thread in running:
                thread.join(END_S)
    return ranker.counts


def load(bundle: Bundle, threads: int, items: _Items, ranker: Ranker) -> Recommender:
    """Makes a verified bundle ready to serve: up to date, warm, and seen to answer as it should.

    Raises:
        BundleError: It answers otherwise than at its export.
        StreamError: The log is away, and something serves whose catalogue is newer.
    """
    recommender = Recommender(bundle, threads=threads)
    try:
        items.catch_up(recommender)
    except StreamError as e:
        if ranker.champion is not None:
            raise
        log_.warning("%s serves its own catalogue until the log is back: %s", bundle.path.name, e)
        ranker.counts["log_failures"] += 1
    for golden in recommender.bundle.golden[:WARM]:
        recommender.recommend([Request(tuple(golden.history), golden.context, (), golden.time_us)], 10)
    recommender.check_golden()
    if ranker.champion is not None:
        items.catch_up(recommender)  # what serves has read on: an item that it knows to be withdrawn must not come back
    # The bundle's objects live as long as it serves. Without this the collector walks them again and again, which took
    # a fifth of the time of an answer.
    gc.freeze()
    return recommender


def _guarded(work: Callable[[], None], name: str, ranker: Ranker, done: threading.Event) -> None:
    """The work of a thread. When it ends before the process does, this is said and counted, and `/readyz` says it."""
    try:
        work()
    except Exception:
        log_.exception("an error that recdistill should have explained")
    if not done.is_set():
        ranker.counts["ended_threads"] += 1
        ranker.troubles[f"thread {name}"] = f"the thread {name!r} of this process has ended; restart the process"
        log_.error("the thread %r has ended; what serves goes on serving, but restart the process", name)


# The catalogue


class _Items:
    """Brings a recommender's catalogue up to the end of `items`. For one thread.

    Args:
        one: Opens the log.
        ranker: Whose counts are added to.
        done: Set when there is no more use for it.
        other: What is done with a bundle of another log.
    """

    def __init__(self, one: OneLog, ranker: Ranker, done: threading.Event, other: OtherLog) -> None:
        self._one, self._ranker, self._done, self._other = one, ranker, done, other
        self._log: Log | None = None
        self._source: Source | None = None
        self._say = Once(log_)

    def catch_up(self, recommender: Recommender) -> bool:
        """Applies what the recommender has not seen; False when there is no `items` to read.

        Raises:
            StreamError: The log cannot be read.
        """
        try:
            source = self._source or self._open()
            if source is None:
                return False
            self._other.settle(source, recommender)
            catch_up(source, recommender, self._passed_over, applied=self._applied, stop=self._done)
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
        self._log = self._one.open()
        if self._log is None:
            self._say("there is no log yet: the catalogue is the bundle's")
            return None
        self._source = self._one.topic(self._log, ITEMS.topic)
        if self._source is None:
            self._say("the log has no topic 'items': the catalogue is the bundle's")
            self.close()
            return None
        self._say("")
        return self._source

    def _passed_over(self, message: Message, error: DecodeError) -> None:
        log_.warning("item at %d is passed over: %s", message.offset, error)
        self._ranker.counts["bad_items"] += 1

    def _applied(self, records: int, taken: dict[str, int]) -> None:
        self._ranker.counts["items"] += records
        self._ranker.counts["bad_items"] += taken["refused"]


def _follow_items(items: _Items, items_s: float, ranker: Ranker, done: threading.Event) -> None:
    say = Once(log_)
    try:
        while not done.wait(items_s):
            variants = ranker.variants
            if not variants:
                continue
            began = time.monotonic()
            try:
                if all(list(map(items.catch_up, [variant.recommender for variant in variants]))):
                    ranker.caught_up = began
                ranker.troubles.pop("catalogue", None)
                say("")
            except StreamError as e:
                ranker.counts["log_failures"] += 1
                if isinstance(e, WrongLog):
                    ranker.troubles["catalogue"] = f"the catalogue stands still: {e}"
                say(f"the catalogue stands still: {e}")
    finally:
        items.close()
