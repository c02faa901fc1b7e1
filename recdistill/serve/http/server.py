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

import asyncio
import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from recdistill.errors import ConfigError
from recdistill.serve.http import memory
from recdistill.serve.http.app import App
from recdistill.serve.ranker import Ranker

if TYPE_CHECKING:
    import uvicorn

BACKLOG: Final = 2048
STOP_S: Final = 15  # how long a stopping process waits at most for requests that are being answered
SWEEP_S: Final = 0.25  # the time between two searches for connections that have waited too long
SOON_S: Final = 0.005  # the time until the next search, if there are many of them
TRIM: Final = 40  # memory is given back after so many searches, if connections closed or large bodies were answered
FEW: Final = 500  # with more connections than this, looking for circles of objects takes too long
SWITCH_S: Final = 0.0002  # how long a thread keeps the interpreter's lock while another thread wants it
ALONE_S: Final = 0.5  # how long a stopping process without connections waits for a new one


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
    except (OSError, UnicodeError) as e:  # UnicodeError: a part of the name is empty or too long
        why = getattr(e, "strerror", None) or e
        raise ConfigError(f"rank.host: {host!r} is not an address of this machine ({why})") from e
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
    """Runs the application until `stop` is set. Then it stops so that no request is lost.

    First `/readyz` says 503 and each answer says `connection: close`. Requests are still taken, for `drain_s`, or until
    no client is connected any more. After that nobody can connect. The running requests are finished, and it returns.

    Args:
        app: The application.
        ranker: Its ranker. It is told when the process is stopping.
        listener: The socket from `bind`. It is closed at the end.
        stop: The stop signal.
    """
    memory.keep_little()
    server = _server(app, ranker, stop)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # below that, a client could fill the log
    # One answer gives up the interpreter's lock some ten times, for the tower and for numpy. If another thread works on
    # a large body, the answer would wait each time for the usual 5 ms until it gets the lock back.
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        server.run([listener])
    finally:
        sys.setswitchinterval(usual_s)
        listener.close()
        app.close()


def _server(app: App, ranker: Ranker, stop: threading.Event) -> uvicorn.Server:
    """A uvicorn server that stops when an event is set. It does not handle signals: its process does that."""
    import uvicorn

    from recdistill.serve.http.gate import Gate, room_for_files
    from recdistill.serve.http.guard import guarded

    limits = app.limits
    gate = Gate(
        most=room_for_files(limits.max_connections),
        per_address=limits.max_connections_per_address,
        counts=ranker.counts,
    )

    class Server(uvicorn.Server):
        stops: float | None = None

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.sweeper = asyncio.create_task(self.sweep())

        async def sweep(self) -> None:
            loop, turns, seen = asyncio.get_running_loop(), 0, (0, 0)
            while True:
                await asyncio.sleep(SWEEP_S)
                while gate.sweep(loop.time()):
                    await asyncio.sleep(SOON_S)
                turns += 1
                now = (gate.gone, app.large())
                if turns % TRIM == 0 and now != seen:
                    seen = now
                    await loop.run_in_executor(None, partial(memory.give_back, circles=len(gate) < FEW))

        async def on_tick(self, counter: int) -> bool:
            if await super().on_tick(counter):
                return True
            if not stop.is_set():
                return False
            now = asyncio.get_running_loop().time()
            if self.stops is None:
                ranker.stopping = gate.closing = True
                self.stops = now + limits.drain_s
                for connection in self.server_state.connections:
                    connection.last()  # type: ignore[union-attr]
            alone = not len(gate) and now - max(gate.entered, self.stops - limits.drain_s) > ALONE_S
            return alone or now >= self.stops

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            ranker.stopping = gate.closing = True
            await super().shutdown(sockets)
            self.sweeper.cancel()

    return Server(
        uvicorn.Config(
            app,
            loop="auto",
            http=guarded(gate, limits),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_S,
        )
    )
