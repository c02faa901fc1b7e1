"""What the endpoint reads and writes: bodies -> checked requests, or a problem that names the field.

A body is one request or `{"requests": [...]}` of the same. Everything in it is hostile until checked; whatever is
wrong with it is a `Problem` with a status of 4xx. Problems are written as RFC 9457 says (`application/problem+json`).

It does not know HTTP servers, bundles or recommenders.

Example:
    >>> from recdistill.config import RankSettings
    >>> RECOMMEND.read(b'{"history": [{"item": "a"}], "k": 0}', RankSettings())
    Traceback (most recent call last):
    recdistill.serve.http.forms.Problem: k: must be 1 to 1000, not 0
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final, Generic, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from recdistill.config import RankSettings
from recdistill.errors import DataError
from recdistill.records import MAX_TIME_US, Event, Value, check_history, check_values
from recdistill.serve.recommender import Filters, Request, Source

MAX_QUOTED: Final = 300  # characters of a problem's text

History = Annotated[
    tuple[Event, ...], Meta(description="What the user did, oldest first; items that are not known are passed over.")
]
Context = Annotated[dict[str, Value], Meta(description="Context fields by name; those of no model are ignored.")]
Time = Annotated[int, Meta(description="Time of the request in microseconds since 1970; 0: unknown, and so are ages.")]
K = Annotated[int, Meta(description="Most items of the answer: 1 to `rank.max_k`.")]
Exclude = Annotated[tuple[str, ...], Meta(description="Items that are not to be answered.")]
Allow = Annotated[tuple[str, ...], Meta(description="Answer only these; null for all.")]
Where = Annotated[
    dict[str, Value],
    Meta(description="Attribute -> value: it must be the value or hold it; of several values one is enough."),
]


class RecommendRequest(Request, frozen=True, forbid_unknown_fields=True):
    """The best k items for somebody."""

    history: History = ()
    context: Context = msgspec.field(default_factory=dict)
    exclude: Exclude = ()
    time_us: Time = 0
    k: K = 10
    allow: Allow | None = None
    where: Where = msgspec.field(default_factory=dict)
    repeat: Annotated[bool, Meta(description="Whether items of the history may be answered again.")] = False

    def filters(self) -> Filters:
        """What the recommender is to leave out."""
        seen = frozenset() if self.repeat else frozenset([event.item for event in self.history])
        return Filters(seen, None if self.allow is None else frozenset(self.allow), self.where)


class RankRequest(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The given candidates, best first for somebody."""

    candidates: Annotated[tuple[str, ...], Meta(description="Ids of the items to rank; one that comes twice is once.")]
    history: History = ()
    context: Context = msgspec.field(default_factory=dict)
    exclude: Annotated[tuple[str, ...], Meta(description="Candidates that are not to be answered.")] = ()
    time_us: Time = 0


class SimilarRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The k items most like another one."""

    item: Annotated[str, Meta(description="Id of an item of the catalogue.")]
    k: K = 10
    exclude: Exclude = ()
    allow: Allow | None = None
    where: Where = {}

    def filters(self) -> Filters:
        """What the recommender is to leave out."""
        allow = None if self.allow is None else frozenset(self.allow)
        return Filters(frozenset(self.exclude), allow, self.where)


class _Answer(Struct, frozen=True, kw_only=True):
    items: Annotated[list[str], Meta(description="Ids, best first.")]
    scores: Annotated[list[float], Meta(description="The score of each; of a similar item, the cosine.")]
    bundle: Annotated[str, Meta(description="Content hash of the bundle that answered.")]
    overlay: Annotated[int, Meta(description="Next offset of `items` that the catalogue has not seen.")]


class RecommendAnswer(_Answer, frozen=True, kw_only=True):
    """Answer to a recommend request."""

    source: Annotated[Source, Meta(description="Where the order comes from; mixed: popular items, then personal ones.")]
    unknown_history: Annotated[int, Meta(description="Events left out: their items are not in the catalogue.")]
    impression: Annotated[
        str | UnsetType, Meta(description="Id under which this answer was written to `impressions`, if it was.")
    ] = UNSET


class RankAnswer(RecommendAnswer, frozen=True, kw_only=True):
    """Answer to a rank request."""

    unknown: Annotated[list[str], Meta(description="Candidates left out: not in the catalogue, or withdrawn.")]


class SimilarAnswer(_Answer, frozen=True, kw_only=True):
    """Answer to a similar request."""


class ProblemForm(Struct, frozen=True, rename={"kind": "type"}):
    """A problem as RFC 9457 writes it, with the field that is wrong."""

    title: str
    status: int
    detail: str
    field: Annotated[str | UnsetType, Meta(description="Path of the field that is wrong: `history[3].item`.")] = UNSET
    kind: str = "about:blank"


class ModelForm(Struct, frozen=True):
    """What serves now."""

    bundle: Annotated[str, Meta(description="Content hash.")]
    version: Annotated[str, Meta(description="Its number in the registry; empty when served from a folder.")]
    items: Annotated[int, Meta(description="Items that may be answered now.")]
    dim: int
    base: Annotated[int, Meta(description="Offset of `items` at which the bundle was cut.")]
    overlay: Annotated[int, Meta(description="Next offset of `items` that the catalogue has not seen.")]
    items_age_s: Annotated[
        float | None, Meta(description="Seconds since the catalogue was seen to hold all of `items`; null: never.")
    ]
    serving_s: Annotated[float, Meta(description="Seconds since this bundle began to serve.")]
    provenance: Annotated[dict[str, Any], Meta(description="Where the bundle comes from.")]


class Problem(Exception):
    """A request that is refused.

    Args:
        status: The HTTP status.
        detail: What is wrong and what would be right.
        field: Path of the field, if it is one.
        headers: Headers that the answer needs besides.
    """

    def __init__(
        self, status: int, detail: str, *, field: str = "", headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.status, self.detail, self.field, self.headers = status, _printable(detail), _printable(field), headers

    def form(self) -> ProblemForm:
        """Its body."""
        return ProblemForm(HTTPStatus(self.status).phrase, self.status, self.detail, self.field or UNSET)


Asked = TypeVar("Asked", RecommendRequest, RankRequest, SimilarRequest)


@dataclass(frozen=True)
class Body(Generic[Asked]):
    """The requests of a body; `path` is where a field of the i-th stands."""

    requests: tuple[Asked, ...]
    batch: bool

    def path(self, index: int, field: str) -> str:
        """A field as the caller wrote it."""
        return f"requests[{index}].{field}" if self.batch else field


class _Probe(Struct):
    requests: msgspec.Raw | UnsetType = UNSET


_probe: Final = msgspec.json.Decoder(_Probe)


class Form(Generic[Asked]):
    """One kind of request: how its bodies are read and checked, and what answers it.

    Args:
        kind: The request.
        answer: Its answer.
    """

    def __init__(self, kind: type[Asked], answer: type[_Answer]) -> None:
        self.kind: type[Asked] = kind
        self.answer = answer
        self.batch: Any = msgspec.defstruct(
            f"{kind.__name__.removesuffix('Request')}Batch",
            [("requests", tuple[kind, ...])],  # type: ignore[valid-type]
            frozen=True,
            forbid_unknown_fields=True,
        )
        self.batch.__doc__ = "Several requests in one body."
        self.answers: Any = msgspec.defstruct(f"{answer.__name__}s", [("answers", list[answer])])  # type: ignore[valid-type]
        self.answers.__doc__ = "Answers to a batch, in its order."
        self._one: msgspec.json.Decoder[Asked] = msgspec.json.Decoder(kind)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.batch)

    def read(self, body: bytes, settings: RankSettings) -> Body[Asked]:
        """Reads and checks a body.

        Raises:
            Problem: 400 if it is not JSON, 422 if a field is wrong.
        """
        parsed = self._parse(body)
        if parsed.batch and not 1 <= len(parsed.requests) <= settings.max_batch:
            count = len(parsed.requests)
            raise Problem(422, f"must be 1 to {settings.max_batch} requests, not {count}", field="requests")
        for index, request in enumerate(parsed.requests):
            try:
                _check(request, settings)
            except Problem as problem:
                if not parsed.batch:
                    raise
                raise Problem(422, problem.detail, field=parsed.path(index, problem.field)) from None
        return parsed

    def _parse(self, body: bytes) -> Body[Asked]:
        batch = False
        try:
            # The word may also be an id or a context value, so it is only a reason to look.
            if b'"requests"' in body and _probe.decode(body).requests is not UNSET:
                batch = True
                return Body(self._many.decode(body).requests, batch=True)
            return Body((self._one.decode(body),), batch=False)
        except msgspec.ValidationError as problem:
            field, detail = explain(str(problem), self, body, batch=batch)
            raise Problem(422, detail, field=field) from None
        except RecursionError:
            raise Problem(400, "the JSON is nested too deeply") from None
        except (msgspec.DecodeError, UnicodeError) as problem:
            what = "bytes that are not UTF-8" if isinstance(problem, UnicodeError) else _lower(str(problem))
            raise Problem(400, f"the body is not JSON: {what}") from None


RECOMMEND: Final = Form(RecommendRequest, RecommendAnswer)
RANK: Final = Form(RankRequest, RankAnswer)
SIMILAR: Final = Form(SimilarRequest, SimilarAnswer)


def _check(request: RecommendRequest | RankRequest | SimilarRequest, settings: RankSettings) -> None:
    """The rules that types cannot say."""
    if not isinstance(request, RankRequest):
        if not 1 <= request.k <= settings.max_k:
            raise Problem(422, f"must be 1 to {settings.max_k}, not {_number(request.k)}", field="k")
        if request.where:
            _checked("where", lambda: check_values(request.where, "where"))
    elif not request.candidates:
        raise Problem(422, "must name at least one item", field="candidates")
    if isinstance(request, SimilarRequest):
        return
    if not 0 <= request.time_us <= MAX_TIME_US:
        raise Problem(
            422,
            f"must be microseconds between 1970 and the year 9999, not {_number(request.time_us)}",
            field="time_us",
        )
    if request.history:
        _checked("history", lambda: check_history(request.history, request.time_us))
    if request.context:
        _checked("context", lambda: check_values(request.context, "context"))


def _checked(field: str, check: Any) -> None:
    try:
        check()
    except DataError as problem:
        first, _, rest = str(problem).partition(" ")
        named = first.startswith(field)
        raise Problem(422, rest if named else str(problem), field=first if named else field) from None
    except (ValueError, OverflowError):  # a number with too many digits for a text
        raise Problem(422, "holds a number that is far too large", field=field) from None


def explain(message: str, form: Form[Any], body: bytes, *, batch: bool) -> tuple[str, str]:
    """Field and problem in a message of msgspec; names the key that it leaves out, and one that was probably meant."""
    detail, _, path = message.partition(" - at ")
    path = path.strip("`").removeprefix("key in ").strip("`").removeprefix("$").removeprefix(".")
    if "[...]" in path:
        path = _with_key(path, detail, body)
    if missing := re.fullmatch(r"Object missing required field `(.*)`", detail):
        return ".".join(filter(None, [path, missing[1]])), "is required"
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", detail, re.DOTALL):
        kind: Any = Event if "history[" in path else form.kind
        names = [field.encode_name for field in msgspec.structs.fields(kind)]
        near = difflib.get_close_matches(unknown[1][:100], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        if batch and not path:
            hint = "beside `requests` there is nothing else; put it into each of them"
        return ".".join(filter(None, [path, unknown[1]])), f"is not known here; {hint}"
    return path, _lower(detail)


def _with_key(path: str, detail: str, body: bytes) -> str:
    """Puts the key of the first value that does not fit into `context[...]`, which msgspec does not name."""
    head, _, tail = path.partition("[...]")
    try:
        node: Any = msgspec.json.decode(body)
        for step in re.findall(r"[^.\[\]]+", head):
            node = node[int(step) if isinstance(node, list) else step]
        for key, value in cast("dict[str, Any]", node).items():
            try:
                msgspec.convert(value, Value)
            except msgspec.ValidationError as problem:
                if str(problem).startswith(detail):
                    return f"{head}.{key}{tail}"
    except (msgspec.MsgspecError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass  # a number out of range is refused before it can be looked at
    return head


def _number(value: int) -> str:
    return str(value) if abs(value) < 10**30 else "a number with more than 30 digits"


def _lower(text: str) -> str:
    """A message of a library within a sentence."""
    return text if text.startswith("JSON") else text[:1].lower() + text[1:]


def _printable(text: str) -> str:
    """A problem may quote what is in a body: it stays short, and nothing in it may steer a terminal or a log."""
    text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text[: MAX_QUOTED + 1])
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"
