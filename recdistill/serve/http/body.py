"""Reads the body of a request. It limits the size and the time, and checks that the body is sent as plain JSON.

If a body is too large, reading goes on up to twice the limit, so that its sender can see the answer. The part above the
limit is not kept. All bodies that are arriving in parts share one limit. So many slow senders cannot fill the memory.

It does not know what is in the body.

Example:
    >>> import asyncio
    >>> async def receive(): return {"type": "http.request", "body": b"{}", "more_body": False}
    >>> scope = {"headers": [(b"content-type", b"application/json")]}
    >>> asyncio.run(Bodies(most=1024, seconds=10.0, together=1 << 20).read(scope, receive))
    b'{}'
    >>> asyncio.run(Bodies(most=1, seconds=10.0, together=1 << 20).read(scope, receive))
    Traceback (most recent call last):
    recdistill.serve.http.problem.Problem: a body has at most 1 bytes; send fewer requests in it
"""

from __future__ import annotations

import asyncio
from typing import Final

from recdistill.serve.http.asgi import JSON, Message, Receive, Scope
from recdistill.serve.http.problem import Problem

DRAIN: Final = 2  # a body that is too large is read up to twice the limit; then its connection is closed
CLOSE: Final = (b"connection", b"close")


class Bodies:
    """The bodies of an endpoint. Only the thread of its event loop uses it.

    Args:
        most: How many bytes one body may have.
        seconds: How long one body may take to arrive.
        together: How many bytes all bodies that are arriving may have together.
    """

    def __init__(self, *, most: int, seconds: float, together: int) -> None:
        self._most, self._seconds, self._together = most, seconds, together
        self._held = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The body of a request.

        Args:
            scope: The request.
            receive: Where its body comes from.

        Raises:
            Problem: 413 when it is too large, 415 when it is not plain JSON, 408 when it does not arrive in time, 503
                when too much is arriving.
            ConnectionError: The client has closed the connection.
        """
        if _declared(scope) > DRAIN * self._most:
            raise self._too_large()
        message = await _next(receive)
        if message.get("more_body"):
            return await self._parts(message, receive)
        body: bytes = message.get("body", b"")
        if len(body) > self._most:
            raise self._too_large()
        return body

    async def _parts(self, message: Message, receive: Receive) -> bytes:
        """A body that comes in parts. `message` is the first."""
        parts, size, held = [], 0, 0
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    part = message.get("body", b"")
                    size += len(part)
                    if size <= self._most:
                        parts.append(part)
                        held += len(part)
                        self._held += len(part)
                        if self._held > self._together:
                            raise Problem(
                                503,
                                "too many bodies are arriving at once; ask again later",
                                headers=[(b"retry-after", b"1"), CLOSE],
                            )
                    elif size > DRAIN * self._most:
                        raise self._too_large()
                    if not message.get("more_body"):
                        break
                    message = await _next(receive)
        except TimeoutError:
            raise Problem(408, f"the body did not arrive within {self._seconds:g} s", headers=[CLOSE]) from None
        finally:
            self._held -= held
        if size > self._most:
            raise self._too_large()
        return b"".join(parts)

    def _too_large(self) -> Problem:
        detail = f"a body has at most {self._most:,} bytes; send fewer requests in it"
        return Problem(413, detail, headers=[CLOSE])


def _declared(scope: Scope) -> int:
    """The size that the head gives; 0: it gives none. The other head lines about the body are checked, too."""
    declared, kind = 0, False
    for name, value in scope["headers"]:
        if name == b"content-length":
            declared = int(value) if value.isdigit() and len(value) < 19 else 0
        elif name == b"content-type":
            _check_kind(value)
            kind = True
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise Problem(415, f"send the body as it is, not with content-encoding {value.decode('latin-1')}")
    if not kind:  # a browser sends such a body for any web page, without asking this endpoint first
        raise Problem(415, "say what the body is: content-type: application/json")
    return declared


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ConnectionResetError
    return message


def _check_kind(value: bytes) -> None:
    kind, _, rest = value.lower().partition(b";")
    kind = kind.strip()
    if kind != JSON and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise Problem(415, f"send application/json, not {value.decode('latin-1')}")
    charset = rest.partition(b"charset=")[2].partition(b";")[0].strip(b' "')
    if charset not in (b"", b"utf-8", b"utf8", b"us-ascii"):
        raise Problem(415, f"send JSON as UTF-8, not {charset.decode('latin-1')}")
