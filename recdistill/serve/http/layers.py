"""What is done around every request, whatever it asks: one layer each, folded one around the other.

A layer that checks a token, or one that limits how many requests run at once, is a function of the same shape.

It does not know paths, bodies or what is answered.

Example:
    >>> import asyncio
    >>> def stamped(handle):
    ...     async def around(scope, receive):
    ...         return (await handle(scope, receive))._replace(status=201)
    ...     return around
    >>> async def ok(_scope, _receive): return Reply(200, b"text/plain", b"ok")
    >>> asyncio.run(fold(ok, [stamped])({}, None)).status
    201
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Collection, Sequence

from recdistill.serve.http.asgi import Handler, Layer, Receive, Reply, Scope
from recdistill.serve.http.problem import Problem

log_ = logging.getLogger(__name__)

OTHER = "other"  # where a request is counted whose path is none of ours


def fold(handle: Handler, layers: Sequence[Layer]) -> Handler:
    """The handler with layers around it, the first one innermost."""
    return functools.reduce(lambda inner, layer: layer(inner), layers, handle)


def explained(handle: Handler) -> Handler:
    """Turns what a handler raises into a reply. The end of a connection is passed on: nobody is there to be told."""

    async def around(scope: Scope, receive: Receive) -> Reply:
        try:
            return await handle(scope, receive)
        except Problem as problem:
            return problem.reply()
        except ConnectionError:
            raise
        except Exception:
            log_.exception("%s: an error that recdistill should have explained", scope["path"][:100])
            return Problem(500, "the server failed on this request; its log says how").reply()

    return around


def counted(observe: Callable[[str, int, float], None], paths: Collection[str]) -> Layer:
    """Tells path, status and seconds of each request to `observe`.

    Args:
        observe: As `Metrics.observe`.
        paths: The paths that are told by name; all else is `OTHER`, so that a stranger cannot make new series.
    """
    known = frozenset(paths)

    def layer(handle: Handler) -> Handler:
        async def around(scope: Scope, receive: Receive) -> Reply:
            began = time.perf_counter()
            reply = await handle(scope, receive)
            path = scope["path"]
            observe(path if path in known else OTHER, reply.status, time.perf_counter() - began)
            return reply

        return around

    return layer
