"""Runs the endpoint in uvicorn, in this process and thread, until an event is set.

It does not know what the application answers.

Example:
    >>> listener = bind(RankSettings(port=0))
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
from typing import Final

import uvicorn

from recdistill.config import RankSettings
from recdistill.errors import ConfigError
from recdistill.serve.http.app import App, Ranker

BACKLOG: Final = 2048
STOP_S: Final = 15  # longest wait for requests in flight


class _Server(uvicorn.Server):
    """uvicorn that stops on an event and leaves signals to whoever owns the process."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event, ranker: Ranker) -> None:
        super().__init__(config)
        self._stop, self._ranker = stop, ranker

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        ends = await super().on_tick(counter) or self._stop.is_set()
        self._ranker.stopping = ends
        return ends


def bind(settings: RankSettings) -> socket.socket:
    """A socket at the settings' address; its `getsockname` has the port when that was 0.

    Raises:
        ConfigError: The address cannot be had.
    """
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as e:
        raise ConfigError(f"rank.host: {settings.host!r} is no address of this machine ({e.strerror or e})") from e
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)  # who comes before the server runs waits for it
    except OSError as e:
        listener.close()
        raise ConfigError(
            f"rank.port: {settings.host}:{settings.port} cannot be had ({e.strerror}); choose another one, 0 for any"
        ) from e
    return listener


def serve(app: App, ranker: Ranker, listener: socket.socket, stop: threading.Event) -> None:
    """Runs the application until `stop` is set; then finishes the requests in flight and returns.

    Args:
        app: The application.
        ranker: Its ranker, told that the end is near.
        listener: From `bind`; closed at the end.
        stop: The stop signal.
    """
    config = uvicorn.Config(
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
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    try:
        _Server(config, stop, ranker).run([listener])
    finally:
        listener.close()
        app.close()
