"""A real HTTP server with a ranker. A test can make it fail in every way that we know.

It speaks the Open Inference Protocol v2 (`/v2/models/hash[/versions/N][/infer]`) and the rerank API (`/rerank`). To
`documents` it answers as Cohere does, to `texts` as text-embeddings-inference does. It runs on loopback, with uvicorn
in a thread. `behave` decides what it does with each request; it gets the request's number and the item ids in it.
`asked` keeps the requests.

Example:
    >>> score_of("item-3")
    3.2
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

Behaviour = Callable[[int, list[str]], str]
"""Takes the request's number and its item ids, and gives a name from `Server._answer`, or a status as text."""


def score_of(item: str) -> float:
    """The ranker: a score that depends only on the item. A document is scored by its first word."""
    word = item.split(maxsplit=1)[0].rpartition("-")[2]
    number = int(word) if word.isdecimal() else sum(word.encode())
    return (number * 37 % 19) / 5.0 + (number % 3) * 5.0


class Server:
    """The application, its address and its requests."""

    def __init__(self) -> None:
        self.behave: Behaviour = lambda _number, _items: "well"
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.address = ""
        self.version = "3"
        self.most_at_once = 0
        self.retry_after = "1"
        self.metadata: Any = {
            "name": "hash",
            "versions": ["1", "3"],
            "platform": "test",
            "inputs": [{"name": "items", "datatype": "BYTES", "shape": [-1, -1]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, -1]}],
        }
        self._at_once = 0
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body, more = body + event.get("body", b""), event.get("more_body", False)
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        if scope["method"] == "GET":
            await _send(send, 200, self.metadata)
            return
        request = json.loads(body)
        with self._lock:
            number = len(self.asked)
            self.asked.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            rerank = scope["path"] == "/rerank"
            await self._answer(number, request, rerank, send)
        finally:
            self._at_once -= 1

    async def _answer(self, number: int, request: Any, rerank: bool, send: Any) -> None:
        bare = "texts" in request
        items = request["texts" if bare else "documents"] if rerank else request["inputs"][0]["data"]
        how = self.behave(number, items)
        answer = self._rerank(items, bare) if rerank else self._infer(request["inputs"][0]["shape"], items)
        headers: list[tuple[bytes, bytes]] = []
        status = 200
        if how.isdigit():
            status, answer = int(how), {"error": f"that is a {how}", "said": dict_of_secrets(self.headers[-1])}
            if how in ("429", "503"):
                headers.append((b"retry-after", self.retry_after.encode()))
            if how.startswith("3"):
                headers.append((b"location", b"http://127.0.0.1:1/elsewhere"))
        elif how in ("slow", "soon"):
            await asyncio.sleep(1.0 if how == "slow" else 0.05)
        elif how == "drip":  # it sends a little again and again, and never ends
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(200):
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await asyncio.sleep(0.05)
        elif how == "dies":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000")]})
            await send({"type": "http.response.body", "body": b'{"outputs": [', "more_body": True})
            raise _Dies
        elif how == "not json":
            await _send_bytes(send, b"<html>It works!</html>")
            return
        elif how == "deep":
            await _send_bytes(send, b"[" * 100_000)
            return
        elif how == "endless":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(10_000):
                await send({"type": "http.response.body", "body": b" " * 65536, "more_body": True})
            return
        elif how == "zipped":
            await _send_bytes(send, b"\x1f\x8b", [(b"content-encoding", b"gzip")])
            return
        elif how != "well":
            answer = _lie(how, answer)
        await _send(send, status, answer, headers)

    def _infer(self, shape: list[int], items: list[str]) -> Any:
        scores = [score_of(item) for item in items]
        output = {"name": "scores", "datatype": "FP32", "shape": shape, "data": scores}
        return {"model_name": "hash", "model_version": self.version, "outputs": [output]}

    def _rerank(self, documents: list[str], bare: bool) -> Any:
        key = "score" if bare else "relevance_score"
        results = sorted(
            ({"index": at, key: score_of(text)} for at, text in enumerate(documents)), key=lambda one: -one[key]
        )
        return results if bare else {"results": results}


class _Dies(Exception):
    """Ends the connection without the rest of the answer."""


def dict_of_secrets(headers: dict[str, str]) -> dict[str, str]:
    """The headers that a careless server sends back."""
    return {name: value for name, value in headers.items() if name == "authorization"}


def _lie(how: str, answer: Any) -> Any:
    """Changes the answer into a wrong one."""
    if isinstance(answer, list) or "results" in answer:
        bare = isinstance(answer, list)
        results, key = (answer, "score") if bare else (answer["results"], "relevance_score")
        if how in ("nothing", "other shape"):
            return {} if how == "nothing" else {"results": results} if bare else results
        [first, *others] = results
        lies = {
            "half": results[: len(results) // 2],
            "empty": [],
            "nan": [{**first, key: float("nan")}, *others],
            "null": [{**first, key: None}, *others],
            "no score": [{"index": first["index"]}, *others],
            "huge": [{**first, key: 10**400}, *others],
            "all nan": [{**one, key: float("nan")} for one in results],
            "far index": [{**first, "index": 99}, *others],
            "negative index": [{**first, "index": -1}, *others],
            "true index": [{**first, "index": True}, *others],
            "no index": [{key: first[key]}, *others],
            "twice": [first, *results],
            "texts": [{**first, key: "0.5"}, *others],
            "truth": [{**first, key: True}, *others],
            "lists": [[one["index"], one[key]] for one in results],
        }[how]
        return lies if bare else {"results": lies}
    [output] = answer["outputs"]
    data, shape = output["data"], output["shape"]
    changed = {
        "half": {"data": data[: len(data) // 2]},
        "half the rows": {"data": data[: len(data) // 2], "shape": [shape[0], shape[1] // 2]},
        "shape": {"shape": [shape[0] + 1, shape[1]]},
        "axes": {"shape": [*shape, *[1] * 90]},
        "nan": {"data": [float("nan"), *data[1:]]},
        "null": {"data": [None, *data[1:]]},
        "all nan": {"data": [float("nan")] * len(data)},
        "texts": {"data": [str(value) for value in data]},
        "nested": {"data": [data[at * shape[1] : (at + 1) * shape[1]] for at in range(shape[0])]},
        "integers": {"datatype": "INT64"},
        "other name": {"name": "logits"},
        "nothing": None,
    }[how]
    return {} if changed is None else {**answer, "outputs": [{**output, **changed}]}


async def _send(send: Any, status: int, answer: Any, headers: Any = ()) -> None:
    await _send_bytes(send, json.dumps(answer).encode(), headers, status)


async def _send_bytes(send: Any, body: bytes, headers: Any = (), status: int = 200) -> None:
    kind = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *headers]})
    await send({"type": "http.response.body", "body": body})


class _Quick(uvicorn.Server):
    """uvicorn looks ten times a second whether it shall end, and then waits a tenth of a second: long, in 100 tests."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.005)

    async def shutdown(self, sockets: Any = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0.02)


@contextmanager
def teacher_server(port: int = 0, **options: Any) -> Iterator[Server]:
    """Serves until the block ends. The options are those of uvicorn (TLS)."""
    app = Server()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off", **options)
    server = _Quick(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    limit = time.monotonic() + 10
    while not server.started and time.monotonic() < limit:
        time.sleep(0.005)
    assert server.started
    scheme = "https" if options.get("ssl_certfile") else "http"
    app.address = f"{scheme}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield app
    finally:
        server.should_exit = True
        thread.join(10)
