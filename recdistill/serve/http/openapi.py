"""Describes the endpoint: an OpenAPI 3.1 document, JSON Schemas of its requests and answers, and a page for people.

All of it is made from the structs of `forms`, `answers` and `problem`, the rules for records, and the limits of the
endpoint. The schema is exact: `tests/serve/http/test_openapi.py` makes bodies from it and sends them to the endpoint.
Some rules cannot be put into a schema. They are in `CANNOT_SAY`. The page loads nothing from another host.

It does not know what serves.

Example:
    >>> sorted(document()["paths"])[-3:]
    ['/v1/rank', '/v1/recommend', '/v1/similar']
"""

from __future__ import annotations

import base64
import hashlib
import html
import sys
from typing import Any, Final

import msgspec

from recdistill import __version__
from recdistill.records import MAX_FIELDS, MAX_HISTORY, MAX_ID, MAX_TEXT, MAX_TIME_US, MAX_VALUES
from recdistill.serve.http.forms import RANK, RECOMMEND, SIMILAR, Form, ModelForm
from recdistill.serve.http.limits import Limits
from recdistill.serve.http.problem import ProblemForm

_HISTORY: Final = [{"item": "42", "time_us": 1_700_000_000_000_000, "action": "click"}]
_OPERATIONS: Final[dict[str, tuple[Form[Any], str, dict[str, Any]]]] = {
    "/v1/recommend": (
        RECOMMEND,
        "The best k items for a history and a context.",
        {"history": _HISTORY, "k": 10},
    ),
    "/v1/rank": (
        RANK,
        "The given candidates, best first.",
        {"history": _HISTORY, "candidates": ["7", "8"]},
    ),
    "/v1/similar": (SIMILAR, "The items that are most similar to one.", {"item": "42", "k": 10}),
}
_GET: Final = {
    "/v1/model": ("What serves now.", "application/json"),
    "/livez": ("The process runs.", "text/plain"),
    "/readyz": ("It has a champion and takes requests. The status is 503 until then.", "text/plain"),
    "/metrics": ("For Prometheus.", "text/plain"),
    "/openapi.json": ("This document.", "application/json"),
    "/docs": ("This document for people.", "text/html"),
}
_REFUSALS: Final = {
    "400": "The body is not JSON.",
    "403": "A web page of another origin asks, and `rank.origins` does not name it.",
    "408": "The head or the body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not sent as plain JSON.",
    "422": "A field is wrong; `field` names it.",
    "429": "Too much waits already. `retry-after` says when to ask again.",
    "431": "The head is too large.",
    "503": "There is no champion yet, or the server has too much to do. `retry-after` says when to ask again.",
}
CANNOT_SAY: Final = (
    "A whole number is written without a point: 1, not 1.0.",
    "A history is oldest first. No event is later than its request.",
    "A context value fits its field of the feature specification.",
    "`item` of /v1/similar is in the catalogue. An item of the catalogue has each attribute that `where` names.",
    "`where` has a limit for the values of all its attributes together: `rank.max_where_values`.",
    "A body has at most `rank.max_body` bytes.",
)
_ID: Final = {"minLength": 1, "maxLength": MAX_ID, "pattern": "^[^\\u0000]*$"}
_TIME: Final = {"minimum": 0, "maximum": MAX_TIME_US}
_FLOAT32: Final = 3.4028234663852886e38


def _components(template: str, limits: Limits) -> dict[str, Any]:
    forms = [form for form, *_ in _OPERATIONS.values()]
    kinds = [kind for form in forms for kind in (form.kind, form.batch, form.answer, form.answers)]
    _, parts = msgspec.json.schema_components([*kinds, ModelForm, ProblemForm], ref_template=template)
    _say_rules(parts, limits)
    return dict(sorted(parts.items()))


