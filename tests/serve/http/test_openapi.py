"""The description of the endpoint: against JSON Schema's own validator, and against what is served."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import httpx
import jsonschema
import pytest

from recdistill.serve.http import openapi

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


def test_the_page_needs_no_other_host(client: httpx.Client) -> None:
    answer = client.get("/", follow_redirects=True)
    assert answer.url.path == "/docs"
    assert not re.findall(r"(?:https?:)?//\w", answer.text)
    policy = answer.headers["content-security-policy"]
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode() in policy
