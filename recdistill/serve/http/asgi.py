"""The few types that the parts of the endpoint share, in ASGI's terms.

A `Handler` takes a request and gives a `Reply`. A `Layer` takes a handler and gives a new one that does more work
around it. So each part can be tested without a server, and layers can be put around each other.

It does not know paths, bodies or answers.

Example:
    >>> import asyncio
    >>> sent = []
    >>> async def send(message): sent.append(message)
    >>> asyncio.run(respond(Reply(200, b"text/plain", b"ok"), {"method": "HEAD"}, send))
    >>> sent[0]["status"], sent[1]["body"]
    (200, b'')
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: Final = b"application/json"
TEXT: Final = b"text/plain"


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    kind: bytes
    body: bytes
    headers: Headers = []  # noqa: RUF012 - never changed


Handler = Callable[[Scope, Receive], Awaitable[Reply]]
Layer = Callable[[Handler], Handler]


async def respond(reply: Reply, scope: Scope, send: Send) -> None:
    """Sends a reply. A HEAD request gets it without the body."""
    headers = [(b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.body})
