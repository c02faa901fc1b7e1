"""Bodies that are wrong, and bodies that nobody would think of."""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

import httpx
import pytest
from support.bodies import SMALL, body_of, check_problem

from recdistill.bundle import Bundle
from recdistill.serve import Ranker
from recdistill.serve.http import create_app
from references.students import Student, make_requests

EVENT = '{"item": "item-1", "time_us": 5}'


WRONG = [
    ("/v1/recommend", b"", 400, ""),
    ("/v1/recommend", b"{", 400, ""),
    ("/v1/recommend", b"nonsense", 400, ""),
    ("/v1/recommend", b"{} {}", 400, ""),
    ("/v1/recommend", b"\xff\xfe{}", 400, ""),
    ("/v1/recommend", b'{"context": {"device": "\xff"}}', 400, ""),
    ("/v1/recommend", b'{"context": {"device": "\\ud800"}}', 400, ""),
    ("/v1/recommend", b'{"context": {"hour": NaN}}', 400, ""),
    ("/v1/recommend", b'{"context": {"hour": Infinity}}', 400, ""),
    ("/v1/recommend", b'{"requests": ' + b"[" * 30_000, 400, ""),
    ("/v1/recommend", b"[" * 30_000, 422, ""),
    ("/v1/recommend", b'{"context": ' * 5_000, 422, "context"),
    ("/v1/recommend", b"null", 422, ""),
    ("/v1/recommend", b"[]", 422, ""),
    ("/v1/recommend", b'"text"', 422, ""),
    ("/v1/recommend", b'{"k": 0}', 422, "k"),
    ("/v1/recommend", b'{"k": -1}', 422, "k"),
    ("/v1/recommend", b'{"k": 51}', 422, "k"),
    ("/v1/recommend", b'{"k": 1.5}', 422, "k"),
    ("/v1/recommend", b'{"k": "5"}', 422, "k"),
    ("/v1/recommend", b'{"k": true}', 422, "k"),
    ("/v1/recommend", b'{"k": null}', 422, "k"),
    ("/v1/recommend", b'{"k": 1' + b"0" * 200 + b"}", 422, "k"),
    ("/v1/recommend", b'{"k": 1' + b"0" * 6_000 + b"}", 422, "k"),
    ("/v1/recommend", b'{"kk": 5}', 422, "kk"),
    ("/v1/recommend", b'{"history": {}}', 422, "history"),
    ("/v1/recommend", b'{"history": ["item-1"]}', 422, "history[0]"),
    ("/v1/recommend", b'{"history": [{}]}', 422, "history[0].item"),
    ("/v1/recommend", b'{"history": [{"item": 3}]}', 422, "history[0].item"),
    ("/v1/recommend", b'{"history": [{"item": ""}]}', 422, "history[0].item"),
    ("/v1/recommend", b'{"history": [{"item": "a\\u0000"}]}', 422, "history[0].item"),
    ("/v1/recommend", b'{"history": [{"item": "' + b"x" * 600 + b'"}]}', 422, "history[0].item"),
    ("/v1/recommend", b'{"history": [{"item": "a", "when": 3}]}', 422, "history[0].when"),
    ("/v1/recommend", b'{"history": [{"item": "a", "time_us": 9}, {"item": "b", "time_us": 3}]}', 422, "history"),
    ("/v1/recommend", b'{"history": [{"item": "a", "time_us": 9}], "time_us": 3}', 422, "history"),
    ("/v1/recommend", b'{"history": [{"item": "a", "time_us": -9}]}', 422, "history"),
    ("/v1/recommend", b'{"history": [{"item": "a", "time_us": 99999999999999999999999}]}', 422, "history"),
    ("/v1/recommend", b'{"time_us": -1}', 422, "time_us"),
    ("/v1/recommend", b'{"time_us": 1e18}', 422, "time_us"),
    ("/v1/recommend", b'{"time_us": 999999999999999999999999999999999}', 422, "time_us"),
    ("/v1/recommend", b'{"context": {"hour": "noon"}}', 422, "context.hour"),
    ("/v1/recommend", b'{"context": {"hour": [1, 2]}}', 422, "context.hour"),
    ("/v1/recommend", b'{"context": {"hour": null}}', 422, "context.hour"),
    ("/v1/recommend", b'{"context": {"hour": {"of": 1}}}', 422, "context.hour"),
    ("/v1/recommend", b'{"context": {"hour": 1e999}}', 422, "context"),
    ("/v1/recommend", b'{"context": {"place": [1]}}', 422, "context.place"),
    ("/v1/recommend", b'{"context": {"place": [1, 1e60]}}', 422, "context.place[1]"),
    ("/v1/recommend", b'{"context": {"device": ["phone", 3]}}', 422, "context.device"),
    ("/v1/recommend", b'{"context": {"": 1}}', 422, "context"),
    ("/v1/recommend", b'{"exclude": "item-1"}', 422, "exclude"),
    ("/v1/recommend", b'{"exclude": [1]}', 422, "exclude[0]"),
    ("/v1/recommend", b'{"allow": {"a": 1}}', 422, "allow"),
    ("/v1/recommend", b'{"where": ["genres"]}', 422, "where"),
    ("/v1/recommend", b'{"where": {"genres": ["g1", 2]}}', 422, "where.genres"),
    ("/v1/recommend", b'{"repeat": 1}', 422, "repeat"),
    ("/v1/recommend", b'{"requests": []}', 422, "requests"),
    ("/v1/recommend", b'{"requests": {}}', 422, "requests"),
    ("/v1/recommend", b'{"requests": null}', 422, "requests"),
    ("/v1/recommend", b'{"requests": [' + b",".join([b"{}"] * 41) + b"]}", 422, "requests"),
    ("/v1/recommend", b'{"requests": [{}, 5]}', 422, "requests[1]"),
    ("/v1/recommend", b'{"requests": [{}, {"k": 0}]}', 422, "requests[1].k"),
    ("/v1/recommend", b'{"requests": [{"k": 1}, {"k": 2, "context": {"hour": "x"}}]}', 422, "requests[1].context.hour"),
    ("/v1/recommend", b'{"requests": [{}, {"history": [{"itm": "a"}]}]}', 422, "requests[1].history[0].itm"),
    ("/v1/recommend", b'{"requests": [{}], "k": 5}', 422, "k"),
    ("/v1/rank", b"{}", 422, "candidates"),
    ("/v1/rank", b'{"candidates": []}', 422, "candidates"),
    ("/v1/rank", b'{"candidates": "item-1"}', 422, "candidates"),
    ("/v1/rank", b'{"candidates": ["item-1", 2]}', 422, "candidates[1]"),
    ("/v1/rank", b'{"candidates": ["item-1"], "k": 3}', 422, "k"),
    ("/v1/rank", b'{"requests": [{"candidates": ["x"], "context": {"hour": ""}}]}', 422, "requests[0].context.hour"),
    ("/v1/similar", b"{}", 422, "item"),
    ("/v1/similar", b'{"item": "nobody"}', 422, "item"),
    ("/v1/similar", b'{"requests": [{"item": "item-1"}, {"item": "nobody"}]}', 422, "requests[1].item"),
    ("/v1/similar", b'{"item": "item-1", "k": 9999}', 422, "k"),
    ("/v1/similar", b'{"item": "item-1", "history": []}', 422, "history"),
]  # fmt: skip  # fmt: skip


