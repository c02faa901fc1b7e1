"""Threads for work that takes too long for the thread of the event loop, and queues of limited length.

There are two lanes. Light work is one request. Heavy work is a batch or a large body. One thread takes only light work,
so a light request never waits until heavy ones are done. When a lane is full, more work is refused at once (429), with
the time after which the client should ask again. Work that has waited too long is refused, too: its client has gone, or
will go soon.

A working thread takes Python's interpreter lock from the thread of the event loop again and again, and all requests
become slower. So heavy work is done in parts. Between two parts, the event loop first does what waits there.

It does not know what the work is.

Example:
    >>> lanes = Lanes(queue=2, queue_s=5.0)
    >>> asyncio.run(lanes.run(lambda: 6 * 7, light=True))
    42
    >>> lanes.close()
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from recdistill.serve.http.problem import Problem

T = TypeVar("T")

HEAVY_THREADS: Final = max(1, min(4, (os.cpu_count() or 1) - 1))
LIGHT_MORE: Final = 8  # so many times more light work than heavy work may wait, because light work takes little time
LONGEST_S: Final = 60  # a client is told to wait at most so long before it asks again
WAY_S: Final = 1.0  # heavy work waits at most so long for the event loop, which may have ended
_MEMORY: Final = 0.9  # weight of the old mean in the moving mean of the seconds that heavy work takes


class _Job(NamedTuple):
    """Work that waits, the event loop that waits for it, and where its result goes."""

    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]


class Lanes:
    """The threads and their two queues.

    Args:
        queue: How much heavy work may wait.
        queue_s: How long work may wait.
    """

    def __init__(self, *, queue: int, queue_s: float) -> None:
        self._most, self._queue_s = queue, queue_s
        self._light: deque[_Job] = deque()
        self._heavy: deque[_Job] = deque()
        self._work = threading.Condition()
        self._here = threading.local()  # `loop`: the event loop for which this thread does heavy work
        self._closed = False
        self.heavy = 0
        """How much heavy work was done."""
        self._seconds = 0.05  # about how long heavy work takes
        for number in range(1 + HEAVY_THREADS):
            heavy = number > 0
            threading.Thread(target=self._serve, args=(heavy,), name=f"answers-{number}", daemon=True).start()

    async def run(self, work: Callable[[], T], *, light: bool) -> T:
        """Gives work to a thread, and returns its result.

        Raises:
            Problem: 429 when too much waits already, 503 when the work waited too long or the process ends.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, loop.create_future())
        with self._work:
            lane, most = (self._light, LIGHT_MORE * self._most) if light else (self._heavy, self._most)
            if self._closed:
                raise Problem(503, "the process is stopping")
            if len(lane) >= most:
                raise Problem(429, "too many requests wait already; ask again later", headers=self._later())
            lane.append(job)
            self._work.notify_all()
        timer = loop.call_later(self._queue_s, self._give_up, lane, job)
        try:
            result: T = await job.done
        finally:
            timer.cancel()
        return result

    def give_way(self) -> None:
        """Waits until the event loop has done what waits there. Heavy work calls it between its parts.

        In other threads, and in light work, it does nothing.
        """
        loop = getattr(self._here, "loop", None)
        if loop is None:
            return
        turned = threading.Event()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            # In one turn, the loop reads what has come. In the next turn, it answers it.
            loop.call_soon_threadsafe(loop.call_soon, turned.set)
            turned.wait(WAY_S)

    @property
    def waiting(self) -> int:
        """How much work waits."""
        return len(self._light) + len(self._heavy)

    def close(self) -> None:
        """Ends the threads. Work that still waits is refused."""
        with self._work:
            self._closed = True
            left = [*self._light, *self._heavy]
            self._light.clear()
            self._heavy.clear()
            self._work.notify_all()
        for job in left:
            _settle(job, Problem(503, "the process is stopping"))

    def _later(self) -> list[tuple[bytes, bytes]]:
        seconds = math.ceil((1 + len(self._heavy)) * self._seconds / HEAVY_THREADS)
        return [(b"retry-after", b"%d" % max(1, min(LONGEST_S, seconds)))]

    def _give_up(self, lane: deque[_Job], job: _Job) -> None:
        """Refuses work that still waits. The server has too much to do, so the status is 503."""
        with self._work:
            if job not in lane:
                return  # a thread has it
            lane.remove(job)
            later = self._later()
        _settle(job, Problem(503, "this request waited too long for its turn; ask again later", headers=later))

    def _serve(self, heavy: bool) -> None:
        """The work of one thread."""
        while True:
            with self._work:
                while not self._closed and not self._light and not (heavy and self._heavy):
                    self._work.wait()
                if self._closed:
                    return
                lane = self._light or self._heavy
                job = lane.popleft()
            if lane is self._light:
                _do(job)
            else:
                began, self._here.loop = time.monotonic(), job.loop
                _do(job)
                self._here.loop = None
                self.heavy += 1
                self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * (time.monotonic() - began)
            del job  # otherwise a waiting thread would keep the last body and its answer in memory


def _do(job: _Job) -> None:
    try:
        result = job.work()
    except BaseException as e:  # noqa: BLE001 - it is raised again where the result is awaited
        _settle(job, e)
    else:
        _settle(job, None, result)


def _settle(job: _Job, error: BaseException | None, result: Any = None) -> None:
    def settle() -> None:
        if job.done.done():
            return
        if error is not None:
            job.done.set_exception(error)
        else:
            job.done.set_result(result)

    with contextlib.suppress(RuntimeError):  # the loop has ended, so nobody waits
        job.loop.call_soon_threadsafe(settle)
