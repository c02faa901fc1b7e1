"""The table of routes: what it passes on, and what it refuses; and that each route is described."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from recdistill.serve import Ranker
from recdistill.serve.http import Limits, Problem, about, openapi, v1
from recdistill.serve.http.answering import Answering
from recdistill.serve.http.asgi import Receive, Reply, Scope
from recdistill.serve.http.routes import Route, Table, get
from recdistill.serve.http.writeback import WriteBack


async def no_body() -> Any:
    raise AssertionError("nobody reads a body here")


def test_a_path_may_have_several_methods() -> None:
    async def post(_scope: Scope, _receive: Receive) -> Reply:
        return Reply(201, b"text/plain", b"made")

    table = Table([get("/x", lambda: Reply(200, b"text/plain", b"got")), Route("/x", "POST", post)])
    for method, status in (("GET", 200), ("HEAD", 200), ("POST", 201)):
        scope: Scope = {"path": "/x", "method": method}

        async def ask(scope: Scope = scope) -> Reply:
            return await table(scope, no_body)

        assert asyncio.run(ask()).status == status
    with pytest.raises(Problem, match="takes GET or POST, not PUT") as refused:
        table({"path": "/x", "method": "PUT"}, no_body)
    assert (refused.value.status, refused.value.headers) == (405, [(b"allow", b"GET, HEAD, POST")])
    with pytest.raises(Problem, match="there is nothing at /y") as absent:
        table({"path": "/y", "method": "GET"}, no_body)
    assert absent.value.status == 404


def test_each_route_is_described_under_its_method() -> None:
    answering = Answering(Ranker(), Limits())
    routes = [*v1.routes(answering, Limits(), lambda *_: None, WriteBack(0, None)), *about.routes(Ranker(), Limits())]
    answering.close()
    served = {(route.path, route.method.lower()) for route in routes} | {("/metrics", "get")}
    described = {(path, method) for path, methods in openapi.document()["paths"].items() for method in methods}
    assert served - described == {("/", "get")}  # it only leads to the page
    assert described <= served
