"""recdistill's own protocol: it answers the bodies of `/v1/recommend`, `/v1/rank` and `/v1/similar`.

A new protocol is a new file like this one. It has a function that reads a body and prepares the answer, and routes.

It does not know sockets, or which recommender serves.

Example:
    >>> from recdistill.serve import Ranker
    >>> answering = Answering(Ranker(), Limits())
    >>> [route.path for route in routes(answering, Limits(), lambda source, unknown: None, WriteBack(0.0, None))]
    ['/v1/recommend', '/v1/rank', '/v1/similar']
    >>> answering.close()
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from recdistill.errors import RequestError
from recdistill.serve.answers import RankAnswer, RecommendAnswer, SimilarAnswer
from recdistill.serve.http.answering import Answering, Work
from recdistill.serve.http.forms import (
    RANK,
    RECOMMEND,
    SIMILAR,
    Body,
    Form,
    RankRequest,
    RecommendRequest,
    SimilarRequest,
)
from recdistill.serve.http.limits import Limits
from recdistill.serve.http.problem import Problem
from recdistill.serve.http.routes import Route
from recdistill.serve.http.writeback import WriteBack
from recdistill.serve.ranker import Sides, Variant
from recdistill.serve.recommender import Recommender
from recdistill.serve.shadow import Shadow

Count = Callable[[str, int], None]
"""It is called for each answer, with its source and the number of unknown events in the history."""

Event = Callable[[str, int, str], None]
"""It is called with the name of a count, by how many requests it grows, and the reason."""

Pause = Callable[[], None]
"""It is called before each answer of a body, so that small requests can be answered first."""


def _nobody(_name: str, _requests: int, _why: str) -> None:
    """Counts nothing."""


def routes(
    answering: Answering,
    limits: Limits,
    count: Count,
    write_back: WriteBack,
    event: Event = _nobody,
    shadow: Shadow | None = None,
) -> list[Route]:
    """The routes of this protocol.

    Args:
        answering: Makes the handlers.
        limits: Limits of one body.
        count: Called for each answer.
        write_back: May keep each answer that a user may see.
        event: Called when a canary answers or fails, with the number of the requests.
        shadow: Sends requests of the champion to a canary, too, to compare.
    """
    pause = answering.give_way
    asked = {
        "/v1/recommend": partial(
            _prepare, RECOMMEND, partial(_recommend, pause, count, write_back), limits, event, shadow
        ),
        "/v1/rank": partial(_prepare, RANK, partial(_rank, pause, count, write_back), limits, event, None),
        "/v1/similar": partial(_prepare, SIMILAR, partial(_similar, pause, count), limits, event, None),
    }
    return [Route(path, "POST", answering.by(prepare)) for path, prepare in asked.items()]


def _prepare(
    form: Form[Any],
    answer: Callable[[Recommender, Body[Any]], list[Any]],
    limits: Limits,
    event: Event,
    shadow: Shadow | None,
    sides: Sides,
    data: bytes,
) -> Work:
    body = form.read(data, limits)
    drawn = [sides.of(getattr(request, "user", "")) for request in body.requests]
    used = list(drawn)  # who answers; where a canary fails, it is the champion

    def run() -> Any:
        try:
            answers = _answers(answer, event, sides, body, used)
        except RequestError as refused:
            raise Problem(422, refused.problem, field=refused.field) from None
        if shadow is not None and sides.canary is not None:
            for one, request, given in zip(drawn, body.requests, answers, strict=True):
                if one is sides.champion:  # a canary that failed on a request is not asked again
                    shadow.offer(sides.canary.recommender, request, request.filters(), given)
        return {"answers": answers} if body.batch else answers[0]

    effort = sum(_effort(one.recommender, request) for one, request in zip(used, body.requests, strict=True))
    return Work(len(body.requests), effort, run, used)


def _answers(
    answer: Callable[[Recommender, Body[Any]], list[Any]],
    count: Event,
    sides: Sides,
    body: Body[Any],
    used: list[Variant],
) -> list[Any]:
    """The answers of a body. Each side's recommender answers its own users; if a canary fails, the champion answers.

    A canary may refuse what the champion answers: it may know other attributes, items or kinds of context. Then it
    failed, too. If the champion refuses the requests, the caller is wrong, and the canary did not fail.

    Raises:
        RequestError: The champion refuses a request.
    """
    if all(one is sides.champion for one in used):
        return answer(sides.champion.recommender, body)
    answers: dict[int, Any] = {}
    for variant in dict.fromkeys(used):
        rows = [row for row, one in enumerate(used) if one is variant]
        some = body.some(rows)
        try:
            found = answer(variant.recommender, some)
            if variant is not sides.champion:
                count("canary_answers", len(rows), "")
        except Exception as e:
            if variant is sides.champion:
                raise
            found = answer(sides.champion.recommender, some)
            count("canary_failures", len(rows), str(e))
            for row in rows:
                used[row] = sides.champion
        answers.update(zip(rows, found, strict=True))
    return [answers[row] for row in range(len(used))]


def _effort(recommender: Recommender, request: RecommendRequest | RankRequest | SimilarRequest) -> int:
    if isinstance(request, RankRequest):
        return recommender.effort(len(request.candidates))
    return recommender.effort(request.k, request.filters() if request.where else None)


def _recommend(
    pause: Pause, count: Count, write_back: WriteBack, recommender: Recommender, body: Body[RecommendRequest]
) -> list[RecommendAnswer]:
    requests = body.requests
    answers: dict[int, RecommendAnswer] = {}
    # One call takes requests with the same k. In most bodies all requests have the same k.
    for k in {request.k for request in requests}:
        rows = [row for row, request in enumerate(requests) if request.k == k]
        chosen = [requests[row] for row in rows]
        with _naming(body, rows):
            filters = [request.filters() for request in chosen]
            found = recommender.recommend(chosen, k, filters, more=write_back.more, pause=pause)
        answers.update(zip(rows, found, strict=True))
    for answer in answers.values():
        count(answer.source, answer.unknown_history)
    return [write_back(request, answers[row], request.k) for row, request in enumerate(requests)]


def _rank(
    pause: Pause, count: Count, write_back: WriteBack, recommender: Recommender, body: Body[RankRequest]
) -> list[RankAnswer]:
    answers = []
    for row, request in enumerate(body.requests):
        pause()
        out = set(request.exclude)
        with _naming(body, [row]):
            answer = recommender.rank(request, [item for item in request.candidates if item not in out])
        count(answer.source, answer.unknown_history)
        answers.append(write_back(request, answer))
    return answers


def _similar(pause: Pause, count: Count, recommender: Recommender, body: Body[SimilarRequest]) -> list[SimilarAnswer]:
    answers = []
    for row, request in enumerate(body.requests):
        pause()
        with _naming(body, [row]):
            answers.append(recommender.similar(request.item, request.k, request.filters()))
        count("similar", 0)
    return answers


@contextlib.contextmanager
def _naming(body: Body[Any], rows: list[int]) -> Iterator[None]:
    """Names the field of a refused request as in the caller's body. `rows`: numbers of the requests that were asked."""
    try:
        yield
    except RequestError as refused:
        row, field = 0, refused.field
        if field.startswith("requests["):
            number, _, field = field.removeprefix("requests[").partition("].")
            row = int(number)
        raise RequestError(body.path(rows[row], field), refused.problem) from None
