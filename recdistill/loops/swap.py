"""Makes the registry's champion the one that serves, and keeps the one before warm.

A new champion is fetched and verified, tried in a process of its own, opened, brought up to the end of `items`,
warmed up and checked against its golden answers. Then one reference is switched. If anything fails, the champion before
goes on serving, the new one is tried again later, and `/readyz`, the metrics and the log say so.

The champion before stays open, and follows `items` too. So a rollback switches one reference, and fetches nothing.

The alias is looked at every few seconds, and at once when somebody says so on the topic `look-now`. While a bundle is
in its trial the alias is still looked at: a rollback does not wait for a trial.

It knows nothing of HTTP, nor of how a student answers.

Example:
    >>> LATER_S
    (5.0, 300.0)
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from recdistill.bundle import Bundle
from recdistill.errors import Interrupted, RecdistillError, RegistryError, StreamError
from recdistill.hops import passed
from recdistill.limits import MAX_TIME_US
from recdistill.loops.follow import Champion
from recdistill.loops.once import Once
from recdistill.loops.one_log import OneLog
from recdistill.registry import PREVIOUS, BundleRef
from recdistill.serve import Ranker, Recommender
from recdistill.stream import LOOK_NOW, Log, Source

log_ = logging.getLogger(__name__)

LATER_S: Final = (5.0, 300.0)  # a champion that failed is tried again after the first, at most the second, doubling
LISTEN_S: Final = 0.5  # longest wait for a message before the stop signal is looked at
AGAIN_S: Final = 5.0  # a log that cannot be listened to is opened again after so long
TROUBLE: Final = "champion"
WARM: Final = "the one before"

Try = Callable[..., None]
"""Tries a bundle before it serves: `try_it(bundle, stop=f)`. It ends early, with `Interrupted`, when `f()` is true."""

Load = Callable[[Bundle], Recommender]


class Items(Protocol):
    """Brings a catalogue up to the end of `items`."""

    def catch_up(self, recommender: Recommender) -> bool:
        """Applies what the recommender has not seen."""
        ...

    def close(self) -> None:
        """Gives back what was opened."""
        ...


@dataclass(frozen=True)
class Opened:
    """A bundle that is open: it serves, or could at once.

    Args:
        recommender: Answers from it.
        number: Its version.
        size: Bytes of its files.
    """

    recommender: Recommender
    number: str
    size: int


class Follower:
    """Makes the registry's champion the one that serves. For one thread.

    Args:
        champion: The registry's champion.
        ranker: What serves.
        items: Brings catalogues up to date. It belongs to this follower.
        load: Makes a bundle ready to serve.
        try_it: Tries a bundle before it is loaded. None: it is not tried.
        warm_bytes: The champion before stays open when its files have at most so many bytes; 0: it does not.
        follow_s: How often the alias is looked at while a bundle is tried.
    """

    def __init__(
        self,
        champion: Champion,
        ranker: Ranker,
        items: Items,
        load: Load,
        *,
        try_it: Try | None = None,
        warm_bytes: int = 0,
        follow_s: float = 2.0,
    ) -> None:
        self._champion, self._ranker, self._items, self._load = champion, ranker, items, load
        self._try, self._warm_bytes, self._follow_s = try_it, warm_bytes, follow_s
        self._failed: dict[str, tuple[float, float]] = {}  # content hash -> when to try again, after how long
        self._tried: set[str] = set()
        self._serving: Opened | None = None
        self._warm: Opened | None = None
        self._looked_for = ""  # with this champion, the one before was looked for in the registry
        self._say, self._say_warm = Once(log_), Once(log_)
        self.wake = threading.Event()
        """Set it and the alias is looked at as soon as it can be."""

    def run(self, done: threading.Event) -> None:
        """Looks at the alias again and again, until `done`; set `wake` then, too."""
        while not done.is_set():
            self.wake.clear()
            self.look(done)
            self.wake.wait(self._follow_s)
        self._items.close()

    def look(self, done: threading.Event | None = None) -> None:
        """Looks at the alias once, and does what follows from it."""
        counts, wanted = self._ranker.counts, ""
        try:
            ref = self._champion.look()
            self._say("" if ref else f"{self._champion.name!r} has no champion yet")
            if ref is None:
                return
            if self._is_serving(ref):
                self._ranker.notes.pop(TROUBLE, None)
                self._keep_warm(done)
                return
            wanted = ref.content_hash
            if time.monotonic() >= self._failed.get(wanted, (0.0, 0.0))[0]:
                self._serve(ref, done)
        except Interrupted as e:
            log_.info("%s", e)
        except RegistryError as e:
            counts["registry_failures"] += 1
            self._say(f"the registry cannot be reached; the current champion keeps serving: {e}")
        except StreamError as e:
            counts["log_failures"] += 1
            self._say(f"the champion {wanted[:12]} waits; its catalogue would be older than the one that serves: {e}")
        except RecdistillError as e:
            self._refuse(wanted, str(e))
        except Exception as e:
            log_.exception("an error that recdistill should have explained")
            self._refuse(wanted, str(e))
        finally:
            self._ranker.looked, self._ranker.warm = time.monotonic(), self._warm is not None

    def _is_serving(self, ref: BundleRef) -> bool:
        serving = self._ranker.champion
        return serving is not None and serving.recommender.content_hash == ref.content_hash

    def _serve(self, ref: BundleRef, done: threading.Event | None) -> None:
        """Makes a version serve: the warm one at once, another one when it is ready."""
        warm, began = self._warm, time.monotonic()
        if warm is not None and warm.recommender.content_hash == ref.content_hash:
            self._renew(warm.recommender)
            opened, how = Opened(warm.recommender, ref.number, warm.size), "it was still open"
            self._ranker.counts["warm_swaps"] += 1
        else:
            opened, how = self._open(ref, ref.content_hash, done), "it was opened now"
        self._ranker.swap(opened.recommender, ref.number)
        bundle = opened.recommender.bundle
        event_us = bundle.manifest.provenance.get("event_us")  # others may have written it
        if isinstance(event_us, int) and 0 < event_us <= MAX_TIME_US:
            passed(self._ranker.counts, "served", event_us)
        self._warm = self._serving if self._serving and self._serving.size <= self._warm_bytes else None
        self._serving = opened
        self._failed.clear()
        self._ranker.notes.pop(TROUBLE, None)
        took_s = time.monotonic() - began
        live = opened.recommender.live
        log_.info("version %s serves after %.2f s, %s: %s, %d items", ref.number, took_s, how, ref.content_hash, live)
        self._champion.took(bundle)

    def _renew(self, recommender: Recommender) -> None:
        """Brings the warm catalogue up to date. Without a log it must be as new as the one that serves."""
        try:
            self._items.catch_up(recommender)
        except StreamError as e:
            if self._serving is not None and recommender.position < self._serving.recommender.position:
                raise
            log_.warning("the log is away, and the catalogue that was kept is as new as the one that serves: %s", e)

    def _open(self, ref: BundleRef, champion: str, done: threading.Event | None) -> Opened:
        """Fetches, tries and loads a version, as long as the champion is the one with this content hash."""
        bundle = self._champion.fetch(ref)
        if self._try is not None and bundle.content_hash not in self._tried:
            self._try(bundle, stop=self._better_things(champion, done))
            self._tried.add(bundle.content_hash)
        return Opened(self._load(bundle), ref.number, bundle.size)

    def _better_things(self, champion: str, done: threading.Event | None) -> Callable[[], bool]:
        """Says whether a trial should end, because another champion than this one is there by now."""
        looked = time.monotonic()

        def other() -> bool:
            nonlocal looked
            if done is not None and done.is_set():
                return True
            if not self.wake.is_set() and time.monotonic() - looked < self._follow_s:
                return False
            self.wake.clear()  # it asks for a look, and here is one
            looked = time.monotonic()
            try:
                ref = self._champion.look()
            except RegistryError:
                return False
            ends = ref is not None and self._serving is not None and ref.content_hash != champion
            if ends:
                self.wake.set()
            return ends

        return other

    def _keep_warm(self, done: threading.Event | None) -> None:
        """Keeps the champion before up to date. If this process never served it, the registry is asked for it."""
        if not self._warm_bytes or self._serving is None:
            return
        serving = self._serving.recommender.content_hash
        try:
            if self._warm is None and self._looked_for != serving:
                ref = self._champion.find(PREVIOUS)
                self._looked_for = serving
                if ref is not None and ref.content_hash != serving:
                    opened = self._open(ref, serving, done)
                    self._warm = opened if opened.size <= self._warm_bytes else None
            if self._warm is not None:
                self._items.catch_up(self._warm.recommender)
            self._say_warm("")
        except Interrupted:
            self._looked_for = ""
        except RecdistillError as e:
            self._say_warm(f"{WARM} is not kept ready for a rollback: {e}")

    def _refuse(self, wanted: str, why: str) -> None:
        wait_s = min(LATER_S[1], 2 * self._failed[wanted][1]) if wanted in self._failed else LATER_S[0]
        self._failed[wanted] = (time.monotonic() + wait_s, wait_s)
        self._ranker.counts["refused_bundles"] += 1
        self._ranker.notes[TROUBLE] = f"the champion {wanted[:12]} is not served: {why}"
        log_.error("the champion %s is not served; it is tried again in %.0f s: %s", wanted[:12], wait_s, why)


class Listener:
    """Wakes a follower when somebody says `look-now`. For one thread.

    Args:
        one: Opens the log.
        wake: Set at each message.
    """

    def __init__(self, one: OneLog, wake: threading.Event) -> None:
        self._one, self._wake = one, wake
        self._log: Log | None = None
        self._source: Source | None = None
        self._say = Once(log_)

    def run(self, done: threading.Event) -> None:
        """Listens until `done`. A log that is away costs only time: the alias is looked at in any case."""
        try:
            while not done.is_set():
                try:
                    heard = self._heard()
                    self._say("")
                except StreamError as e:
                    self._say(
                        f"nobody can be heard who says {LOOK_NOW.topic!r}; the alias is looked at all the same: {e}"
                    )
                    self._close()
                    heard = None
                if heard:
                    self._wake.set()
                elif heard is None:
                    done.wait(AGAIN_S)
        finally:
            self._close()

    def _heard(self) -> bool | None:
        """Whether there was a message; None: there is no topic to listen to yet."""
        if self._source is None:
            self._log = self._one.open()
            if self._log is None or LOOK_NOW.topic not in self._log.topics():
                self._close()
                return None
            source = self._log.source([LOOK_NOW])
            self._source = source
            source.seek({LOOK_NOW: source.bounds(LOOK_NOW)[1]})
            return True  # something may have been said before
        return bool(self._source.read(100, LISTEN_S))

    def _close(self) -> None:
        for part in (self._source, self._log):
            if part is not None:
                part.close()
        self._source = self._log = None
