"""The description of the endpoint: against JSON Schema's own validator, and against what is served."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from support.http_server import serving

from recdistill.bundle import Bundle
from recdistill.records import MAX_TIME_US
from recdistill.serve import Ranker, Recommender
from recdistill.serve.http import Limits, openapi

ROOT = Path(__file__).resolve().parents[3]


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


@pytest.mark.parametrize(
    ("path", "body"), [("recommend", {}), ("rank", {"candidates": ["item-1"]}), ("similar", {"item": "item-1"})]
)
def test_each_head_line_of_ours_is_described(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    said = client.get("/openapi.json").json()["paths"][f"/v1/{path}"]["post"]["responses"]["200"]["headers"]
    answer = client.post(f"/v1/{path}", json=body)
    sent = {name: text for name, text in answer.headers.items() if name.startswith("recdistill-")}
    assert set(sent) == set(said)
    for name, text in sent.items():
        assert said[name]["description"]
        jsonschema.validate(text, said[name]["schema"])
    both = jsonschema.Draft202012Validator(said["recdistill-side"]["schema"])
    assert both.is_valid("champion, canary")
    assert not both.is_valid("nobody")


SAYS = (
    "not oldest first",
    "later than its request",
    "is not in the catalogue",
    "no item has this attribute",
    "may hold 20 values",
)
"""What a schema cannot say, and the endpoint does; beside a context value that does not fit its field."""

SHARP = Limits(max_k=20, max_batch=3, max_where=3, max_where_values=20)
ODD: list[Any] = [
    *(0, 1, -1, 3, 20, 21, 1.5, 10**15, MAX_TIME_US, MAX_TIME_US + 1, 1e39, -1e39, 1e300, 10**400),
    *("", "item-1", "a" * 512, "a" * 513, "nul\0", "é" * 512, "x" * 65_536, "x" * 65_537, True, None),
    *([], {}, [1, 2.5], ["a", "b"], ["a", 1], [True], [[]], ["y"] * 20, ["y"] * 21, [1e39], {"a": {}}),
    *([{"item": "item-1"}], [{"item": "", "time_us": 1}], [{"item": "a", "time_us": -1}], [{"action": "click"}]),
    *([{"item": "a", "action": "b" * 513}], [{"item": "a", "time_us": MAX_TIME_US + 1}], [{"item": "a", "more": 1}]),
    *({"genres": "g1"}, {"genres": ["g1"], "year": 7}, {"": 1}, {"n" * 513: 1}, {"a": 1, "b": 2, "c": 3, "d": 4}),
    *({"device": "phone"}, {"hour": 3}, {f"f{n}": 1 for n in range(257)}, {"place": [1.0, 0.5]}, {"a\0": 1}),
]


def bodies_of(rng: random.Random) -> Iterator[tuple[str, Any]]:
    """Bodies with each field in each odd form, and then several at once; also in batches."""
    fields = {
        "/v1/recommend": ["history", "context", "exclude", "time_us", "k", "allow", "where", "repeat", "more"],
        "/v1/rank": ["history", "context", "exclude", "time_us", "candidates", "k"],
        "/v1/similar": ["item", "k", "exclude", "allow", "where", "history"],
    }
    least: dict[str, Any] = {
        "/v1/recommend": {},
        "/v1/rank": {"candidates": ["item-1"]},
        "/v1/similar": {"item": "item-1"},
    }
    for path, names in fields.items():
        for name in names:
            yield from ((path, {**least[path], name: value}) for value in ODD)
        yield from ((path, body) for body in (None, [], "x", 3, {"requests": None}, {"requests": []}))
        for count in range(1, 5):
            yield path, {"requests": [least[path]] * count}
        for _ in range(150):
            some = {name: rng.choice(ODD) for name in rng.sample(names, 2)}
            yield path, {"requests": [{**least[path], **some}, least[path]]}


@pytest.mark.slow
def test_the_schema_says_exactly_what_the_endpoint_takes(bundle: Bundle) -> None:
    """In both directions: what it forbids is refused; what it allows is answered, but for the rules that it names."""
    ranker = Ranker()
    ranker.swap(Recommender(bundle))
    taken = refused = 0
    with serving(ranker, SHARP) as address, httpx.Client(base_url=address) as own:
        document = own.get("/openapi.json").json()
        checks = {}
        for path, what in document["paths"].items():
            if "post" in what:
                schema = what["post"]["requestBody"]["content"]["application/json"]["schema"]
                checks[path] = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
        rng = random.Random(7)
        bodies = list(bodies_of(rng))
        fit: dict[str, list[dict[str, Any]]] = {
            path: [
                b for p, b in bodies if p == path and isinstance(b, dict) and "requests" not in b and one.is_valid(b)
            ]
            for path, one in checks.items()
        }
        for path, some in fit.items():  # several odd fields at once, each of which the schema allows
            bodies += [(path, rng.choice(some) | rng.choice(some)) for _ in range(100)]
            bodies += [(path, {"requests": [rng.choice(some) for _ in range(3)]}) for _ in range(30)]
        for path, body in bodies:
            answer = own.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
            if checks[path].is_valid(body):
                taken += 1
                if answer.status_code == 200:
                    continue
                problem = answer.json()
                known = any(rule in problem["detail"] for rule in SAYS) or ".context" in f".{problem['field']}"
                known &= "context" not in problem["field"] or "context." in problem["field"]
                assert (answer.status_code, known) == (422, True), (path, str(body)[:300], problem)
            else:
                refused += 1
                assert answer.status_code in (400, 422), (path, str(body)[:300])
    assert taken > 300
    assert refused > 300


def test_the_page_needs_no_other_host(client: httpx.Client) -> None:
    answer = client.get("/", follow_redirects=True)
    assert answer.url.path == "/docs"
    assert not re.findall(r"(?:https?:)?//\w", answer.text)
    policy = answer.headers["content-security-policy"]
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode() in policy
