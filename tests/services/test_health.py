"""The workers' health port under clients that mean harm."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from recdistill.errors import ConfigError
from services import health
from services.health import Health


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(health, "HEAD_S", 1.0)
    answers = {"/livez": lambda: (200, "ok\n"), "/readyz": lambda: (503, "the thread 'x' has ended\n")}
    one = Health("127.0.0.1", 0, answers)
    yield one.port
    one.close()


def get(port: int, path: str = "/livez") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def raw(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as one:
        try:
            one.sendall(data)
            parts = []
            while part := one.recv(65_536):
                parts.append(part)
        except ConnectionError:
            parts.append(b"<reset>")
        return b"".join(parts)


def test_it_answers(port: int) -> None:
    assert get(port) == (200, "ok\n")
    assert get(port, "/livez?probe=1") == (200, "ok\n")
    assert get(port, "/readyz") == (503, "the thread 'x' has ended\n")
    assert get(port, "/else") == (404, "there are /livez, /readyz\n")
    assert raw(port, b"POST /livez HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405")
    assert raw(port, b"\x16\x03\x01\x02 nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    head = raw(port, b"HEAD /livez HTTP/1.0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.slow
def test_900_unfinished_requests_add_no_thread_and_keep_no_probe_out(
    port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    threads = threading.active_count()
    held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(900)]
    for number, one in enumerate(held):
        try:
            one.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"y" * (number % 100))
        except OSError:
            continue
    assert get(port) == (200, "ok\n")
    assert threading.active_count() <= threads
    time.sleep(1.5)  # their time is over
    assert all(closed(one) for one in held)
    for one in held:
        one.close()
    said = capfd.readouterr()
    assert said.err == said.out == ""


def closed(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except OSError:
        return True


def test_a_head_without_an_end(port: int) -> None:
    answer = raw(port, b"GET /livez HTTP/1.1\r\n" + b"X-Filler: y\r\n" * 1000)
    assert answer.startswith(b"HTTP/1.1 431") or b"<reset>" in answer
    assert get(port) == (200, "ok\n")


def test_a_port_that_cannot_be_had(port: int) -> None:
    with pytest.raises(ConfigError, match="RECDISTILL_HEALTH_PORT"):
        Health("127.0.0.1", port, {})
    for host in ("no.such.host.invalid", "a..b", 70 * "a"):
        with pytest.raises(ConfigError, match="cannot be used"):
            Health(host, 0, {})