@pytest.mark.many
@pytest.mark.parametrize(("path", "body", "status", "field"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_body_is_a_problem_that_names_the_field(
    client: httpx.Client, path: str, body: bytes, status: int, field: str
) -> None:
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert check_problem(status, answer.headers, answer.content).get("field", "") == field


def test_a_near_name_is_offered(client: httpx.Client) -> None:
    assert "'history'" in client.post("/v1/recommend", json={"histroy": []}).json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("recommend", {"history": [{"item": 7}]}, 'must be a text, not a whole number; write it in quotes: "7"'),
        ("recommend", {"user": 1.5}, 'must be a text, not a number; write it in quotes: "7"'),
        ("recommend", {"history": ["a"]}, 'must be an object, not a text; an event is {"item": "an id"}'),
        (
            "recommend",
            {"history": [{"item": "a", "time_us": "2026-11-30T10:00:00Z"}]},
            "must be a whole number, not a text; times are microseconds since 1970",
        ),
        ("recommend", {"exclude": "a"}, "must be a list, not a text"),
        ("recommend", {"where": {"price": {"lt": 5}}}, "must be a flag, a number, a text or a list, not an object"),
        ("rank", {"candidates": ["a", 2]}, 'must be a text, not a whole number; write it in quotes: "7"'),
    ],
)
def test_a_value_of_the_wrong_type_is_told_in_words(
    client: httpx.Client, path: str, body: dict[str, object], detail: str
) -> None:
    assert client.post(f"/v1/{path}", json=body).json()["detail"] == detail


