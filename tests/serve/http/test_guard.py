"""What a client can make long or many on a connection has an end: heads, bodies, waits, pipelines."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from support.http_server import serving
from support.recommenders import Slow
from support.waiting import wait_for

from recdistill.bundle import Bundle
from recdistill.serve import Ranker, Recommender
from recdistill.serve.http import Limits, answering, guard

ASK = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def own(bundle: Bundle) -> Ranker:
    """A ranker with counts of its own."""
    ranker = Ranker()
    ranker.swap(Recommender(bundle))
    return ranker


@contextmanager
def dialled(address: str) -> Iterator[socket.socket]:
    where = (urlsplit(address).hostname, urlsplit(address).port)
    with socket.create_connection(where, timeout=10) as raw:
        yield raw


def said(raw: socket.socket) -> bytes:
    """All that the server still says; it must close the connection."""
    parts = []
    try:
        while part := raw.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        parts.append(b"<reset>")
    return b"".join(parts)


def buffered() -> int:
    """How many bytes the kernel may hold between two sockets of this machine."""
    memory = Path("/proc/sys/net/ipv4")
    if not memory.exists():
        return 40 << 20
    return sum(int((memory / name).read_text().split()[2]) for name in ("tcp_rmem", "tcp_wmem"))


def stops(raw: socket.socket, data: bytes) -> bool:
    """Sends the same bytes again and again. Says whether the server stops to take them, and takes little itself.

    What lies in the buffers of both sides is not counted.
    """
    most, sent = buffered() + (8 << 20), 0
    try:
        while sent < 2 * most:
            raw.sendall(data)
            sent += len(data)
    except OSError:
        pass
    return sent < most


# Heads


@pytest.mark.parametrize(
    "line",
    [b"X-Filler: " + b"a" * 200 + b"\r\n", b"a" * 65_536, b"\r\n" * 1000, b"A" * 30_000 + b": " + b"b" * 30_000],
    ids=["many lines", "one line without an end", "blank lines", "long lines"],
)
def test_a_head_without_an_end_is_refused_early(own: Ranker, line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LINGER_S", 0.1)
    with serving(own) as address, dialled(address) as raw:
        if not line.startswith(b"\r\n"):
            raw.sendall(b"GET /livez HTTP/1.1\r\n")
        assert stops(raw, line)
        assert own.counts["large_heads"] == 1
        assert httpx.get(f"{address}/livez").status_code == 200


def test_a_head_has_a_size_and_a_number_of_lines(own: Ranker) -> None:
    with serving(own, Limits(max_head=2048, max_headers=10)) as address:
        for lines, size, status in ((9, 10, 200), (10, 10, 431), (1, 1900, 200), (1, 2100, 431)):
            with dialled(address) as raw:
                filler = b"".join(b"X-%d: %s\r\n" % (n, b"a" * size) for n in range(lines))
                raw.sendall(
                    b"GET /livez HTTP/1.1\r\nHost: x\r\n" + filler + b"Connection: close\r\n\r\n"
                    if status == 431
                    else b"GET /livez HTTP/1.1\r\n" + filler + b"\r\n"
                )
                assert raw.recv(100).startswith(b"HTTP/1.1 %d" % status), (lines, size)
        with dialled(address) as raw:  # the path counts too
            raw.sendall(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 3000))
            assert b"431" in (answer := said(raw))
            assert b"application/problem+json" in answer
            assert b"connection: close" in answer


def test_lines_after_a_body_in_chunks_are_thrown_away(own: Ranker) -> None:
    head = ASK.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")[:-2]
    with serving(own) as address, dialled(address) as raw:
        raw.sendall(head + b"2\r\n{}\r\n0\r\n" + b"X-After: 1\r\n" * 500 + b"\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 200")
    with serving(own) as address, dialled(address) as raw:
        raw.sendall(head + b"2\r\n{}\r\n0\r\n")
        assert stops(raw, b"X-After: %s\r\n" % (b"a" * 60_000))


# Time


@pytest.mark.slow
def test_connections_that_wait_are_closed(own: Ranker) -> None:
    limits = Limits(head_s=0.5, idle_s=1.0, body_s=0.5)
    with (
        serving(own, limits) as address,
        dialled(address) as silent,
        dialled(address) as slow,
        dialled(address) as idle,
    ):
        began = time.monotonic()
        slow.sendall(b"GET /livez HTTP/1.1\r\nHos")
        idle.sendall(LIVE)
        first = b""
        while not first.endswith(b"ok\n"):  # head and body may come apart
            first += idle.recv(1000)
        assert first.startswith(b"HTTP/1.1 200")
        assert said(silent) == b""
        assert said(slow).startswith(b"HTTP/1.1 408")
        assert 0.4 < time.monotonic() - began < 30
        assert said(idle) == b""
        assert time.monotonic() - began > 0.9
        assert own.counts["late_connections"] == 3


@pytest.mark.slow
def test_a_head_that_comes_byte_by_byte_gains_no_time(own: Ranker) -> None:
    with serving(own, Limits(head_s=1.0)) as address, dialled(address) as raw:
        raw.settimeout(0.05)
        began, answer = time.monotonic(), b""
        for byte in LIVE * 50:
            try:
                raw.sendall(bytes([byte]))
                answer = raw.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
            break
        assert answer.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 30


class Long:
    """A recommender whose answers are far larger than the buffers of both sides."""

    def __init__(self, inner: Recommender) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def recommend(self, *args: Any, **named: Any) -> Any:
        answers = self.inner.recommend(*args, **named)
        return [msgspec.structs.replace(answer, bundle="x" * (32 << 20)) for answer in answers]


@pytest.mark.slow
def test_an_answer_that_is_not_taken_ends(bundle: Bundle, own: Ranker) -> None:
    own.swap(Long(Recommender(bundle)))  # type: ignore[arg-type]
    with serving(own, Limits(answer_s=0.5)) as address, dialled(address) as raw:
        raw.sendall(ASK)
        wait_for(lambda: own.counts["late_connections"] == 1)
        assert len(said(raw)) < 32 << 20


# Bodies


@pytest.mark.slow
def test_a_body_of_100_mb_costs_nothing(own: Ranker) -> None:
    head = ASK.replace(b"Content-Length: 2", b"Content-Length: 104857600")[:-2]
    with serving(own) as address, dialled(address) as raw:
        raw.sendall(head)
        assert stops(raw, b" " * 65_536)
    with serving(own) as address, dialled(address) as raw:  # the refusal can be read, although the body was not sent
        raw.sendall(head)
        assert b"413" in said(raw)
    with serving(own) as address, dialled(address) as raw:  # in chunks, so that no size is said before
        raw.sendall(head.replace(b"Content-Length: 104857600", b"Transfer-Encoding: chunked"))
        assert stops(raw, b"10000\r\n" + b" " * 65_536 + b"\r\n")


def test_chunks_that_are_almost_nothing_end(own: Ranker) -> None:
    head = ASK.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")[:-2]
    with serving(own, Limits(max_body=2048)) as address, dialled(address) as raw:
        raw.sendall(head)
        assert stops(raw, b"1;" + b"x" * 5000 + b"\r\n \r\n")


# Pipelines


@pytest.mark.slow
def test_requests_that_wait_on_one_connection(bundle: Bundle, own: Ranker, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(own) as address, dialled(address) as raw:
        raw.sendall(LIVE * 10)  # a few are answered, in their order
        got = b""
        while got.count(b"HTTP/1.1 200") < 10:
            got += raw.recv(65_536)
        monkeypatch.setattr(answering, "IN_LOOP", 0)
        own.swap(Slow(Recommender(bundle), 0.5))  # type: ignore[arg-type]
        raw.sendall(ASK + LIVE * 5000)  # too many end the connection, before they take memory
        assert said(raw).count(b"HTTP/1.1") <= 20
        assert own.counts["pipelined_requests"] == 1
        assert httpx.get(f"{address}/livez").status_code == 200


def test_of_all_that_wait_on_connections_one_begins_at_each_turn_of_the_loop() -> None:
    async def ask() -> None:
        loop, turns, begun = asyncio.get_running_loop(), guard._Turns(), []

        def fails() -> None:
            begun.append("fails")
            raise KeyError

        loop.set_exception_handler(lambda _loop, _said: None)
        for start in (lambda: begun.append("a"), fails, lambda: begun.append("c")):
            turns.add(loop, start)
        for expected in (["a"], ["a", "fails"], ["a", "fails", "c"], ["a", "fails", "c"]):
            await asyncio.sleep(0)
            assert begun == expected

    asyncio.run(ask())


@pytest.mark.slow
def test_a_head_without_an_end_behind_a_request_that_is_answered(
    bundle: Bundle, own: Ranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "IN_LOOP", 0)
    slow = Slow(Recommender(bundle), 2.0)
    own.swap(slow)  # type: ignore[arg-type]
    with serving(own) as address, dialled(address) as raw:
        raw.sendall(ASK + b"GET /livez HTTP/1.1\r\nX: ")
        assert stops(raw, b"a" * 65_536)


# Connections


@pytest.mark.slow
def test_when_there_is_no_room_those_that_waited_longest_go(own: Ranker) -> None:
    with serving(own, Limits(max_connections=20)) as address, httpx.Client(base_url=address) as honest:
        assert honest.get("/livez").status_code == 200
        held = []
        for _ in range(100):
            with dialled(address) as raw:
                held.append(raw.dup())
            time.sleep(0.02)
        # The connection that asked before is older than most of them, and yet it is still there.
        assert honest.post("/v1/recommend", json={}).status_code == 200
        assert len(honest._transport._pool.connections) == 1  # type: ignore[attr-defined]
        assert own.counts["evicted_connections"] >= 79
        assert own.counts["refused_connections"] == 0
        for raw in held:
            raw.close()


@pytest.mark.slow
def test_a_newcomer_is_refused_in_words_when_nobody_can_go(
    bundle: Bundle, own: Ranker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answering, "IN_LOOP", 0)
    slow = Slow(Recommender(bundle), 1.5)
    own.swap(slow)  # type: ignore[arg-type]
    with serving(own, Limits(max_connections=2)) as address, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(httpx.post, f"{address}/v1/recommend", json={}, timeout=20) for _ in range(2)]
        assert slow.began.wait(5)
        time.sleep(0.1)
        refused = httpx.get(f"{address}/livez")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "2 connections" in refused.json()["detail"]
        assert [each.result().status_code for each in asked] == [200, 200]
        wait_for(lambda: httpx.get(f"{address}/livez").status_code == 200)
    lines = [record.getMessage() for record in caplog.records if "refused or cut off" in record.getMessage()]
    assert len(lines) <= 1
    assert own.counts["refused_connections"] >= 1


def test_one_address_can_have_its_own_limit(own: Ranker) -> None:
    with serving(own, Limits(max_connections_per_address=3)) as address:
        held = [socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)) for _ in range(3)]
        time.sleep(0.2)
        with dialled(address) as fourth:
            assert b"from this address" in said(fourth)
        with socket.create_connection(
            (urlsplit(address).hostname, urlsplit(address).port), source_address=("127.0.0.9", 0), timeout=5
        ) as other:
            other.sendall(LIVE)
            assert other.recv(100).startswith(b"HTTP/1.1 200")
        for raw in held:
            raw.close()
        wait_for(lambda: httpx.get(f"{address}/livez").status_code == 200)


# The end of the process


@pytest.mark.slow
def test_the_end_loses_no_request_of_a_kept_connection(own: Ranker) -> None:
    """20 kept connections ask without a pause, while the process stops: each request is answered."""
    answered, lost, seen = [0], [], []
    stop = threading.Event()

    def caller(address: str) -> None:
        with dialled(address) as raw:
            while not stop.is_set():
                raw.sendall(ASK)
                got = b""
                while True:
                    try:
                        part = raw.recv(65_536)
                    except OSError as e:
                        part = b""
                        lost.append(repr(e))
                    got += part
                    head, _, body = got.partition(b"\r\n\r\n")
                    size = re.search(rb"content-length: (\d+)", head)
                    if not part or (size and len(body) == int(size[1])):
                        break
                if not got.startswith(b"HTTP/1.1 200"):
                    lost.append(got[:40].decode() or "no answer")
                    return
                answered[0] += 1
                if b"connection: close" in head:
                    return

    with ThreadPoolExecutor(21) as pool:
        with serving(own, Limits(drain_s=1.0), drain_s=1.0) as address:
            callers = [pool.submit(caller, address) for _ in range(20)]

            def watcher() -> None:
                while True:
                    try:
                        seen.append(httpx.get(f"{address}/readyz").status_code)
                    except httpx.TransportError:
                        seen.append(0)
                        return
                    time.sleep(0.02)

            watching = pool.submit(watcher)
            wait_for(lambda: answered[0] > 200)
        for each in [*callers, watching]:
            each.result()
    assert lost == []
    assert 503 in seen, "/readyz says it before the listener goes"
    assert seen.index(503) < seen.index(0)
    assert 200 not in seen[seen.index(503) :]


def test_a_request_that_came_while_the_process_closes_its_connections_is_answered(own: Ranker) -> None:
    with serving(own) as address, dialled(address) as raw:
        raw.sendall(LIVE)
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")
        blocked = threading.Event()

        def block() -> None:
            blocked.set()
            time.sleep(0.5)

        own.sides = lambda: block() or Ranker.sides(own)  # type: ignore[method-assign, func-returns-value]
        with dialled(address) as other:
            other.sendall(ASK)
            assert blocked.wait(5)
            raw.sendall(LIVE)  # the loop is busy, so this lies unread when the process begins to stop
            own.stopping = True
            assert raw.recv(1000).startswith(b"HTTP/1.1 200")


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"


@pytest.mark.parametrize("apart", [False, True])
def test_an_offer_of_another_protocol_is_not_taken_and_the_request_is_answered(own: Ranker, apart: bool) -> None:
    """Java's client sends such an offer with its first request. The body that follows is still that of the request."""
    body = b'{"k": 3}'
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    sent = head + OFFER + b"Content-Length: %d\r\n\r\n" % len(body)
    last = head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    with serving(own) as address, dialled(address) as raw:
        if apart:
            raw.sendall(sent)
            time.sleep(0.1)
            raw.sendall(body + last + body)
        else:
            raw.sendall((sent + body) * 2 + last + body)
        heard = said(raw)
    assert heard.count(b"HTTP/1.1 200") == (2 if apart else 3), heard
    assert [len(msgspec.json.decode(one)["items"]) for one in re.findall(rb'\{"items".*?\}', heard)] == [3] * (
        2 if apart else 3
    )
    assert own.counts["bad_requests"] == 0


@pytest.mark.parametrize("lines", [b"Upgrade: websocket\r\nConnection: Upgrade, close\r\n", b"Connection: close\r\n"])
def test_a_page_that_asks_for_a_websocket_gets_the_answer_to_its_request(own: Ranker, lines: bytes) -> None:
    with serving(own) as address, dialled(address) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
        heard = said(raw)
    assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
    assert heard.endswith(b"\r\n\r\nok\n")
