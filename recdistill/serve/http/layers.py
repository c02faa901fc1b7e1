"""The work that is done around every request. Each part of it is a layer, and each layer is around the one before.

New layers have the same form: for example one that checks a token, or one that limits how many requests run at once.

It does not know paths, bodies or answers.

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

OTHER = "other"  # requests to unknown paths are counted under this name


def fold(handle: Handler, layers: Sequence[Layer]) -> Handler:
    """The handler with layers around it. The first layer is the innermost."""
    return functools.reduce(lambda inner, layer: layer(inner), layers, handle)


def explained(handle: Handler) -> Handler:
    """Turns an error of a handler into a reply. If the connection has ended, the error is raised again instead."""

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
    """Gives path, status and seconds of each request to `observe`.

    Args:
        observe: A function like `Metrics.observe`.
        paths: The paths that are counted by name. Every other path is `OTHER`, so a client cannot make new series.
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