def mutated(rng: random.Random, bodies: list[bytes]) -> bytes:
    body = bytearray(rng.choice(bodies))
    tokens = [
        b"NaN",
        b"-1",
        b"1e400",
        b"null",
        b"{}",
        b"[",
        b"]",
        b'"',
        b"\\u0000",
        b"\xff",
        b"true",
        b",",
        b'{"a":',
        b"9" * 30,
    ]
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(5):
            case 0:
                body[at : at + rng.randrange(12)] = b""
            case 1:
                body[at:at] = rng.choice(tokens)
            case 2 if body:
                body[at % len(body)] = rng.randrange(256)
            case 3:  # another value in the place of one
                values = list(re.finditer(rb'"[^"]*"|-?\d+|\[\]|\{\}|true|null', bytes(body)))
                if values:
                    one = rng.choice(values)
                    body[one.start() : one.end()] = rng.choice(tokens)
            case _:
                other = rng.choice(bodies)
                body[at:] = other[rng.randrange(len(other)) :]
    return bytes(body)


def whole_bodies(student: Student) -> list[bytes]:
    made = [body_of(i, k=5, exclude=["item-3"], where={"genres": ["g1"]}) for i in make_requests(student, 16)]
    made += [
        {"requests": made[:3]},
        {"item": "item-1", "k": 3, "allow": ["item-2"]},
        {"requests": [{"item": "item-9"}]},
    ]
    made += [{**body_of(make_requests(student, 3)[2]), "candidates": ["item-1", "item-9", "gone"]}]
    return [json.dumps(body).encode() for body in made]


@pytest.mark.slow
def test_no_body_makes_the_server_fail(student: Student, bundle: Bundle, ranker: Ranker, client: httpx.Client) -> None:
    app = create_app(ranker, SMALL)
    rng, bodies, seen = random.Random(20), whole_bodies(student), {}
    paths = ["/v1/recommend", "/v1/rank", "/v1/similar"]

    async def ask(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        await app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
        said = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], said, sent[1]["body"]

    async def all_of_them() -> None:
        for _ in range(3000):
            path, body = rng.choice(paths), mutated(rng, bodies)
            status, headers, content = await ask(path, body)
            seen[status] = seen.get(status, 0) + 1
            assert status in (200, 400, 422), (status, path, body)
            if status != 200:
                check_problem(status, headers, content)

    asyncio.run(all_of_them())
    assert min(seen.get(status, 0) for status in (200, 400, 422)) > 100, seen
    for _ in range(400):
        path, body = rng.choice(paths), mutated(rng, bodies)
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (200, 400, 422), (answer.status_code, path, body)
    assert client.post("/v1/recommend", json={}).status_code == 200
