"""The routes on which the endpoint reports about itself: it runs, it is ready, what serves, and its description.

It does not know how a request is answered.

Example:
    >>> [route.path for route in routes(Ranker(), Limits())][:3]
    ['/', '/livez', '/readyz']
"""

from __future__ import annotations

import time
from functools import partial

import msgspec

from recdistill.serve.http import openapi
from recdistill.serve.http.asgi import JSON, TEXT, Reply
from recdistill.serve.http.forms import ModelForm
from recdistill.serve.http.limits import Limits
from recdistill.serve.http.problem import Problem
from recdistill.serve.http.routes import Route, get
from recdistill.serve.ranker import Ranker


def routes(ranker: Ranker, limits: Limits) -> list[Route]:
    """The routes that report about the endpoint and about what serves. The description holds the limits."""
    spec, page = msgspec.json.encode(openapi.document(limits)), openapi.page().encode()
    return [
        get("/", lambda: Reply(307, TEXT, b"", [(b"location", b"/docs")])),
        get("/livez", lambda: Reply(200, TEXT, b"ok\n")),
        get("/readyz", partial(_ready, ranker)),
        get("/v1/model", partial(_model, ranker)),
        get("/openapi.json", lambda: Reply(200, JSON, spec)),
        get("/docs", lambda: Reply(200, b"text/html; charset=utf-8", page, openapi.PAGE_HEADERS)),
    ]


def _ready(ranker: Ranker) -> Reply:
    if ranker.stopping:
        raise Problem(503, "the process is stopping")
    notes = list(dict(ranker.notes).values())
    if ranker.champion is None:
        raise _no_champion("; ".join(notes))
    if ranker.troubles:
        raise Problem(503, "; ".join([*dict(ranker.troubles).values(), *notes]))
    return Reply(200, TEXT, "".join(f"{line}\n" for line in ["ok", *notes]).encode())


def _model(ranker: Ranker) -> Reply:
    champion = ranker.champion
    if champion is None:
        raise _no_champion()
    recommender, caught_up, now = champion.recommender, ranker.caught_up, time.monotonic()
    manifest = recommender.bundle.manifest
    form = ModelForm(
        bundle=recommender.content_hash,
        version=champion.version,
        items=recommender.live,
        dim=manifest.content.dim,
        base=manifest.content.base_position,
        overlay=recommender.position,
        items_age_s=None if caught_up is None else round(now - caught_up, 3),
        serving_s=round(now - champion.since, 3),
        provenance=manifest.provenance,
    )
    return Reply(200, JSON, msgspec.json.encode(form))


def _no_champion(why: str = "") -> Problem:
    said = f"there is no champion yet: {why}" if why else "there is no champion yet"
    return Problem(503, said, headers=[(b"retry-after", b"1")])
