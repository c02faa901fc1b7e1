"""A connection of the endpoint: that of uvicorn, with limits on what a client can send and on how long it may take.

uvicorn has no limit for the size of a head, for the time that a head or a body takes, nor for how many requests may
wait on one connection. When it stops, it closes connections on which a request may just have arrived. So this class
works between uvicorn's protocol and the socket: it counts, keeps the time, and refuses.

After a refusal, the connection is read for a short time more, and what comes is thrown away. Without this, the client
would not see the refusal: its system throws an answer away if the connection closes while the client is still sending.

A client may offer another protocol with its request, as Java's client offers HTTP/2 (`Upgrade: h2c`). Nobody speaks one
here, so the offer is not taken, and the request is answered as if it had none.

It uses these parts of uvicorn that no page describes: `HttpToolsProtocol` and its fields `cycle`, `flow`, `pipeline`,
`parser`, `url`, `headers`, `transport`. `tests/serve/http/test_guard.py` notices when they change.

It does not know what a request asks, or how it is answered.

Example:
    >>> from collections import Counter
    >>> issubclass(guarded(Gate(most=10, per_address=0, counts=Counter()), Limits()), HttpToolsProtocol)
    True
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from recdistill.serve.http.asgi import Headers
from recdistill.serve.http.body import DRAIN
from recdistill.serve.http.gate import Gate
from recdistill.serve.http.limits import Limits
from recdistill.serve.http.problem import KIND, Problem

PIPELINE: Final = 16  # so many requests may wait on one connection
LINGER_S: Final = 1.0  # how long a refused connection is still read
LINGER: Final = 1 << 20  # how many bytes are read and thrown away in this time
SPARE: Final = 1 << 20  # how many bytes the framing of a body may take, in addition to the body itself
BACKSTOP_S: Final = 1.0  # the application refuses a late body itself; this limit ends so much later
_NEVER: Final = math.inf
_OFFER: Final = frozenset({b"upgrade", b"http2-settings"})  # head lines, and words of `connection`

_Waiting, _Head, _Body, _Answer, _Ending = range(5)
"""What a connection waits for: a request; the rest of a head; the rest of a body; the application; its end."""


class _Refused(Exception):
    """Stops the parser. `send_400_response` answers with the problem."""


class _Turns:
    """Starts waiting requests, one at each turn of the event loop. So a client that sends many at once waits itself."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, loop: asyncio.AbstractEventLoop, start: Callable[[], None]) -> None:
        """Puts `start` at the end of the queue."""
        self._waiting.append(start)
        if len(self._waiting) == 1:
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        start = self._waiting[0]
        try:
            start()
        finally:
            self._waiting.popleft()
            if self._waiting:
                loop.call_soon(self._next, loop)


