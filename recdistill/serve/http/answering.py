"""Turns a body into an answer, for every protocol: reads it, chooses the recommender, runs it, encodes the answer.

A request looks only once which recommenders serve, and one of them makes the whole answer. So a swap never changes half
of an answer. Small requests are answered in the thread of the event loop, because another thread would take longer.
Large ones go to other threads: a large body, a batch, a large catalogue, a filter on an attribute for the first time.

It does not know what a body holds: a protocol gives a function that reads one (see `v1`).

Example:
    >>> answering = Answering(Ranker(), Limits())
    >>> handle = answering.by(lambda sides, body: Work(1, 10, lambda: sides.share, [sides.champion]))
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
from recdistill.serve.ranker import Ranker, Sides, Variant

IN_LOOP: Final = 150_000  # items to score; with at most so many, a body is answered in the thread of the event loop
SMALL_BODY: Final = 16_384  # bytes; a body of at most this size is parsed in that thread
LIGHT: Final = 20_000_000  # items to score; a body with one request and at most so many is light work


class Work(NamedTuple):
    """The work that a body asks for.

    Args:
        requests: How many requests it holds.
        effort: About how much work it is, in items to score.
        run: Answers the requests. Its result is sent as JSON.
        used: Which variants answered. It is right when `run` has ended.
    """

    requests: int
    effort: int
    run: Callable[[], Any]
    used: list[Variant]


Prepare = Callable[[Sides, bytes], Work]


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
            sides = self._ranker.sides()
            if sides is None:
                raise nothing_serves()
            if len(body) > SMALL_BODY:
                answer, used = await self._lanes.run(lambda: self._in_parts(prepare, sides, body), light=False)
            else:
                work = prepare(sides, body)
                used = work.used
                if work.effort <= IN_LOOP:
                    answer = self._encode(work.run())
                else:
                    light = work.requests == 1 and work.effort <= LIGHT
                    answer = await self._lanes.run(lambda: self._encode(work.run()), light=light)
            return Reply(200, JSON, answer, _who(used))

        return handle

    def _in_parts(self, prepare: Prepare, sides: Sides, body: bytes) -> tuple[bytes, list[Variant]]:
        """The answer to a large body, and who gave it."""
        work = prepare(sides, body)
        self.give_way()
        answer = work.run()
        self.give_way()
        return self._encode(answer), work.used

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


def _who(used: list[Variant]) -> list[tuple[bytes, bytes]]:
    """The headers that say which variants answered. A batch may have both; each answer names its own bundle."""
    each = list(dict.fromkeys(used))
    said = {
        b"recdistill-bundle": [one.recommender.content_hash for one in each],
        b"recdistill-version": [one.version for one in each],
        b"recdistill-side": [one.role for one in each],
    }
    return [(name, ", ".join(values).encode()) for name, values in said.items()]
