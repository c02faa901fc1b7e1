"""The endpoint over real sockets, against the recommender it serves; and what it says to bodies that are wrong."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jsonschema
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.http_server import serving

from recdistill.bundle import Bundle
from recdistill.config import RankSettings
from recdistill.errors import ConfigError
from recdistill.records import Impression, decode, encode
from recdistill.serve.http import app as endpoint
from recdistill.serve.http import openapi
from recdistill.serve.http.app import Ranker, create_app
from recdistill.serve.http.server import bind
from recdistill.serve.recommender import Filters, Recommender, Request
from references.students import NOW_US, Student, make_requests, make_student

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = RankSettings(port=0, max_k=50, max_batch=40, max_body=65_536)


@pytest.fixture(scope="module")
def student() -> Student:
    return make_student()


@pytest.fixture(scope="module")
def bundle(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return student.export(
        tmp_path_factory.mktemp("bundles") / "one",
        golden_requests=make_requests(student, 20),
        popular=[(f"item-{i}", 60.0 - i) for i in range(6)],
    )


@pytest.fixture(scope="module")
def ranker(bundle: Bundle) -> Ranker:
    ranker = Ranker()
    ranker.swap(Recommender(bundle), "7")
    return ranker


@pytest.fixture(scope="module")
def client(ranker: Ranker) -> Iterator[httpx.Client]:
    with serving(ranker, SETTINGS) as address, httpx.Client(base_url=address) as client:
        yield client


def body_of(impression: Impression, **more: Any) -> dict[str, Any]:
    return {
        "history": [msgspec.to_builtins(event) for event in impression.history],
        "context": impression.context,
        "time_us": impression.time_us,
        **more,
    }


@functools.cache
def validator(name: str) -> Any:
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": openapi.schema()["$defs"]})


def check_form(value: Any, name: str) -> None:
    validator(name).validate(value)


# What is right


def test_recommend_answers_what_the_recommender_does(student: Student, bundle: Bundle, client: httpx.Client) -> None:
    recommender = Recommender(bundle)
    for impression in make_requests(student, 40):
        body = body_of(impression, k=7, exclude=["item-1", "nobody"], where={"genres": ["g1", "g2", "g3"]})
        check_form(body, "RecommendRequest")
        response = client.post("/v1/recommend", json=body)
        assert response.status_code == 200, response.text
        answer = response.json()
        check_form(answer, "RecommendAnswer")
        seen = frozenset(event.item for event in impression.history)
        request = Request(impression.history, impression.context, ("item-1",), impression.time_us)
        (expected,) = recommender.recommend([request], 7, Filters(seen, None, {"genres": ["g1", "g2", "g3"]}))
        assert answer["items"] == expected.items
        assert answer["scores"] == pytest.approx(expected.scores, abs=1e-5)
        assert not {"item-1", *seen} & set(answer["items"])
        assert (answer["source"], answer["unknown_history"]) == (expected.source, expected.unknown_history)
        assert answer["bundle"] == bundle.content_hash == response.headers["recdistill-bundle"]
        assert response.headers["recdistill-version"] == "7"
        assert response.headers["content-type"] == "application/json"


def test_items_of_the_history_come_again_only_when_asked_for(student: Student, client: httpx.Client) -> None:
    best = client.post("/v1/recommend", json={"k": 50}).json()["items"]
    history = [{"item": item} for item in best[:3]]
    body = {"history": history, "allow": best[1:4]}
    assert client.post("/v1/recommend", json=body).json()["items"] == [best[3]]
    assert set(client.post("/v1/recommend", json={**body, "repeat": True}).json()["items"]) == set(best[1:4])


def test_a_batch_is_its_requests_one_by_one(student: Student, client: httpx.Client) -> None:
    bodies = [body_of(i, k=1 + n % 5, allow=None) for n, i in enumerate(make_requests(student, 40))]
    batch = client.post("/v1/recommend", json={"requests": bodies})
    assert batch.status_code == 200, batch.text
    check_form(batch.json(), "RecommendAnswers")
    for body, answer in zip(bodies, batch.json()["answers"], strict=True):
        alone = client.post("/v1/recommend", json=body).json()
        assert answer["items"] == alone["items"]
        assert len(answer["items"]) == body["k"]
        assert answer["scores"] == pytest.approx(alone["scores"], abs=1e-5)


def test_nobody_gets_popular_items_and_never_nothing(client: httpx.Client) -> None:
    answer = client.post("/v1/recommend", json={"k": 3}).json()
    assert answer["source"] == "popular"
    assert answer["items"] == ["item-0", "item-1", "item-2"]
    stranger = client.post("/v1/recommend", json={"history": [{"item": "nobody"}], "k": 50}).json()
    assert (stranger["source"], stranger["unknown_history"], len(stranger["items"])) == ("mixed", 1, 50)
    assert client.post("/v1/recommend", json={"allow": []}).json()["items"] == []


def test_rank_orders_candidates_and_names_those_it_does_not_know(student: Student, client: httpx.Client) -> None:
    impression = make_requests(student, 12)[10]
    wanted = ["item-9", "gone", "item-3", "item-4", "item-9", "item-1"]  # item-4 is withdrawn
    body = body_of(impression, candidates=wanted, exclude=["item-1"])
    check_form(body, "RankRequest")
    answer = client.post("/v1/rank", json=body).json()
    check_form(answer, "RankAnswer")
    assert set(answer["items"]) == {"item-9", "item-3"}
    assert answer["unknown"] == ["gone", "item-4"]
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    whole = client.post("/v1/recommend", json=body_of(impression, k=50, repeat=True)).json()
    scores = dict(zip(whole["items"], whole["scores"], strict=True))
    for item, score in zip(answer["items"], answer["scores"], strict=True):
        assert scores.get(item, score) == pytest.approx(score, abs=1e-4)


def test_similar_items(bundle: Bundle, client: httpx.Client) -> None:
    vectors = {item.id: bundle.vectors_NW[slot, :-2] for slot, item in enumerate(bundle.items)}
    one = vectors.pop("item-9")

    def cosine(item: str) -> float:
        other = vectors[item]
        return float(one @ other / (one @ one) ** 0.5 / (other @ other) ** 0.5)

    answers = client.post("/v1/similar", json={"requests": [{"item": "item-9", "k": 5}, {"item": "item-9"}]}).json()
    check_form(answers, "SimilarAnswers")
    best = sorted(vectors, key=cosine, reverse=True)
    assert answers["answers"][0]["items"] == best[:5]
    assert answers["answers"][1]["items"] == best[:10]
    assert answers["answers"][0]["scores"] == pytest.approx([cosine(item) for item in best[:5]], abs=1e-5)


def test_model_and_probes(bundle: Bundle, client: httpx.Client) -> None:
    model = client.get("/v1/model").json()
    check_form(model, "ModelForm")
    assert (model["bundle"], model["version"], model["items"]) == (bundle.content_hash, "7", len(bundle.items))
    assert model["overlay"] == model["base"] == bundle.manifest.content.base_position
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    head = client.head("/livez")
    assert (head.status_code, head.content) == (200, b"")


def test_without_a_champion_it_lives_but_is_not_ready() -> None:
    with serving(Ranker()) as address, httpx.Client(base_url=address) as client:
        assert client.get("/livez").status_code == 200
        for answer in (client.get("/readyz"), client.get("/v1/model"), client.post("/v1/recommend", json={})):
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert "no champion" in answer.json()["detail"]


def test_metrics_count_what_happened(bundle: Bundle) -> None:
    ranker = Ranker()
    ranker.swap(Recommender(bundle), "1")
    with serving(ranker, SETTINGS) as address, httpx.Client(base_url=address) as client:
        for _ in range(3):
            client.post("/v1/recommend", json={"history": [{"item": "item-2"}, {"item": "nobody"}]})
        client.post("/v1/recommend", json={"requests": [{}, {}]})
        client.post("/v1/recommend", json={"k": 0})
        client.get("/no/such/path")
        client.get("/no/other/path")
        text = client.get("/metrics").text
    found = {
        (s.name, *sorted(s.labels.values())): s.value for f in text_string_to_metric_families(text) for s in f.samples
    }
    assert found["recdistill_requests_total", "/v1/recommend", "200"] == 4
    assert found["recdistill_requests_total", "/v1/recommend", "422"] == 1
    assert found["recdistill_requests_total", "404", "other"] == 2
    assert found["recdistill_request_seconds_count", "/v1/recommend"] == 5
    assert found["recdistill_answers_total", "personal"] == 3
    assert found["recdistill_answers_total", "mixed"] == 2
    assert found["recdistill_unknown_history_total",] == 3
    assert found["recdistill_swaps_total",] == 1
    assert found["recdistill_overlay_position",] == bundle.manifest.content.base_position
    assert found["recdistill_catalogue_items",] == len(bundle.items)
    assert found["recdistill_ready",] == 1


# The description


def test_the_schema_in_the_tree_is_current() -> None:
    text = (ROOT / "schemas" / "http.schema.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(openapi.schema())), "type: make docs"
    jsonschema.Draft202012Validator.check_schema(openapi.schema())


def test_the_openapi_document_holds_together(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    served = {"/v1/recommend", "/v1/rank", "/v1/similar", "/v1/model", "/livez", "/readyz", "/metrics", "/docs"}
    assert set(document["paths"]) == served | {"/openapi.json"}
    for reference in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)):
        jsonschema.Draft202012Validator.check_schema(document["components"]["schemas"][reference])
    for path in served & {"/v1/recommend", "/v1/rank", "/v1/similar"}:
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        whole = {**content["schema"], "components": document["components"]}
        jsonschema.validate(content["example"], whole)
        jsonschema.validate({"requests": [content["example"]]}, whole)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"requests": [content["example"]], "k": 3}, whole)
    for path in served:
        if "get" in document["paths"][path]:
            answer = client.get(path)
            kinds = document["paths"][path]["get"]["responses"]["200"]["content"]
            assert answer.headers["content-type"].split(";")[0] in kinds


def test_the_page_needs_no_other_host(client: httpx.Client) -> None:
    answer = client.get("/", follow_redirects=True)
    assert answer.url.path == "/docs"
    assert not re.findall(r"(?:https?:)?//\w", answer.text)
    policy = answer.headers["content-security-policy"]
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode() in policy


# What is wrong

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
]  # fmt: skip


def check_problem(status: int, headers: Any, content: bytes) -> dict[str, Any]:
    problem: dict[str, Any] = json.loads(content)
    check_form(problem, "ProblemForm")
    assert headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["detail"].isprintable()
    assert len(problem["detail"]) <= 301
    return problem


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
        ("POST", "/v1/recommend", {}, b'{"context": {"a": "' + b"x" * 70_000 + b'"}}', 413),
        ("POST", "/v1/recommend", {}, b" " * 400_000, 413),
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
    assert len(client.post("/v1/recommend", content=parts).json()["items"]) == 2
    many = (b" " * 10_000 for _ in range(30))
    answer = client.post("/v1/recommend", content=many)
    assert answer.status_code == 413
    for kind in ("application/json; charset=UTF-8", "application/vnd.api+json"):
        assert client.post("/v1/recommend", content=b"{}", headers={"content-type": kind}).status_code == 200


def test_a_body_that_does_not_arrive(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "BODY_S", 0.2)
    ranker = Ranker()
    ranker.swap(Recommender(bundle))
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n"
    with serving(ranker) as address:
        where = (urlsplit(address).hostname, urlsplit(address).port)
        with socket.create_connection(where, timeout=5) as slow:
            slow.sendall(head + b'{"k"')
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        for part in (head[:20], head, head + b'{"k": 3'):
            with socket.create_connection(where, timeout=5) as gone:
                gone.sendall(part)
        assert httpx.get(f"{address}/readyz").status_code == 200


# Bodies nobody would think of


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


def test_no_body_makes_the_server_fail(student: Student, bundle: Bundle, ranker: Ranker, client: httpx.Client) -> None:
    app = create_app(ranker, SETTINGS)
    rng, bodies, seen = random.Random(20), whole_bodies(student), {}
    paths = ["/v1/recommend", "/v1/rank", "/v1/similar"]

    async def ask(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await app({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, sent[1]["body"]

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
        answer = client.post(path, content=body)
        assert answer.status_code in (200, 400, 422), (answer.status_code, path, body)
    assert client.post("/v1/recommend", json={}).status_code == 200


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


# Failures, waiting, stopping


class Slow:
    """A recommender that takes its time, or fails."""

    def __init__(self, inner: Recommender, wait_s: float, error: Exception | None = None) -> None:
        self.inner, self.wait_s, self.error = inner, wait_s, error
        self.began = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def recommend(self, *args: Any) -> Any:
        self.began.set()
        time.sleep(self.wait_s)
        if self.error is not None:
            raise self.error
        return self.inner.recommend(*args)


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


def test_long_work_holds_nobody_up(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "IN_LOOP", 0)
    slow = Slow(Recommender(bundle), 1.0)
    ranker = Ranker()
    ranker.swap(slow)  # type: ignore[arg-type]
    with serving(ranker) as address, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"{address}/v1/recommend", json={"requests": [{}, {}]})
        assert slow.began.wait(5)
        began = time.perf_counter()
        assert httpx.get(f"{address}/livez").status_code == 200
        assert time.perf_counter() - began < 0.6
        assert asked.result().status_code == 200


def test_stopping_finishes_what_is_in_flight(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "IN_LOOP", 0)
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
    with bind(RankSettings(port=0)) as taken, pytest.raises(ConfigError, match=r"^rank\.port: .* cannot be had"):
        bind(RankSettings(port=taken.getsockname()[1]))
    with pytest.raises(ConfigError, match=r"^rank\.host: "):
        bind(RankSettings(host="no.such.host.invalid"))


# Writing back


def test_a_share_of_the_answers_is_kept(student: Student, bundle: Bundle, ranker: Ranker) -> None:
    kept: dict[str, Impression] = {}

    def keep(impression: Impression) -> bool:
        if len(kept) >= 60:
            return False
        kept[impression.id] = impression
        return True

    settings = msgspec.structs.replace(SETTINGS, write_back=0.5)
    asked = make_requests(student, 15)[10:]
    with serving(ranker, settings, keep=keep) as address, httpx.Client(base_url=address) as client:
        answers = []
        for n in range(200):
            impression = asked[n % len(asked)]
            answers.append(
                (impression, client.post("/v1/recommend", json=body_of(impression, exclude=["item-2"])).json())
            )
    noted = [(impression, answer) for impression, answer in answers if "impression" in answer]
    assert len(noted) == len(kept) == 60  # a queue that is full costs the note, not the answer
    for impression, answer in noted:
        written = kept[answer["impression"]]
        assert [candidate.item for candidate in written.candidates] == answer["items"]
        assert [candidate.logged_score for candidate in written.candidates] == answer["scores"]
        assert (written.origin, written.served_by) == ("student", bundle.content_hash)
        assert (written.history, written.exclude) == (impression.history, ("item-2",))
        assert written.time_us == impression.time_us or (impression.time_us == 0 and written.time_us > NOW_US)
        assert decode(Impression, encode(written)).served_by == bundle.content_hash


# Swapping


@pytest.mark.slow
def test_swaps_under_load_lose_nothing_and_mix_nothing(tmp_path: Path) -> None:
    recommenders = {}
    for seed in (1, 2):
        student = make_student(400, seed=seed)
        made = student.export(tmp_path / str(seed), golden_requests=[], popular=[("item-1", 1.0)])
        recommenders[made.content_hash] = Recommender(made)
    hashes = list(recommenders)
    impressions = make_requests(make_student(400, seed=1), 30)
    bodies = [body_of(impression, k=10) for impression in impressions]
    expected = {
        name: [
            one.recommend(
                [Request(i.history, i.context, (), i.time_us)], 10, Filters(frozenset(e.item for e in i.history))
            )[0]
            for i in impressions
        ]
        for name, one in recommenders.items()
    }
    ranker = Ranker()
    ranker.swap(recommenders[hashes[0]], "0")
    answers: list[tuple[int, httpx.Response]] = []
    stop = threading.Event()

    async def load(address: str) -> None:
        limits = httpx.Limits(max_connections=16)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=30) as client:

            async def one(worker: int) -> None:
                n = worker
                while not stop.is_set():
                    which = n % len(bodies)
                    if n % 40 == 39:
                        answer = await client.post("/v1/recommend", json={"requests": bodies})
                    else:
                        answer = await client.post("/v1/recommend", json=bodies[which])
                    answers.append((which, answer))
                    n += 1

            await asyncio.gather(*(one(worker) for worker in range(12)))

    with serving(ranker) as address:
        worker = threading.Thread(target=functools.partial(asyncio.run, load(address)))
        worker.start()
        for n in range(1, 21):
            time.sleep(0.15)
            ranker.swap(recommenders[hashes[n % 2]], str(n))
        time.sleep(0.15)
        stop.set()
        worker.join(30)
    assert len(answers) >= 100
    assert {answer.status_code for _, answer in answers} == {200}
    assert {answer.headers["recdistill-bundle"] for _, answer in answers} == set(hashes)
    for which, answer in answers:
        name = answer.headers["recdistill-bundle"]
        assert int(answer.headers["recdistill-version"]) % 2 == hashes.index(name)
        found = answer.json()
        for row, one in enumerate(found.get("answers", [found])):
            wanted = expected[name][row if "answers" in found else which]
            assert one["bundle"] == name
            assert one["scores"] == pytest.approx(wanted.scores, abs=1e-4)
            assert set(one["items"]) == set(wanted.items)


# The island


def test_it_serves_without_torch(bundle: Bundle) -> None:
    code = f"""
import sys, threading, urllib.request
from pathlib import Path
from recdistill.config import LogSettings, RankSettings, Settings
from recdistill.loops.rank import run
stop, answers = threading.Event(), []
def started(host, port):
    def ask():
        request = urllib.request.Request(f"http://{{host}}:{{port}}/v1/recommend", b'{{"k": 4}}',
                                         {{"Content-Type": "application/json"}})
        answers.append(urllib.request.urlopen(request, timeout=20).read())
        stop.set()
    threading.Thread(target=ask).start()
settings = Settings(rank=RankSettings(port=0), log=LogSettings(path="no/such/log.sqlite"))
run(settings, stop=stop, bundle=Path({str(bundle.path)!r}), started=started)
assert answers[0].count(b"item-") == 4, answers
print(*[name for name in sys.modules if name.split(".")[0] in ("torch", "torchrec", "fbgemm_gpu", "onnx", "pandas")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
