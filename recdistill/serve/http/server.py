"""Runs the endpoint in uvicorn, in this process and thread, until an event is set.

It does not know what the application answers. Only `serve` loads uvicorn, because a process that only reads a form (the
command line) needs no server.

Example:
    >>> listener = bind("127.0.0.1", 0)
    >>> listener.getsockname()[1] > 0
    True
    >>> listener.close()
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from recdistill.errors import ConfigError
from recdistill.serve.http.app import App
from recdistill.serve.ranker import Ranker

if TYPE_CHECKING:
    import uvicorn

BACKLOG: Final = 2048
STOP_S: Final = 15  # longest wait for requests in flight


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Args:
        host: A name or an address of this machine.
        port: The port. 0 takes a free one; the socket's `getsockname` says which.

    Raises:
        ConfigError: The address cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as e:
        raise ConfigError(f"rank.host: {host!r} is not an address of this machine ({e.strerror or e})") from e
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)  # clients that connect before the server runs wait for it
    except OSError as e:
        listener.close()
        raise ConfigError(
            f"rank.port: {host}:{port} cannot be used ({e.strerror}); choose another one, 0 for any"
        ) from e
    return listener


def serve(app: App, ranker: Ranker, listener: socket.socket, stop: threading.Event) -> None:
    """Runs the application until `stop` is set. Then it finishes the running requests and returns.

    Args:
        app: The application.
        ranker: Its ranker. It is told when the process is stopping.
        listener: The socket from `bind`. It is closed at the end.
        stop: The stop signal.
    """
    server = _server(app, ranker, stop)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    try:
        server.run([listener])
    finally:
        listener.close()
        app.close()


def _server(app: App, ranker: Ranker, stop: threading.Event) -> uvicorn.Server:
    """A uvicorn server that stops on an event. It does not handle signals: the owner of the process does."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def on_tick(self, counter: int) -> bool:
            ends = await super().on_tick(counter) or stop.is_set()
            ranker.stopping = ends
            return ends

    return Server(
        uvicorn.Config(
            app,
            loop="auto",
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=STOP_S,
        )
    )