def _say_rules(parts: dict[str, Any], limits: Limits) -> None:
    """Adds the rules that the types of the structs do not say."""
    event = parts["Event"]["properties"]
    event["item"] |= _ID | {"description": "Id of the item."}
    event["time_us"] |= _TIME | {"description": "Time of the event, in microseconds since 1970. 0: not known."}
    event["action"] |= {
        **_ID,
        "minLength": 0,
        "description": "What the user did with the item, such as click. Empty: not known.",
    }
    for form, *_ in _OPERATIONS.values():
        fields = parts[form.kind.__name__]["properties"]
        parts[form.batch.__name__]["properties"]["requests"] |= {"minItems": 1, "maxItems": limits.max_batch}
        for name, rule in {
            "k": {"minimum": 1, "maximum": limits.max_k},
            "time_us": _TIME,
            "history": {"maxItems": MAX_HISTORY},
            "candidates": {"minItems": 1},
            "context": _values(MAX_FIELDS, MAX_VALUES),
            "where": _values(limits.max_where, min(MAX_VALUES, limits.max_where_values)),
        }.items():
            if name in fields:
                fields[name] |= rule


def _values(fields: int, members: int) -> dict[str, Any]:
    """The rules for attributes or a context."""
    text = {"type": "string", "maxLength": MAX_TEXT}
    number = {"type": "number", "minimum": -_FLOAT32, "maximum": _FLOAT32}
    lists = [{"type": "array", "maxItems": members, "items": one} for one in (text, number)]
    alone = {"type": "number", "minimum": -sys.float_info.max, "maximum": sys.float_info.max}
    return {
        "maxProperties": fields,
        "propertyNames": _ID,
        "additionalProperties": {"anyOf": [text, alone, {"type": "boolean"}, *lists]},
    }


def schema(limits: Limits | None = None) -> dict[str, Any]:
    """JSON Schema of every body. `schemas/http.schema.json` is this schema with the default limits."""
    parts = _components("#/$defs/{name}", limits or Limits())
    bodies = [kind.__name__ for form, *_ in _OPERATIONS.values() for kind in (form.kind, form.batch)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "recdistill over HTTP",
        "description": "Bodies of requests. The definitions also hold the answers, the problem and the model. The "
        "limits are the default ones; they are settings. A schema cannot say these rules: " + " ".join(CANNOT_SAY),
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in bodies],
        "$defs": parts,
    }


def document(limits: Limits | None = None) -> dict[str, Any]:
    """The OpenAPI document of an endpoint with these limits."""
    template = "#/components/schemas/{name}"
    parts = _components(template, limits or Limits())

    def ref(name: str) -> dict[str, str]:
        return {"$ref": template.format(name=name)}

    def answer(text: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"description": text, "content": {kind: {"schema": body}}}

    refusals = {code: answer(text, "application/problem+json", ref("ProblemForm")) for code, text in _REFUSALS.items()}
    named = {
        "recdistill-bundle": {"description": "Content hash of the bundle that answered.", "schema": {"type": "string"}},
        "recdistill-version": {"description": "Its number in the registry.", "schema": {"type": "string"}},
        "recdistill-side": {
            "description": "Its role: `champion` or `canary`. Where both answered parts of a batch, each of these "
            "headers names both, separated by a comma and a space.",
            "schema": {"type": "string", "pattern": "^(champion|canary)(, (champion|canary))?$"},
        },
    }
    paths: dict[str, Any] = {}
    for path, (form, text, example) in _OPERATIONS.items():
        body = {"oneOf": [ref(form.kind.__name__), ref(form.batch.__name__)]}
        found = {"oneOf": [ref(form.answer.__name__), ref(form.answers.__name__)]}
        paths[path] = {
            "post": {
                "operationId": path.removeprefix("/v1/"),
                "summary": text,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": body, "example": example}},
                },
                "responses": {"200": answer("Items.", "application/json", found) | {"headers": named}, **refusals},
            }
        }
    for path, (text, kind) in _GET.items():
        shape = ref("ModelForm") if path == "/v1/model" else {"type": "object" if "json" in kind else "string"}
        paths[path] = {
            "get": {
                "operationId": path.strip("/").replace("/", "_").replace(".", "_"),
                "summary": text,
                "responses": {"200": answer(text, kind, shape)}
                | ({"503": refusals["503"]} if path in ("/readyz", "/v1/model") else {}),
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "recdistill",
            "version": __version__,
            "description": "Recommendations of a distilled student. The schemas cannot say these rules: "
            + " ".join(CANNOT_SAY),
        },
        "paths": paths,
        "components": {"schemas": parts},
    }


