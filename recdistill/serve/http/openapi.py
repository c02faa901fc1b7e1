"""Describes the endpoint: an OpenAPI 3.1 document, JSON Schemas of its requests and answers, and a page for people.

All of it is made from the structs of `forms`, `answers` and `problem`. The page loads nothing from another host.

It does not know what serves.

Example:
    >>> sorted(document()["paths"])[-3:]
    ['/v1/rank', '/v1/recommend', '/v1/similar']
"""

from __future__ import annotations

import base64
import hashlib
import html
from typing import Any, Final

import msgspec

from recdistill import __version__
from recdistill.serve.http.forms import RANK, RECOMMEND, SIMILAR, Form, ModelForm
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
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not sent as plain JSON.",
    "422": "A field is wrong; `field` names it.",
    "503": "There is no champion yet.",
}


def _components(template: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    forms = [form for form, *_ in _OPERATIONS.values()]
    kinds = [kind for form in forms for kind in (form.kind, form.batch, form.answer, form.answers)]
    found, parts = msgspec.json.schema_components([*kinds, ModelForm, ProblemForm], ref_template=template)
    return list(found), dict(sorted(parts.items()))


def schema() -> dict[str, Any]:
    """JSON Schema of every body. `schemas/http.schema.json` is this schema."""
    _, parts = _components("#/$defs/{name}")
    bodies = [kind.__name__ for form, *_ in _OPERATIONS.values() for kind in (form.kind, form.batch)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "recdistill over HTTP",
        "description": "Bodies of requests. The definitions also hold the answers, the problem and the model. Limits "
        "of k, of a batch and of a body are settings. Rules that a schema cannot say are in "
        "recdistill/records/checks.py.",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in bodies],
        "$defs": parts,
    }


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    template = "#/components/schemas/{name}"
    _, parts = _components(template)

    def ref(name: str) -> dict[str, str]:
        return {"$ref": template.format(name=name)}

    def answer(text: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"description": text, "content": {kind: {"schema": body}}}

    refusals = {code: answer(text, "application/problem+json", ref("ProblemForm")) for code, text in _REFUSALS.items()}
    named = {
        "recdistill-bundle": {"description": "Content hash of the bundle that answered.", "schema": {"type": "string"}},
        "recdistill-version": {"description": "Its number in the registry.", "schema": {"type": "string"}},
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
            "description": "Recommendations of a distilled student.",
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
    _, parts = _components("{name}")
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
