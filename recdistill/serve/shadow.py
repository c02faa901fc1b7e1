"""Sends some requests of the champion to the canary, too, in the background, and only compares the answers.

After the champion's answer, a share of the requests goes into a short queue. One thread asks the canary. A request that
does not fit into the queue is dropped, so no client ever waits for this. After each request, the thread pauses for as
long as the request took (at most a second). So it usually takes at most half of the time of one processor.

It does not know HTTP, logs or registries.

Example:
    >>> counts = Counter()
    >>> shadow = Shadow(1.0, counts)
    >>> shadow.close(); counts["shadow_asked"]
    0
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from recdistill.serve.answers import RecommendAnswer
from recdistill.serve.recommender import Recommender
from recdistill.serve.requests import Filters, Request

log_ = logging.getLogger(__name__)

WAITING: Final = 64
END_S: Final = 5.0


class _Asked(NamedTuple):
    recommender: Recommender
    request: Request
    filters: Filters | None
    items: Sequence[str]


class Shadow:
    """Asks and compares.

    Args:
        share: Share of the requests.
        counts: Counts to add to: shadow_asked, shadow_failed, shadow_items (of the champion's answers) and shadow_same
            (those of them that are in the canary's answer too).
    """

    def __init__(self, share: float, counts: Counter[str]) -> None:
        self._share, self._counts = share, counts
        self._queue: queue.Queue[_Asked | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        if share:
            self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
            self._thread.start()

    def offer(
        self, recommender: Recommender, request: Request, filters: Filters | None, answer: RecommendAnswer
    ) -> None:
        """Puts a request into the queue for the canary, for a share of the requests. It never waits.

        Args:
            recommender: The canary.
            request: What the champion was asked.
            filters: Its filters.
            answer: The champion's answer.
        """
        if self._thread is None or not answer.items or random.random() >= self._share:
            return
        try:
            self._queue.put_nowait(_Asked(recommender, request, filters, answer.items))
        except queue.Full:
            self._counts["shadow_dropped"] += 1

    def close(self) -> None:
        """Ends the thread. One that hangs in a canary that never answers ends with the process."""
        if self._thread is None:
            return
        self._share = 0.0
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=END_S)
            self._thread.join(END_S)

    def _run(self) -> None:
        while (asked := self._queue.get()) is not None:
            began = time.monotonic()
            try:
                [answer] = asked.recommender.recommend([asked.request], len(asked.items), asked.filters)
                self._counts["shadow_items"] += len(asked.items)
                self._counts["shadow_same"] += len(set(asked.items) & set(answer.items))
            except Exception as e:
                log_.debug("the canary fails", exc_info=True)
                self._failed(e)
            self._counts["shadow_asked"] += 1
            del asked  # otherwise a canary that has ended would stay in memory until the next one is asked
            time.sleep(min(1.0, time.monotonic() - began))

    def _failed(self, error: Exception) -> None:
        self._counts["shadow_failed"] += 1
        failed = self._counts["shadow_failed"]
        if failed & (failed - 1) == 0:  # at 1, 2, 4, 8 …
            log_.warning("the canary has failed on %d requests that nobody waits for; the last: %s", failed, error)
