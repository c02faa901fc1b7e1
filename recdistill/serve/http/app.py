"""Answers over HTTP: an ASGI application around whichever recommender serves now.

| path | |
| --- | --- |
| `POST /v1/recommend` | the best k items for a history and a context |
| `POST /v1/rank` | the given candidates, best first |
| `POST /v1/similar` | the items most like one |
| `GET /v1/model` | what serves now, how fresh its catalogue is |
| `GET /livez`, `/readyz` | the process is there; it has a champion and takes requests |
| `GET /metrics`, `/openapi.json`, `/docs` | for Prometheus, programs and people |

A request reads the reference to the serving recommender once and is answered by it alone, so a swap never shows in the
middle of an answer. Small requests are answered in the event loop's own thread, which is faster than handing them
over; what takes long (a batch, a large catalogue) goes to a pool.

It does not know registries or logs: whoever follows them calls `Ranker.swap`.

Example:
    >>> import asyncio
    >>> from recdistill.config import RankSettings
    >>> app = create_app(Ranker(), RankSettings())
    >>> sent = []
    >>> async def ask() -> None:
    ...     async def receive(): return {"type": "http.request", "body": b"", "more_body": False}
    ...     async def send(message): sent.append(message)
    ...     await app({"type": "http", "method": "GET", "path": "/readyz", "headers": []}, receive, send)
    >>> asyncio.run(ask())
    >>> sent[0]["status"]
    503
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from recdistill.config import RankSettings
from recdistill.errors import RequestError
from recdistill.records import Candidate, Impression
from recdistill.serve.http import openapi
from recdistill.serve.http.forms import (
    RANK,
    RECOMMEND,
    SIMILAR,
    Body,
    ModelForm,
    Problem,
    RankAnswer,
    RankRequest,
    RecommendAnswer,
    RecommendRequest,
    SimilarAnswer,
    SimilarRequest,
)
from recdistill.serve.http.metrics import CONTENT_TYPE, Metrics
from recdistill.serve.recommender import Answer, Recommender

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

BODY_S: Final = 10.0  # a body that takes longer to arrive is given up
DRAIN: Final = 8  # so many times the largest body is read and dropped, so that its sender sees the answer
IN_LOOP: Final = 150_000  # requests x items up to which a body is answered in the event loop's own thread
JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"


@dataclass(frozen=True)
class Champion:
    """A recommender that serves, under its number in the registry, since a time of `time.monotonic`."""

    recommender: Recommender
    version: str
    since: float


class Ranker:
    """The one reference to what serves, and what is counted about it. Any thread may swap or read.

    Args:
        counts: Counts to add to; a new one when None.
    """

    def __init__(self, counts: Counter[str] | None = None) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.champion: Champion | None = None
        self.stopping = False
        self.caught_up: float | None = None
        """When (`time.monotonic`) the catalogue was last seen to hold all of `items`."""

    def swap(self, recommender: Recommender, version: str = "") -> None:
        """Makes a recommender the one that answers, from the next request on."""
        self.champion = Champion(recommender, version, time.monotonic())
        self.counts["swaps"] += 1

    def gauges(self) -> dict[str, float]:
        """What Prometheus is told beside the counts."""
        champion = self.champion
        found = {"ready": float(champion is not None and not self.stopping)}
        if champion is not None:
            found |= {
                "overlay_position": float(champion.recommender.position),
                "catalogue_items": float(champion.recommender.live),
                "serving_seconds": time.monotonic() - champion.since,
            }
        if self.caught_up is not None:
            found["items_age_seconds"] = time.monotonic() - self.caught_up
        return found


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    kind: bytes
    body: bytes
    headers: Headers = []  # noqa: RUF012 - never changed


Keep = Callable[[Impression], bool]


class App:
    """The ASGI application.

    Args:
        ranker: What serves.
        settings: Limits, and the share of answers that is kept.
        keep: Takes an answer as an impression, without waiting; says whether it did. None: nothing is kept.
    """

    def __init__(self, ranker: Ranker, settings: RankSettings, *, keep: Keep | None = None) -> None:
        self._ranker, self._settings, self._keep = ranker, settings, keep
        self.metrics = Metrics(ranker.counts, ranker.gauges)
        self._encode = msgspec.json.Encoder().encode
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="answers")
        self._spec, self._page = (msgspec.json.encode(openapi.document()), openapi.page().encode())
        self._get: dict[str, Callable[[], Reply]] = {
            "/": lambda: Reply(307, b"text/plain", b"", [(b"location", b"/docs")]),
            "/livez": lambda: Reply(200, b"text/plain", b"ok\n"),
            "/readyz": self._ready,
            "/metrics": lambda: Reply(200, CONTENT_TYPE, self.metrics.text()),
            "/v1/model": self._model,
            "/openapi.json": lambda: Reply(200, JSON, self._spec),
            "/docs": lambda: Reply(200, b"text/html; charset=utf-8", self._page, openapi.PAGE_HEADERS),
        }
        self._post: dict[str, Callable[[Recommender, bytes], tuple[int, Callable[[], Any]]]] = {
            "/v1/recommend": functools.partial(self._prepare, RECOMMEND.read, self._recommend),
            "/v1/rank": functools.partial(self._prepare, RANK.read, self._rank),
            "/v1/similar": functools.partial(self._prepare, SIMILAR.read, self._similar),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"this application speaks HTTP, not {scope['type']}")
        began = time.perf_counter()
        path = scope["path"]
        try:
            reply = await self._reply(scope, path, receive)
        except Problem as problem:
            reply = Reply(problem.status, PROBLEM, self._encode(problem.form()), list(problem.headers))
        except ConnectionError:
            return  # the client went away
        except Exception:
            log.exception("%s: an error that recdistill should have explained", path[:100])
            form = Problem(500, "the server failed on this request; its log says how").form()
            reply = Reply(500, PROBLEM, self._encode(form))
        known = path if path in self._post or path in self._get else "other"
        self.metrics.observe(known, reply.status, time.perf_counter() - began)
        headers = [(b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.body})

    async def _reply(self, scope: Scope, path: str, receive: Receive) -> Reply:
        method = scope["method"]
        if (get := self._get.get(path)) is not None:
            if method not in ("GET", "HEAD"):
                raise Problem(405, f"{path} takes GET, not {method}", headers=[(b"allow", b"GET, HEAD")])
            return get()
        if (prepare := self._post.get(path)) is None:
            raise Problem(404, f"there is nothing at {path}; see /docs")
        if method != "POST":
            raise Problem(405, f"{path} takes POST, not {method}", headers=[(b"allow", b"POST")])
        body = await _read(scope, receive, self._settings.max_body)
        champion = self._ranker.champion
        if champion is None:
            raise Problem(503, "there is no champion yet; /readyz says when there is", headers=[(b"retry-after", b"1")])
        recommender = champion.recommender
        count, answer = prepare(recommender, body)
        if count * recommender.bundle.manifest.content.items <= IN_LOOP:
            result = answer()
        else:
            result = await asyncio.get_running_loop().run_in_executor(self._pool, answer)
        headers = [
            (b"recdistill-bundle", recommender.content_hash.encode()),
            (b"recdistill-version", champion.version.encode()),
        ]
        return Reply(200, JSON, self._encode(result), headers)

    def close(self) -> None:
        """Ends the pool."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(
        self,
        read: Callable[[bytes, RankSettings], Body[Any]],
        answer: Callable[[Recommender, Body[Any]], list[Any]],
        recommender: Recommender,
        data: bytes,
    ) -> tuple[int, Callable[[], Any]]:
        """How many requests a body holds, and what answers them."""
        body = read(data, self._settings)

        def work() -> Any:
            try:
                answers = answer(recommender, body)
            except RequestError as refused:
                raise Problem(422, refused.problem, field=refused.field) from None
            return {"answers": answers} if body.batch else answers[0]

        return len(body.requests), work

    def _recommend(self, recommender: Recommender, body: Body[RecommendRequest]) -> list[RecommendAnswer]:
        requests = body.requests
        answers: list[Answer | None] = [None] * len(requests)
        for k in {request.k for request in requests}:
            rows = [row for row, request in enumerate(requests) if request.k == k]
            chosen = [requests[row] for row in rows]
            with _naming(body, rows):
                found = recommender.recommend(chosen, k, [request.filters() for request in chosen])
            for row, answer in zip(rows, found, strict=True):
                answers[row] = answer
        return [
            RecommendAnswer(
                items=answer.items,
                scores=answer.scores,
                bundle=answer.bundle,
                overlay=answer.overlay,
                source=answer.source,
                unknown_history=answer.unknown_history,
                impression=self._noted(request, answer),
            )
            for request, answer in zip(requests, answers, strict=True)
            if answer is not None
        ]

    def _rank(self, recommender: Recommender, body: Body[RankRequest]) -> list[RankAnswer]:
        answers = []
        for row, request in enumerate(body.requests):
            out = set(request.exclude)
            wanted = [item for item in dict.fromkeys(request.candidates) if item not in out]
            with _naming(body, [row]):
                answer = recommender.rank(request, wanted)
            ranked = set(answer.items)
            answers.append(
                RankAnswer(
                    items=answer.items,
                    scores=answer.scores,
                    bundle=answer.bundle,
                    overlay=answer.overlay,
                    source=answer.source,
                    unknown_history=answer.unknown_history,
                    impression=self._noted(request, answer),
                    unknown=[item for item in wanted if item not in ranked],
                )
            )
        return answers

    def _similar(self, recommender: Recommender, body: Body[SimilarRequest]) -> list[SimilarAnswer]:
        answers = []
        for row, request in enumerate(body.requests):
            with _naming(body, [row]):
                answer = recommender.similar(request.item, request.k, request.filters())
            self.metrics.answered(answer.source, 0)
            answers.append(
                SimilarAnswer(items=answer.items, scores=answer.scores, bundle=answer.bundle, overlay=answer.overlay)
            )
        return answers

    def _noted(self, request: RecommendRequest | RankRequest, answer: Answer) -> str | msgspec.UnsetType:
        """Counts an answer and, for a share of them, keeps it; returns the id under which it was kept."""
        self.metrics.answered(answer.source, answer.unknown_history)
        if self._keep is None or not answer.items or random.random() >= self._settings.write_back:
            return msgspec.UNSET
        impression = Impression(
            id=uuid.uuid4().hex,
            time_us=request.time_us or time.time_ns() // 1000,
            history=request.history,
            context=request.context,
            candidates=tuple(Candidate(*pair) for pair in zip(answer.items, answer.scores, strict=True)),
            exclude=tuple(dict.fromkeys(request.exclude)),
            origin="student",
            served_by=answer.bundle,
        )
        return impression.id if self._keep(impression) else msgspec.UNSET

    def _ready(self) -> Reply:
        if self._ranker.stopping:
            raise Problem(503, "the process is stopping")
        if self._ranker.champion is None:
            raise Problem(503, "there is no champion yet", headers=[(b"retry-after", b"1")])
        return Reply(200, b"text/plain", b"ok\n")

    def _model(self) -> Reply:
        champion = self._ranker.champion
        if champion is None:
            raise Problem(503, "there is no champion yet", headers=[(b"retry-after", b"1")])
        recommender, caught_up, now = champion.recommender, self._ranker.caught_up, time.monotonic()
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
        return Reply(200, JSON, self._encode(form))


