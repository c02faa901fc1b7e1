"""From a body to an answer, the same for every protocol: read it, choose the recommender, run it, encode the answer.

A request reads once which recommender serves, and this one makes the whole answer. So a swap never changes half of an
answer. Small requests are answered in the thread of the event loop, because handing them over takes longer. Large ones
(a batch, a large catalogue) go to a pool of threads.

It does not know what a body holds: a protocol gives a function that reads one (see `v1`).

Example:
    >>> answering = Answering(Ranker(), max_body=1024)
    >>> handle = answering.by(lambda recommender, body: Work(1, lambda: recommender.live))
    >>> answering.close()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import msgspec

from recdistill.serve.http.asgi import JSON, Handler, Receive, Reply, Scope
from recdistill.serve.http.body import read
from recdistill.serve.http.problem import Problem
from recdistill.serve.ranker import Ranker
from recdistill.serve.recommender import Recommender

IN_LOOP: Final = 150_000  # requests × items; up to here a body is answered in the thread of the event loop
THREADS: Final = 2  # threads of the pool for larger bodies


class Work(NamedTuple):
    """The work that a body asks for.

    Args:
        size: How many requests it holds.
        run: Answers them. Its result is sent as JSON.
    """

    size: int
    run: Callable[[], Any]


Prepare = Callable[[Recommender, bytes], Work]


def nothing_serves() -> Problem:
    """The refusal while there is no champion."""
    return Problem(503, "there is no champion yet; /readyz says when there is", headers=[(b"retry-after", b"1")])


class Answering:
    """Makes handlers that answer bodies.

    Args:
        ranker: Says which recommender serves.
        max_body: Most bytes of a body.
    """

    def __init__(self, ranker: Ranker, *, max_body: int) -> None:
        self._ranker, self._max_body = ranker, max_body
        self._encode = msgspec.json.Encoder().encode
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="answers")

    def by(self, prepare: Prepare) -> Handler:
        """A handler for bodies that `prepare` reads."""

        async def handle(scope: Scope, receive: Receive) -> Reply:
            body = await read(scope, receive, self._max_body)
            variant = self._ranker.choose()
            if variant is None:
                raise nothing_serves()
            recommender = variant.recommender
            size, run = prepare(recommender, body)
            if size * recommender.bundle.manifest.content.items <= IN_LOOP:
                result = run()
            else:
                result = await asyncio.get_running_loop().run_in_executor(self._pool, run)
            headers = [
                (b"recdistill-bundle", recommender.content_hash.encode()),
                (b"recdistill-version", variant.version.encode()),
            ]
            return Reply(200, JSON, self._encode(result), headers)

        return handle

    def close(self) -> None:
        """Ends the pool."""
        self._pool.shutdown(wait=False, cancel_futures=True)
