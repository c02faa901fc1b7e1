"""Bodies for the endpoint, and what its answers must look like."""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema
import msgspec

from recdistill.records import Impression
from recdistill.serve.http import Limits, openapi

SMALL = Limits(max_k=50, max_batch=40, max_body=65_536)


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


def check_problem(status: int, headers: Any, content: bytes) -> dict[str, Any]:
    problem: dict[str, Any] = json.loads(content)
    check_form(problem, "ProblemForm")
    assert headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["detail"].isprintable()
    assert len(problem["detail"]) <= 301
    return problem
