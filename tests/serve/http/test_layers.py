"""Layers, one around the other."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from support.bodies import check_problem
from support.http_server import serving
from support.recommenders import Slow

from recdistill.bundle import Bundle
from recdistill.serve import Ranker, Recommender
from recdistill.serve.http import Problem
from recdistill.serve.http.asgi import Handler, Layer, Receive, Reply, Scope
from recdistill.serve.http.layers import OTHER, counted, explained, fold


def test_an_error_of_ours_is_a_500_without_a_traceback(bundle: Bundle) -> None:
    ranker = Ranker()
    ranker.swap(Slow(Recommender(bundle), 0, KeyError("secret")))  # type: ignore[arg-type]
    with serving(ranker) as address, httpx.Client(base_url=address) as client:
        for body in ({}, {"requests": [{}] * 128}):
            answer = client.post("/v1/recommend", json=body)
            assert answer.status_code == 500
            assert "secret" not in answer.text
            check_problem(500, answer.headers, answer.content)
        assert client.get("/livez").status_code == 200


def token(wanted: bytes) -> Layer:
    """A bearer token, as somebody may add one: it is a layer and nothing else."""

    def layer(handle: Handler) -> Handler:
        async def around(scope: Scope, receive: Receive) -> Reply:
            if dict(scope["headers"]).get(b"authorization") != b"Bearer " + wanted:
                raise Problem(401, "send a token", headers=[(b"www-authenticate", b"Bearer")])
            return await handle(scope, receive)

        return around

    return layer


async def no_body() -> Any:
    raise AssertionError("nobody reads a body here")


def test_layers_lie_one_around_the_other() -> None:
    seen: list[tuple[str, int, float]] = []

    async def handle(scope: Scope, _receive: Receive) -> Reply:
        return Reply(200, b"text/plain", scope["path"].encode())

    async def gone(_scope: Scope, _receive: Receive) -> Reply:
        raise ConnectionResetError

    counts = counted(lambda *each: seen.append(each), ["/a"])
    whole = fold(handle, [token(b"secret"), explained, counts])
    headers = [(b"authorization", b"Bearer secret")]
    answers = [
        asyncio.run(whole({"path": "/a", "method": "GET", "headers": headers}, no_body)),
        asyncio.run(whole({"path": "/b", "method": "GET", "headers": headers}, no_body)),
        asyncio.run(whole({"path": "/a", "method": "GET", "headers": []}, no_body)),
    ]
    assert [answer.status for answer in answers] == [200, 200, 401]
    assert answers[2].headers == [(b"www-authenticate", b"Bearer")]
    assert [each[:2] for each in seen] == [("/a", 200), (OTHER, 200), ("/a", 401)]
    assert all(0 <= seconds < 5 for *_, seconds in seen)
    with pytest.raises(ConnectionResetError):
        asyncio.run(fold(gone, [explained, counts])({"path": "/a", "method": "GET", "headers": []}, no_body))
    assert len(seen) == 3, "a client that went away is not counted"
