"""Answers `/livez`, `/readyz` and `/metrics` of a worker, on a port of its own, with the standard library alone.

It is for probes and Prometheus: each connection is one request, and is closed after its answer. A head has a limit and
a time. There is a limit of connections: with one more, the oldest is closed. So nobody who connects and says nothing
can keep the probes out, and what anybody sends adds no thread and no line to the log.

It knows nothing of what the worker does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final

from recdistill.errors import ConfigError

MAX_HEAD: Final = 8192  # bytes of a request's head
HEAD_S: Final = 5.0  # longest time for a request and its answer
MAX_CONNECTIONS: Final = 64
BACKLOG: Final = 1024  # a probe that connects among many others must not be told to try again a second later
STOP_S: Final = 10.0  # longest wait for the thread at the end

log_ = logging.getLogger(__name__)

Answer = tuple[int, str]
_PHRASES: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 431: "Head Too Large"}


class Health:
    """The port. It has a thread of its own.

    Args:
        host: Address that it listens on.
        port: Port; 0 takes a free one.
        answers: Path -> what gives the status and text of its answer.

    Raises:
        ConfigError: The address cannot be used.
    """

    def __init__(self, host: str, port: int, answers: dict[str, Callable[[], Answer]]) -> None:
        self._answers = answers
        self._open: dict[_Probe, None] = {}
        self._loop = asyncio.new_event_loop()
        # What goes wrong with a connection is its client's own affair.
        self._loop.set_exception_handler(lambda _loop, said: log_.debug("health: %s", said.get("message")))
        try:
            self._server = self._loop.run_until_complete(
                self._loop.create_server(lambda: _Probe(self), host or None, port, backlog=BACKLOG)
            )
        except (OSError, OverflowError, UnicodeError) as e:
            self._loop.close()
            raise ConfigError(
                f"RECDISTILL_HEALTH_HOST, RECDISTILL_HEALTH_PORT: {host}:{port} cannot be used ({e}); choose another "
                "port, or leave RECDISTILL_HEALTH_PORT empty"
            ) from e
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="health")
        self._thread.start()

    def close(self) -> None:
        """Closes the port and its connections."""
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(STOP_S)
        if not self._thread.is_alive():
            self._loop.close()

    def entered(self, probe: _Probe) -> None:
        """A client has connected. When there are too many, the oldest has to go."""
        if len(self._open) >= MAX_CONNECTIONS:
            next(iter(self._open)).abort()
        self._open[probe] = None

    def left(self, probe: _Probe) -> None:
        """A client has gone."""
        self._open.pop(probe, None)

    def answer(self, head: bytes) -> bytes:
        """The answer to a request's head."""
        words = head.partition(b"\r\n")[0].split(b" ")
        method, path = (words[0], words[1].partition(b"?")[0].decode("latin-1")) if len(words) == 3 else (b"", "")
        if method not in (b"GET", b"HEAD"):
            status, text = (405, "only GET is answered here\n") if method.isalpha() else (400, "this is not HTTP\n")
        elif path in self._answers:
            status, text = self._answers[path]()
        else:
            status, text = 404, f"there are {', '.join(self._answers)}\n"
        return _reply(status, text, body=method != b"HEAD")

    def _end(self) -> None:
        self._server.close()
        for probe in list(self._open):
            probe.abort()
        self._loop.call_soon(self._loop.stop)


class _Probe(asyncio.Protocol):
    """One connection."""

    def __init__(self, health: Health) -> None:
        self._health, self._head = health, b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(HEAD_S, self.abort)
        self._health.entered(self)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._head += data
        if b"\r\n\r\n" in self._head[: MAX_HEAD + 4]:
            self._transport.write(self._health.answer(self._head))
        elif len(self._head) > MAX_HEAD:
            self._transport.write(_reply(431, f"a head has at most {MAX_HEAD} bytes\n", body=True))
        else:
            return
        self._head = b""
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._health.left(self)

    def abort(self) -> None:
        """Closes the connection at once."""
        self._health.left(self)
        self._transport.abort()


def _reply(status: int, text: str, *, body: bool) -> bytes:
    content = text.encode()
    head = (
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Service Unavailable')}\r\n"
        "Content-Type: text/plain; version=0.0.4\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (content if body else b"")
