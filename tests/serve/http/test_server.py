"""The server: its address, its end, and bytes that are no HTTP."""

from __future__ import annotations

import random
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.http_server import serving
from support.recommenders import Slow

from recdistill.bundle import Bundle
from recdistill.errors import ConfigError
from recdistill.serve import Ranker, Recommender
from recdistill.serve.http import answering, bind


@pytest.mark.slow
def test_stopping_finishes_what_is_in_flight(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "IN_LOOP", 0)
    slow = Slow(Recommender(bundle), 1.0)
    ranker = Ranker()
    ranker.swap(slow)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool:
        with serving(ranker) as address:
            asked = pool.submit(httpx.post, f"{address}/v1/recommend", json={}, timeout=10)
            assert slow.began.wait(5)
        assert ranker.stopping
        assert len(asked.result().json()["items"]) == 10
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/livez")


def test_an_address_that_cannot_be_had() -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match=r"^rank\.port: .* cannot be used"):
        bind("127.0.0.1", taken.getsockname()[1])
    for host in ("no.such.host.invalid", "a..b", 70 * "a", "a\0b", ""):
        with pytest.raises(ConfigError, match=r"^rank\.host: "):
            bind(host, 0)


@pytest.mark.slow
def test_no_bytes_on_the_socket_make_the_server_fail(client: httpx.Client) -> None:
    rng = random.Random(4)
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    for _ in range(100):
        sent = bytearray(head)
        for _ in range(3):
            sent[rng.randrange(len(sent))] = rng.randrange(256)
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=5) as raw:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.recv(100)
        assert not answer or re.match(rb"HTTP/1.1 [24]", answer), (bytes(sent), answer)
    assert client.get("/readyz").status_code == 200
