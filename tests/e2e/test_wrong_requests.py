"""Wrong requests: the endpoint answers each with a 4xx and a problem that names the field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from references.students import make_requests, make_student

BODIES: list[tuple[str, Any, int, str]] = [
    ("recommend", b"", 400, "not JSON"),
    ("recommend", b"{", 400, "not JSON"),
    ("recommend", b"\xff", 400, "not JSON"),
    ("recommend", b'{"context": {"a": ' + b"[" * 100_000, 422, "context"),
    ("recommend", [], 422, "must be an object, not a list"),
    ("recommend", {"k": 0}, 422, "k"),
    ("recommend", {"k": 10**6}, 422, "k"),
    ("recommend", {"k": "ten"}, 422, "k"),
    ("recommend", {"k": 10**40}, 422, "k"),
    ("recommend", {"kk": 1}, 422, "kk"),
    ("recommend", {"history": "item-1"}, 422, "history"),
    ("recommend", {"history": [{"item": ""}]}, 422, "history[0].item"),
    ("recommend", {"history": [{"itm": "a"}]}, 422, "history[0]"),
    ("recommend", {"history": [{"item": "a", "time_us": -1}]}, 422, "history"),
    ("recommend", {"history": [{"item": "a", "time_us": 9}, {"item": "b", "time_us": 8}]}, 422, "history"),
    ("recommend", {"history": [{"item": "a", "time_us": 9}], "time_us": 8}, 422, "history"),
    ("recommend", {"time_us": -1}, 422, "time_us"),
    ("recommend", {"context": 3}, 422, "context"),
    ("recommend", {"context": {"device": None}}, 422, "context.device"),
    ("recommend", {"context": {"hour": "noon"}}, 422, "context.hour"),
    ("recommend", {"context": {"place": [1.0]}}, 422, "context.place"),
    ("recommend", {"exclude": "item-1"}, 422, "exclude"),
    ("recommend", {"exclude": [3]}, 422, "exclude[0]"),
    ("recommend", {"where": {"year": {"least": 3}}}, 422, "where.year"),
    ("recommend", {"repeat": "no"}, 422, "repeat"),
    ("recommend", {"requests": []}, 422, "requests"),
    ("recommend", {"requests": [{}, {"k": 0}]}, 422, "requests[1].k"),
    ("recommend", {"requests": [{}], "k": 3}, 422, "k"),
    ("recommend", {"requests": [{}] * 500}, 422, "requests"),
    ("rank", {}, 422, "candidates"),
    ("rank", {"candidates": []}, 422, "candidates"),
    ("rank", {"candidates": ["a", 3]}, 422, "candidates[1]"),
    ("similar", {}, 422, "item"),
    ("similar", {"item": "nobody"}, 422, "item"),
    ("similar", {"item": "item-1", "k": -1}, 422, "k"),
]


async def _post(app: Any, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await app({"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from recdistill.serve import Recommender
    from recdistill.serve.http import Ranker, create_app

    student = make_student(30)
    bundle = student.export(tmp_path_factory.mktemp("wrong") / "bundle", golden_requests=make_requests(student, 3))
    ranker = Ranker()
    ranker.swap(Recommender(bundle), "1")
    app = create_app(ranker)
    yield app
    app.close()


@pytest.mark.parametrize(
    ("verb", "body", "status", "field"), BODIES, ids=[f"{number:02}-{case[-1]}" for number, case in enumerate(BODIES)]
)
def test_bodies(verb: str, body: Any, status: int, field: str, app: Any) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    found, problem = asyncio.run(_post(app, f"/v1/{verb}", data))
    assert found == status, problem
    assert problem["status"] == status
    text = f"{problem.get('field', '')}: {problem['detail']}"
    assert field in text
    if status == 422 and body != []:
        assert problem["field"].startswith(field), text
    assert "\n" not in problem["detail"]
    assert "Traceback" not in text