class Guarded(HttpToolsProtocol):
    """One connection. `guarded` makes the class that an endpoint uses."""

    gate: ClassVar[Gate]
    turns: ClassVar[_Turns]
    limits: ClassVar[Limits]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        now = self.loop.time()
        self.address: str = self.client[0] if self.client else ""
        self.served, self.waiting, self.since = False, True, now
        self._state, self._until, self._taken_until = _Head, now + self.limits.head_s, _NEVER
        self._head_seen = self._raw = self._thrown_away = 0
        self._refusal: Problem | None = None
        self._again = b""
        self._end_of_answer = _EndOfAnswer(self)
        if why := self.gate.enter(self, now):
            if self.gate.crowded:
                self._abort("")
            else:
                self._refuse(Problem(503, f"{why}; ask again later", headers=[(b"retry-after", b"1")]), count=False)

    @property
    def until(self) -> float:
        """The time after which this connection has waited too long."""
        return min(self._until, self._taken_until)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self.gate.leave(self)
        super().connection_lost(exc)
        # A connection and its parts point at each other. Without the next lines, they would stay in memory until Python
        # looks for such circles, which it does rarely.
        if self.cycle is not None and self.cycle.response_complete:
            self.cycle = None  # type: ignore[assignment]
        self._end_of_answer.forget()

    # Reading

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        state = self._state
        if state == _Ending:
            self._thrown_away += len(data)
            if self._thrown_away > LINGER:
                self.flow.pause_reading()
            return
        if state == _Waiting:
            self._state, self.since = _Head, self.loop.time()
            self._until = self.since + self.limits.head_s
        self._raw += len(data)
        in_head = self._state == _Head
        self._parse(data)
        if self._state == _Head:
            # Bytes of a line that has not ended yet are counted, too. The parser keeps them back.
            self._head_seen = self._head_seen + len(data) if in_head else _tail(data)
            if self._head_seen > self.limits.max_head:
                self._refuse(self._long_head())
        elif self._state == _Body and self._raw > DRAIN * self.limits.max_body + SPARE:
            self._abort("large_bodies")
        elif self._state == _Answer and self._raw > self.limits.max_head + SPARE:
            self._abort("large_heads")  # the head of a next request, while this one is answered

    def _parse(self, data: bytes) -> None:
        """Gives bytes to the parser. After an offer of another protocol it stops: it takes the body for that protocol.

        Then the head is parsed once more without the offer, and the body after it.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserError:
                return self.send_400_response("")
            except httptools.HttpParserUpgrade as e:
                if not self._again:  # CONNECT: what follows is for another host
                    return None
                data, self._again = self._again + data[e.args[0] :], b""
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            else:
                return None
        return None

    def on_headers_complete(self) -> None:
        """A head has come."""
        # If few bytes came in all, the head is small and need not be measured.
        if self._raw > self.limits.max_head and self._size_of_head() > self.limits.max_head:
            self._refusal = self._long_head()
            raise _Refused
        if len(self.headers) > self.limits.max_headers:
            self._refusal = Problem(431, f"a head has at most {self.limits.max_headers} lines")
            raise _Refused
        if len(self.pipeline) >= PIPELINE:
            self._refusal = Problem(429, f"at most {PIPELINE} requests may wait on one connection")
            raise _Refused
        if self.parser.should_upgrade() and (method := self.parser.get_method()) != b"CONNECT":
            self._again = _without_offer(method, self.url, self.parser.get_http_version(), self.headers)
            return
        self._state = _Body
        self.served, self.waiting = True, False
        self._head_seen = self._raw = 0
        before = self.cycle
        super().on_headers_complete()
        self.headers = []  # head lines that come after a chunked body go into this list, and nobody reads it
        cycle: Any = self.cycle
        cycle.transport = self._end_of_answer
        if self.gate.closing:
            cycle.keep_alive = False
            if before is not None and not before.response_started:
                before.keep_alive = True  # the last answer of this connection is that of the new request
        self._until = self.loop.time() + self.limits.body_s + BACKSTOP_S

    def on_message_complete(self) -> None:
        """A whole request has come."""
        if self._again:
            return
        super().on_message_complete()
        if self._state != _Body:
            return
        if self.cycle.response_complete:
            self._wait()
        else:
            self._state, self._until, self._raw = _Answer, _NEVER, 0

    # Answering

    def on_response_complete(self) -> None:
        """An answer is written. It does what uvicorn does, but without a timer for each request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing() or self._state == _Ending:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self.turns.add(self.loop, self._next_request)
        elif self._state == _Answer:
            self._wait()

    def _next_request(self) -> None:
        """Answers the next request that waits on this connection."""
        if self.pipeline and not self.transport.is_closing():
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        """The client takes the answer more slowly than it is made."""
        super().pause_writing()
        self._taken_until = self.loop.time() + self.limits.answer_s

    def resume_writing(self) -> None:
        """The client has taken most of what was written."""
        super().resume_writing()
        self._taken_until = _NEVER

    def finish(self) -> None:
        """Ends the connection after an answer. The rest of a request that was refused is read and thrown away."""
        if self._state in (_Body, _Head) and not self.transport.is_closing():
            self._linger()
        else:
            self._close(self.limits.answer_s)

    # Ending

    def end(self, *, late: bool) -> None:
        """Ends the connection: it waited too long (`late`), or there is no more room."""
        if self._state == _Ending or self._taken_until < self.loop.time():
            self._abort("")
        elif late and self._state == _Head and self._head_seen:
            self._refuse(Problem(408, f"the head did not arrive within {self.limits.head_s:g} s"), count=False)
        elif self._state == _Body and not self.cycle.response_started and not self.pipeline:
            self.cycle.disconnected = True  # tells the application that nobody waits for the answer
            self.cycle.message_event.set()
            self._write(Problem(408, f"the body did not arrive within {self.limits.body_s:g} s"))
            self._linger()
        else:
            self._close(LINGER_S)

    def last(self) -> None:
        """The process will stop: the next answer is the last one of this connection."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """The process stops. A client that waits for an answer gets it. A connection without a request is closed."""
        if self._state in (_Waiting, _Head):
            if not self._unread():
                self._close(LINGER_S)
        elif self.cycle is not None and not self.cycle.response_complete and not self.pipeline:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Refuses bytes that are not HTTP, or that passed a limit while they were parsed."""
        self._refuse(self._refusal or Problem(400, "this is not a request of HTTP/1.1"))

    def _unread(self) -> bool:
        """Whether bytes have come that were not read yet. They are probably a request, and it will be answered."""
        with contextlib.suppress(OSError, ImportError):
            import fcntl
            import termios

            number = self.transport.get_extra_info("socket").fileno()
            return fcntl.ioctl(number, termios.FIONREAD, b"\0" * 4) != b"\0" * 4
        return False

    def _close(self, seconds: float) -> None:
        """Closes the connection when its client has taken what was written. It waits at most so many seconds."""
        self._state, self.waiting, self._until = _Ending, False, self.loop.time() + seconds
        self.transport.close()

    def _wait(self) -> None:
        """Waits for the next request."""
        self._state, self.waiting, self._raw = _Waiting, True, 0
        self.since = self.loop.time()
        self._until = self.since + self.limits.idle_s

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _long_head(self) -> Problem:
        return Problem(431, f"a head has at most {self.limits.max_head:,} bytes")

    def _refuse(self, problem: Problem, *, count: bool = True) -> None:
        """Answers with a problem and ends the connection."""
        if count:
            self.gate.count(_COUNTED.get(problem.status, "bad_requests"))
        if self.cycle is not None and not self.cycle.response_complete:
            self._abort("")  # an answer is being written, and the client would take this problem for a part of it
            return
        self._write(problem)
        self._linger()

    def _write(self, problem: Problem) -> None:
        reply = problem.reply()
        lines = [
            *self.server_state.default_headers,
            (b"content-type", KIND),
            (b"content-length", b"%d" % len(reply.body)),
            *reply.headers,
            (b"connection", b"close"),
        ]
        head = b"".join([name + b": " + value + b"\r\n" for name, value in lines])
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + reply.body)

    def _linger(self) -> None:
        self._state, self.waiting, self._until = _Ending, False, self.loop.time() + LINGER_S
        self._taken_until = _NEVER
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _abort(self, what: str) -> None:
        if what:
            self.gate.count(what)
        self._state = _Ending
        self.transport.abort()


class _EndOfAnswer:
    """Takes the place of the transport while an answer is written. So the connection decides how it ends."""

    __slots__ = ("_connection", "is_closing", "write")

    def __init__(self, connection: Guarded) -> None:
        self._connection: Guarded | None = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.finish()

    def forget(self) -> None:
        """The connection is gone."""
        self._connection = None


_COUNTED: Final = {431: "large_heads", 429: "pipelined_requests"}


def _tail(data: bytes) -> int:
    """How many bytes come after the last blank line. They belong to the next head."""
    return len(data) - (data.rfind(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0)


def _without_offer(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """The head of a request without its offer of another protocol."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    for name, value in headers:
        if name == b"connection":
            value = b",".join(word for word in value.split(b",") if word.strip().lower() not in _OFFER)
        if name not in _OFFER:
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])


def guarded(gate: Gate, limits: Limits) -> type[Guarded]:
    """The class of connections for one endpoint."""
    return type("Connection", (Guarded,), {"gate": gate, "limits": limits, "turns": _Turns()})
