"""Decides which web pages may call the endpoint. A browser names the page's origin in the head line `origin`.

A page of another origin is refused (403). Otherwise any page that a person opens could send requests from that person's
browser, and with `rank.write_back` these requests would become training data. `rank.origins` names the pages that may
call. They get the head lines that a browser asks for (CORS). The endpoint's own page (`/docs`) may always call, but
only under a name that nobody else can give to this address: a number, `localhost`, or a name in `rank.origins`.

A program that is not a browser sends no `origin`, and this module lets its requests pass.

It does not know what a request asks.

Example:
    >>> pages = Pages(["https://shop.example"])
    >>> pages.allows(b"https://shop.example", b"rank:8080"), pages.allows(b"https://other.example", b"rank:8080")
    (True, False)
    >>> pages.allows(b"http://127.0.0.1:8080", b"127.0.0.1:8080")
    True
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final

from recdistill.serve.http.asgi import TEXT, Handler, Receive, Reply, Scope
from recdistill.serve.http.problem import Problem

ANY: Final = "*"
_SHOWN: Final = b"recdistill-bundle, recdistill-version, recdistill-side, retry-after"
_KEPT_S: Final = b"600"  # how long a browser may remember that it may call


class Pages:
    """The pages that may call. It is a layer of the endpoint.

    Args:
        origins: As in `rank.origins`.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._any = ANY in origins
        self._allowed = frozenset(origin.lower().encode() for origin in origins)

    def allows(self, origin: bytes, host: bytes) -> bool:
        """Whether a page of this origin may call. `host` is the name under which it called."""
        origin = origin.lower()
        if self._any or origin in self._allowed:
            return True
        return origin.partition(b"://")[2] == host.lower() != b"" and _is_ours(host)

    def __call__(self, handle: Handler) -> Handler:
        """The handler with a check before it. After it, the head lines for the browser are added."""

        async def around(scope: Scope, receive: Receive) -> Reply:
            for name, _ in scope["headers"]:
                if name == b"origin":
                    break
            else:  # not a browser, or a browser that opens the address itself
                return await handle(scope, receive)
            lines_of = dict(scope["headers"])
            origin, host = lines_of[b"origin"], lines_of.get(b"host", b"")
            if scope["method"] in ("GET", "HEAD"):
                return self._named(await handle(scope, receive), origin, host)
            if not self.allows(origin, host):
                page = origin.decode("latin-1")
                return Problem(
                    403, f"pages of {page} may not call this endpoint; rank.origins names those that may"
                ).reply()
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in lines_of:
                lines = [
                    (b"access-control-allow-methods", b"GET, POST"),
                    (b"access-control-allow-headers", b"content-type"),
                    (b"access-control-max-age", _KEPT_S),
                ]
                return self._named(Reply(200, TEXT, b"", lines), origin, host)
            return self._named(await handle(scope, receive), origin, host)

        return around

    def _named(self, reply: Reply, origin: bytes, host: bytes) -> Reply:
        """The reply with the head lines that allow a browser to give it to its page."""
        lines = [*reply.headers, (b"vary", b"origin")]
        if self.allows(origin, host):
            lines += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _SHOWN)]
        return reply._replace(headers=lines)


def _is_ours(host: bytes) -> bool:
    """Whether nobody else can make this name point to this address: it is a number or `localhost`."""
    name = host.decode("latin-1")
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
