"""Reads the body of a request. It limits the size and the time, and checks that the body is sent as plain JSON.

It does not know what is in the body.

Example:
    >>> import asyncio
    >>> async def receive(): return {"type": "http.request", "body": b"{}", "more_body": False}
    >>> asyncio.run(read({"headers": []}, receive, 1024))
    b'{}'
"""

from __future__ import annotations

import asyncio
from typing import Final

from recdistill.serve.http.asgi import JSON, Message, Receive, Scope
from recdistill.serve.http.problem import Problem

BODY_S: Final = 10.0  # longest time in which a body may arrive
DRAIN: Final = 8  # a body that is too large is read up to 8 times the limit, so that its sender can see the answer


async def read(scope: Scope, receive: Receive, most: int) -> bytes:
    """The body of a request.

    Args:
        scope: The request.
        receive: Where its body comes from.
        most: Most bytes that it may have.

    Raises:
        Problem: 413 when it is too large, 415 when it is not plain JSON, 408 when it does not arrive.
        ConnectionError: The client went away.
    """
    declared = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            declared = int(value) if value.isdigit() and len(value) < 19 else 0
        elif name == b"content-type":
            _check_kind(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise Problem(415, f"send the body as it is, not with content-encoding {value.decode('latin-1')}")
    if declared > DRAIN * most:
        raise _too_large(most)
    message = await _next(receive)
    if not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > most:
            raise _too_large(most)
        return body
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                part = message.get("body", b"")
                size += len(part)
                if size <= most:
                    parts.append(part)
                elif size > DRAIN * most:
                    raise _too_large(most)
                if not message.get("more_body"):
                    break
                message = await _next(receive)
    except TimeoutError:
        raise Problem(
            408, f"the body did not arrive within {BODY_S:g} s", headers=[(b"connection", b"close")]
        ) from None
    if size > most:
        raise _too_large(most)
    return b"".join(parts)


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
    charset = rest.partition(b"charset=")[2].strip(b' "')
    if charset not in (b"", b"utf-8", b"utf8", b"us-ascii"):
        raise Problem(415, f"send JSON as UTF-8, not {charset.decode('latin-1')}")


def _too_large(most: int) -> Problem:
    return Problem(
        413, f"a body has at most {most:,} bytes; send fewer requests in it", headers=[(b"connection", b"close")]
    )
