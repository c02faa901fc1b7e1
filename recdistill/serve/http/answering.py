"""From a body to an answer, the same for every protocol: read it, choose the recommender, run it, encode the answer.

A request reads once which recommender serves, and this one makes the whole answer. So a swap never changes half of an
answer. Small requests are answered in the thread of the event loop, because handing them over takes longer. Large ones
(a large body, a batch, a large catalogue, a filter on an attribute that was never used) go to other threads.

It does not know what a body holds: a protocol gives a function that reads one (see `v1`).

Example:
    >>> answering = Answering(Ranker(), Limits())
    >>> handle = answering.by(lambda recommender, body: Work(1, 10, lambda: recommender.live))
    >>> answering.close()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from recdistill.serve.http.asgi import JSON, Handler, Receive, Reply, Scope
from recdistill.serve.http.body import Bodies
from recdistill.serve.http.lanes import Lanes
from recdistill.serve.http.limits import Limits
from recdistill.serve.http.problem import Problem
from recdistill.serve.ranker import Ranker
from recdistill.serve.recommender import Recommender

IN_LOOP: Final = 150_000  # items to score; up to here a body is answered in the thread of the event loop
SMALL_BODY: Final = 16_384  # bytes; only up to here a body is read in that thread
LIGHT: Final = 20_000_000  # items to score; up to here one request in a body of its own is light


class Work(NamedTuple):
    """The work that a body asks for.

    Args:
        requests: How many requests it holds.
        effort: About how much work that is, in items to score.
        run: Answers them. Its result is sent as JSON.
    """

    requests: int
    effort: int
    run: Callable[[], Any]


Prepare = Callable[[Recommender, bytes], Work]


def nothing_serves() -> Problem:
    """The refusal while there is no champion."""
    return Problem(503, "there is no champion yet; /readyz says when there is", headers=[(b"retry-after", b"1")])


class Answering:
    """Makes handlers that answer bodies.

    Args:
        ranker: Says which recommender serves.
        limits: How large a body may be, and how much may wait.
    """

    def __init__(self, ranker: Ranker, limits: Limits) -> None:
        self._ranker = ranker
        together = max(limits.max_body, limits.max_bodies_mb << 20)
        self._bodies = Bodies(most=limits.max_body, seconds=limits.body_s, together=together)
        self._lanes = Lanes(queue=limits.queue, queue_s=limits.queue_s)
        self._encode = msgspec.json.Encoder().encode

    def by(self, prepare: Prepare) -> Handler:
        """A handler for bodies that `prepare` reads."""

        async def handle(scope: Scope, receive: Receive) -> Reply:
            body = await self._bodies.read(scope, receive)
            variant = self._ranker.choose()
            if variant is None:
                raise nothing_serves()
            recommender = variant.recommender
            if len(body) > SMALL_BODY:
                answer = await self._lanes.run(lambda: self._in_parts(prepare, recommender, body), light=False)
            else:
                requests, effort, run = prepare(recommender, body)
                if effort <= IN_LOOP:
                    answer = self._encode(run())
                else:
                    light = requests == 1 and effort <= LIGHT
                    answer = await self._lanes.run(lambda: self._encode(run()), light=light)
            headers = [
                (b"recdistill-bundle", recommender.content_hash.encode()),
                (b"recdistill-version", variant.version.encode()),
            ]
            return Reply(200, JSON, answer, headers)

        return handle

    def _in_parts(self, prepare: Prepare, recommender: Recommender, body: bytes) -> bytes:
        """The answer to a large body."""
        work = prepare(recommender, body)
        self.give_way()
        answer = work.run()
        self.give_way()
        return self._encode(answer)

    def give_way(self) -> None:
        """Lets small requests go first. A protocol calls it before each answer of a body."""
        self._lanes.give_way()

    @property
    def waiting(self) -> int:
        """How many bodies wait for their turn."""
        return self._lanes.waiting

    def large(self) -> int:
        """How many large bodies were answered."""
        return self._lanes.heavy

    def close(self) -> None:
        """Ends the threads."""
        self._lanes.close()
