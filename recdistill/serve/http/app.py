"""Answers over HTTP: an ASGI application for the recommender that serves now.

| path | |
| --- | --- |
| `POST /v1/recommend` | the best k items for a history and a context |
| `POST /v1/rank` | the given candidates, best first |
| `POST /v1/similar` | the items most like one |
| `GET /v1/model` | what serves now, how fresh its catalogue is |
| `GET /livez`, `/readyz` | the process runs; it has a champion and takes requests |
| `GET /metrics`, `/openapi.json`, `/docs` | for Prometheus, programs and people |

The application is a table of routes with layers around it. To add a protocol, write a new file like `v1`, and add its
routes to the table. To add work for every request (such as checking a token), add a layer.

It does not know registries or logs. The code that follows them calls `Ranker.swap`.

Example:
    >>> import asyncio
    >>> app = create_app(Ranker())
    >>> sent = []
    >>> async def ask() -> None:
    ...     async def receive(): return {"type": "http.request", "body": b"", "more_body": False}
    ...     async def send(message): sent.append(message)
    ...     await app({"type": "http", "method": "GET", "path": "/readyz", "headers": []}, receive, send)
    >>> asyncio.run(ask())
    >>> sent[0]["status"]
    503
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from recdistill.serve.explore import Explore
from recdistill.serve.http import about, v1
from recdistill.serve.http.answering import Answering
from recdistill.serve.http.asgi import Handler, Layer, Receive, Reply, Scope, Send, respond
from recdistill.serve.http.layers import counted, explained, fold
from recdistill.serve.http.limits import Limits
from recdistill.serve.http.pages import Pages
from recdistill.serve.http.routes import Table, get
from recdistill.serve.http.writeback import Keep, WriteBack
from recdistill.serve.ranker import Ranker
from recdistill.serve.shadow import Shadow

log_ = logging.getLogger(__name__)


class App:
    """A handler as an ASGI application. `create_app` makes it.

    Args:
        handle: Answers a request; its layers are around it.
        close: Closes what the handlers hold.
        limits: The limits. The server uses them, too.
        large: How many large bodies were answered.
    """

    def __init__(self, handle: Handler, close: Callable[[], None], *, limits: Limits, large: Callable[[], int]) -> None:
        self._handle = handle
        self.close = close
        self.limits = limits
        self.large = large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"this application speaks HTTP, not {scope['type']}")
        try:
            reply = await self._handle(scope, receive)
        except ConnectionError:
            return  # the client went away
        await respond(reply, scope, send)


def create_app(
    ranker: Ranker,
    limits: Limits | None = None,
    *,
    write_back: float = 0.0,
    keep: Keep | None = None,
    explore: Explore | None = None,
    shadow: float = 0.0,
) -> App:
    """The application, for any ASGI server. `server.serve` runs it in uvicorn.

    Args:
        ranker: Says which recommender serves.
        limits: How much one request may ask for.
        write_back: Share of the answers that is kept.
        keep: Takes an answer as an impression, without waiting, and returns whether it did. None: nothing is kept.
        explore: How answers that are kept are changed. None: they are not changed.
        shadow: For this share of the champion's requests, a canary is asked, too. Its answers are only compared.
    """
    # Imported here, because the command line uses the forms but needs no prometheus_client.
    from recdistill.serve.http.metrics import CONTENT_TYPE, Metrics

    limits = limits or Limits()
    answering = Answering(ranker, limits)
    beside = Shadow(shadow, ranker.counts)
    metrics = Metrics(ranker.counts, lambda: ranker.gauges() | {"waiting_bodies": float(answering.waiting)})

    def count(name: str, requests: int, why: str) -> None:
        before = ranker.counts[name]
        now = ranker.counts[name] = before + requests
        # When 1, 2, 4, 8 … is reached: a canary that always fails must not fill the log.
        if why and now.bit_length() > before.bit_length():
            log_.error("a canary has failed on %d requests, and the champion answered them; the last: %s", now, why)

    table = Table(
        [
            *v1.routes(answering, limits, metrics.answered, WriteBack(write_back, keep, explore), count, beside),
            *about.routes(ranker, limits),
            get("/metrics", lambda: Reply(200, CONTENT_TYPE, metrics.text())),
        ]
    )
    layers: list[Layer] = [explained, Pages(limits.origins), counted(metrics.observe, table.paths)]

    def close() -> None:
        beside.close()
        answering.close()

    return App(fold(table, layers), close, limits=limits, large=answering.large)