_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2330;"
    "background:#fff}h2{font:600 1.05rem ui-monospace,monospace;margin-top:2.2rem}table{border-collapse:collapse;"
    "width:100%;display:block;overflow-x:auto}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;"
    "border-bottom:1px solid #8884}code,pre,textarea{font:.85rem ui-monospace,monospace}textarea{width:100%;"
    "box-sizing:border-box;height:6.5rem}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8881;padding:.6rem}"
    "@media(prefers-color-scheme:dark){body{color:#e6e8ee;background:#14171d}textarea{background:#1d222b;color:inherit}}"
)
_SCRIPT: Final = (
    'for(const f of document.querySelectorAll("form"))f.addEventListener("submit",async e=>{e.preventDefault();'
    'const o=f.querySelector("pre");const t=performance.now();try{const r=await fetch(f.dataset.path,{method:"POST",'
    'headers:{"content-type":"application/json"},body:f.querySelector("textarea").value});const j=await r.json();'
    'o.textContent=r.status+" in "+(performance.now()-t).toFixed(1)+" ms\\n"+JSON.stringify(j,null,1)}'
    "catch(x){o.textContent=String(x)}});"
)


def _allowed(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


PAGE_HEADERS: Final = [
    (
        b"content-security-policy",
        f"default-src 'none'; connect-src 'self'; style-src {_allowed(_STYLE)}; script-src {_allowed(_SCRIPT)}".encode(
            "ascii"
        ),
    )
]


def page() -> str:
    """The page at `/docs`: every path, the fields of every body, and a box to try each in."""
    parts = _components("{name}", Limits())
    sections = []
    for path, (form, text, example) in _OPERATIONS.items():
        shown = html.escape(msgspec.json.format(msgspec.json.encode(example), indent=1).decode())
        label = html.escape(f"Body for {path}")
        sections.append(
            f"<h2>POST {path}</h2><p>{html.escape(text)} Several at once: "
            f"<code>{{&quot;requests&quot;: [...]}}</code>, answered by "
            f"<code>{{&quot;answers&quot;: [...]}}</code>.</p>{_table(parts[form.kind.__name__])}"
            f'<form data-path="{path}"><textarea aria-label="{label}" spellcheck="false">{shown}</textarea>'
            f"<button>Send</button><pre></pre></form><p>The answer:</p>{_table(parts[form.answer.__name__])}"
        )
    sections += [
        f'<h2>GET <a href="{path}">{path}</a></h2><p>{html.escape(text)}</p>' for path, (text, _) in _GET.items()
    ]
    refused = "".join(f"<tr><td>{code}<td>{html.escape(text)}" for code, text in _REFUSALS.items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>recdistill over HTTP</title><style>{_STYLE}</style><h1>recdistill over HTTP</h1>"
        f"<p>Refusals are <code>application/problem+json</code>:</p><table>{refused}</table>"
        f"<p>{html.escape(' '.join(CANNOT_SAY))}</p>"
        f"{''.join(sections)}<script>{_SCRIPT}</script></html>\n"
    )


def _table(part: dict[str, Any]) -> str:
    rows = []
    for name, field in part["properties"].items():
        need = (
            "required"
            if name in part.get("required", ())
            else "default " + msgspec.json.encode(field.get("default")).decode()
        )
        about = field.get("description", "") or next(
            (a["description"] for a in field.get("anyOf", ()) if "description" in a), ""
        )
        rows.append(f"<tr><td><code>{name}</code><td>{html.escape(need)}<td>{html.escape(about)}")
    return f"<table>{''.join(rows)}</table>"
