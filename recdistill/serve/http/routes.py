"""The table of routes: path and method -> handler.

It does not know what the handlers do.

Example:
    >>> table = Table([get("/livez", lambda: Reply(200, b"text/plain", b"ok"))])
    >>> table.paths
    ('/livez',)
    >>> table({"path": "/livez", "method": "PUT"}, None)
    Traceback (most recent call last):
    recdistill.serve.http.problem.Problem: /livez takes GET, not PUT
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, NamedTuple

from recdistill.serve.http.asgi import Handler, Receive, Reply, Scope
from recdistill.serve.http.problem import Problem


class Route(NamedTuple):
    """The handler of a method at a path. A GET route answers HEAD too."""

    path: str
    method: Literal["GET", "POST"]
    handle: Handler


def get(path: str, reply: Callable[[], Reply]) -> Route:
    """A GET route that reads nothing of the request and answers at once."""

    async def handle(_scope: Scope, _receive: Receive) -> Reply:
        return reply()

    return Route(path, "GET", handle)


class Table:
    """A handler that gives each request to the handler of its route.

    Args:
        routes: All routes. A path may have several methods.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._found: dict[str, dict[str, Handler]] = {}
        for route in routes:
            handlers = self._found.setdefault(route.path, {})
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                handlers[method] = route.handle
        self.paths = tuple(self._found)

    def __call__(self, scope: Scope, receive: Receive) -> Awaitable[Reply]:
        """The reply of the route.

        Raises:
            Problem: 404 when there is no such path, 405 when it does not take the method.
        """
        path, method = scope["path"], scope["method"]
        if (handlers := self._found.get(path)) is None:
            raise Problem(404, f"there is nothing at {path}; see /docs")
        if (handle := handlers.get(method)) is None:
            takes = " or ".join(one for one in handlers if one != "HEAD")
            allow = ", ".join(handlers).encode()
            raise Problem(405, f"{path} takes {takes}, not {method}", headers=[(b"allow", allow)])
        return handle(scope, receive)
