"""What is wrong around a body: its kind, its size, its time."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from support.bodies import check_problem
from support.http_server import serving

from recdistill.bundle import Bundle
from recdistill.serve import Ranker, Recommender
from recdistill.serve.http import Limits, Problem
from recdistill.serve.http.body import Bodies

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/v1/recommand", {}, b"{}", 404),
        ("GET", "/v1/recommend/", {}, b"", 404),
        ("GET", "/..%2f..%2fetc/passwd", {}, b"", 404),
        ("GET", "/v1/recommend", {}, b"", 405),
        ("PUT", "/v1/rank", {}, b"{}", 405),
        ("DELETE", "/v1/model", {}, b"", 405),
        ("POST", "/readyz", {}, b"{}", 405),
        ("POST", "/v1/recommend", {"content-type": "text/csv"}, b"{}", 415),
        ("POST", "/v1/recommend", {"content-type": "application/x-www-form-urlencoded"}, b"k=5", 415),
        ("POST", "/v1/recommend", {"content-type": "application/json; charset=utf-16"}, b"{}", 415),
        ("POST", "/v1/recommend", {"content-encoding": "gzip"}, b"\x1f\x8b", 415),
        ("POST", "/v1/recommend", {}, b"{}", 415),
        ("POST", "/v1/recommend", {"content-type": ""}, b"{}", 415),
        ("POST", "/v1/recommend", JSON, b'{"context": {"a": "' + b"x" * 70_000 + b'"}}', 413),
        ("POST", "/v1/recommend", JSON, b" " * 400_000, 413),
    ],
)
def test_what_is_wrong_around_the_body(
    client: httpx.Client, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = client.request(method, path, headers=headers, content=body)
    assert answer.status_code == status, answer.text
    check_problem(status, answer.headers, answer.content)
    if status == 405:
        assert answer.headers["allow"] in ("POST", "GET, HEAD")


def test_a_body_in_chunks(client: httpx.Client) -> None:
    parts = (part for part in (b'{"k"', b": ", b"2}"))
    assert len(client.post("/v1/recommend", content=parts, headers=JSON).json()["items"]) == 2
    many = (b" " * 10_000 for _ in range(30))
    answer = client.post("/v1/recommend", content=many, headers=JSON)
    assert answer.status_code == 413
    kinds = ("application/json; charset=UTF-8", "application/vnd.api+json", "application/json; charset=utf-8; v=1")
    for kind in (*kinds, "application/json;charset=utf-8;", 'application/json; v=1; charset="utf-8" ; q=1'):
        assert client.post("/v1/recommend", content=b"{}", headers={"content-type": kind}).status_code == 200


@pytest.mark.slow
def test_a_body_that_does_not_arrive(bundle: Bundle) -> None:
    ranker = Ranker()
    ranker.swap(Recommender(bundle))
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"
    with serving(ranker, Limits(body_s=0.3)) as address:
        where = (urlsplit(address).hostname, urlsplit(address).port)
        for part in (b"", b'{"k"'):  # nothing of the body, or a part of it
            with socket.create_connection(where, timeout=5) as slow:
                slow.sendall(head + part)
                assert slow.recv(100).startswith(b"HTTP/1.1 408"), part
        for part in (head[:20], head, head + b'{"k": 3'):
            with socket.create_connection(where, timeout=5) as gone:
                gone.sendall(part)
        assert httpx.get(f"{address}/readyz").status_code == 200


def test_bodies_that_arrive_have_a_bound_together() -> None:
    bodies = Bodies(most=1000, seconds=10.0, together=1500)
    scope = {"headers": [(b"content-type", b"application/json")]}

    async def sender(first: int, more: asyncio.Event) -> bytes:
        parts = iter([(b" " * first, True), (b"{}", False)])

        async def receive() -> dict[str, Any]:
            part, rest = next(parts)
            if not rest:
                await more.wait()
            return {"type": "http.request", "body": part, "more_body": rest}

        return await bodies.read(scope, receive)

    async def all_of_them() -> None:
        more = asyncio.Event()
        slow = asyncio.create_task(sender(900, more))
        await asyncio.sleep(0)
        with pytest.raises(Problem, match="too many bodies") as refused:
            await sender(700, more)
        assert refused.value.status == 503
        assert dict(refused.value.headers)[b"retry-after"] == b"1"
        more.set()
        assert (await slow).strip() == b"{}"
        assert (await sender(900, more)).strip() == b"{}"  # what was refused or read gives its room back

    asyncio.run(all_of_them())