def create_app(ranker: Ranker, settings: RankSettings, *, keep: Keep | None = None) -> App:
    """The application, for any ASGI server; `http_server` runs it in uvicorn. Arguments as `App`'s."""
    return App(ranker, settings, keep=keep)


@contextlib.contextmanager
def _naming(body: Body[Any], rows: list[int]) -> Iterator[None]:
    """Names the field of a refused request as its caller wrote it; `rows` are those that the recommender was given."""
    try:
        yield
    except RequestError as refused:
        row, field = 0, refused.field
        if field.startswith("requests["):
            number, _, field = field.removeprefix("requests[").partition("].")
            row = int(number)
        raise RequestError(body.path(rows[row], field), refused.problem) from None


async def _read(scope: Scope, receive: Receive, most: int) -> bytes:
    """The body of a request.

    Raises:
        Problem: 413 when it is too large, 415 when it is not plain JSON, 408 when it does not arrive.
        ConnectionError: The client went away.
    """
    declared = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            declared = int(value) if value.isdigit() and len(value) < 19 else 0
        elif name == b"content-type":
            _check_kind(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise Problem(415, f"send the body as it is, not with content-encoding {value.decode('latin-1')}")
    if declared > DRAIN * most:
        raise _too_large(most)
    message = await _next(receive)
    if not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > most:
            raise _too_large(most)
        return body
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                part = message.get("body", b"")
                size += len(part)
                if size <= most:
                    parts.append(part)
                elif size > DRAIN * most:
                    raise _too_large(most)
                if not message.get("more_body"):
                    break
                message = await _next(receive)
    except TimeoutError:
        raise Problem(
            408, f"the body did not arrive within {BODY_S:g} s", headers=[(b"connection", b"close")]
        ) from None
    if size > most:
        raise _too_large(most)
    return b"".join(parts)


async def _next(receive: Receive) -> Mapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ConnectionResetError
    return message


def _check_kind(value: bytes) -> None:
    kind, _, rest = value.lower().partition(b";")
    kind = kind.strip()
    if kind != JSON and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise Problem(415, f"send application/json, not {value.decode('latin-1')}")
    charset = rest.partition(b"charset=")[2].strip(b' "')
    if charset not in (b"", b"utf-8", b"utf8", b"us-ascii"):
        raise Problem(415, f"send JSON as UTF-8, not {charset.decode('latin-1')}")


def _too_large(most: int) -> Problem:
    return Problem(
        413, f"a body has at most {most:,} bytes; send fewer requests in it", headers=[(b"connection", b"close")]
    )
