"""Reads bodies: the result is checked requests, or a problem that names the field.

A body is one request, or several as `{"requests": [...]}`. Nothing in it is trusted before it is checked. Every mistake
in it is a `Problem` with a status of 4xx.

It does not know HTTP servers, bundles, or how a request is answered.

Example:
    >>> RECOMMEND.read(b'{"history": [{"item": "a"}], "k": 0}', Limits())
    Traceback (most recent call last):
    recdistill.serve.http.problem.Problem: k: must be 1 to 1000, not 0
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from recdistill.records import MAX_ID, MAX_TIME_US, Event, Invalid, Value, check_history, check_values
from recdistill.serve.answers import Answer, RankAnswer, RecommendAnswer, SimilarAnswer
from recdistill.serve.http.limits import Limits
from recdistill.serve.http.problem import Problem
from recdistill.serve.requests import Filters, Request
from recdistill.text import did_you_mean, misfit

History = Annotated[
    tuple[Event, ...],
    Meta(
        description="What the user did, oldest event first. Events with an item that the catalogue does not have are "
        "ignored. A wrong order is refused (422)."
    ),
]
Context = Annotated[
    dict[str, Value],
    Meta(
        description="What is known about the moment, such as the device: field name -> value. Fields that the model "
        "does not use are ignored. A value that does not fit its field is refused (422)."
    ),
]
Time = Annotated[
    int,
    Meta(
        description="Time of the request, in microseconds since 1970. The age of each event is counted from it. "
        "0: the time is not known, and no age is. A time before an event of the history is refused (422)."
    ),
]
User = Annotated[
    str,
    Meta(
        description="Id of the user: any text, the same in each request. Empty: not known. The model does not use it. "
        "It decides whether a new version on trial (a canary) answers. An answer that is written to the log names it.",
        max_length=MAX_ID,
    ),
]
K = Annotated[
    int,
    Meta(
        description="The answer has at most so many items. It has fewer where the filters leave fewer. "
        "Outside 1 to `rank.max_k` it is refused (422)."
    ),
]
Exclude = Annotated[tuple[str, ...], Meta(description="Ids of items that the answer must not hold.")]
Allow = Annotated[
    tuple[str, ...], Meta(description="Ids of the only items that the answer may hold. null: all items are allowed.")
]
Where = Annotated[
    dict[str, Value],
    Meta(
        description="Only items with these attributes: name -> value. An item's attribute must be the value, or a list "
        "that holds it. Of several values for one name, one is enough. For several names, all must fit. A name that no "
        "item has is refused (422)."
    ),
]


class RecommendRequest(Request, frozen=True, forbid_unknown_fields=True):
    """The best k items for a user."""

    history: History = ()
    context: Context = msgspec.field(default_factory=dict)
    exclude: Exclude = ()
    time_us: Time = 0
    user: User = ""
    k: K = 10
    allow: Allow | None = None
    where: Where = msgspec.field(default_factory=dict)
    repeat: Annotated[
        bool,
        Meta(description="true: the answer may hold items of the history again. false: it leaves them out."),
    ] = False

    def filters(self) -> Filters:
        """What the recommender must leave out."""
        seen = frozenset() if self.repeat else frozenset([event.item for event in self.history])
        return Filters(seen, None if self.allow is None else frozenset(self.allow), self.where)


class RankRequest(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The given candidates, best first, for a user."""

    candidates: Annotated[
        tuple[str, ...],
        Meta(
            description="Ids of the items to put in order. A repeated id counts once. The answer lists an id that the "
            "catalogue does not have in `unknown`. An empty list is refused (422)."
        ),
    ]
    history: History = ()
    context: Context = msgspec.field(default_factory=dict)
    exclude: Annotated[tuple[str, ...], Meta(description="Ids of candidates that the answer must not hold.")] = ()
    time_us: Time = 0
    user: User = ""


class SimilarRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The k items that are most similar to another item."""

    item: Annotated[str, Meta(description="Id of the item. One that the catalogue does not have is refused (422).")]
    k: K = 10
    exclude: Exclude = ()
    allow: Allow | None = None
    where: Where = {}

    def filters(self) -> Filters:
        """What the recommender must leave out."""
        allow = None if self.allow is None else frozenset(self.allow)
        return Filters(frozenset(self.exclude), allow, self.where)


class ModelForm(Struct, frozen=True):
    """What serves now."""

    bundle: Annotated[str, Meta(description="Content hash of the bundle that serves: 64 hex digits.")]
    version: Annotated[
        str, Meta(description="Number of its version in the registry. Empty: it was opened from a folder.")
    ]
    items: Annotated[int, Meta(description="How many items an answer may hold now.")]
    dim: Annotated[int, Meta(description="How many numbers the vector of an item has.")]
    base: Annotated[
        int,
        Meta(
            description="The bundle was made with the records of the topic `items` before this offset. An offset is "
            "the number of a record in its topic."
        ),
    ]
    overlay: Annotated[
        int, Meta(description="Next offset of the topic `items` to read: the catalogue has all records before it.")
    ]
    items_age_s: Annotated[
        float | None,
        Meta(
            description="Seconds since the catalogue last had all records of the topic `items`. null: it never had "
            "them all."
        ),
    ]
    serving_s: Annotated[float, Meta(description="Seconds since this bundle began to serve.")]
    provenance: Annotated[
        dict[str, Any], Meta(description="What the bundle was made of: teachers, records of the log, recipe, code.")
    ]


Asked = TypeVar("Asked", RecommendRequest, RankRequest, SimilarRequest)


@dataclass(frozen=True)
class Body(Generic[Asked]):
    """The requests of a body, or some of them. `path` names a field of one request as the caller knows it."""

    requests: tuple[Asked, ...]
    batch: bool
    rows: tuple[int, ...] | None = None

    def path(self, index: int, field: str) -> str:
        """The path of a field in the body of the caller."""
        row = index if self.rows is None else self.rows[index]
        return f"requests[{row}].{field}" if self.batch else field

    def some(self, rows: Sequence[int]) -> Body[Asked]:
        """Some of the requests. Their fields keep the paths that they have in the body of the caller."""
        return Body(tuple(self.requests[row] for row in rows), self.batch, tuple(rows))


class _Probe(Struct):
    requests: msgspec.Raw | UnsetType = UNSET


_probe: Final = msgspec.json.Decoder(_Probe)


class Form(Generic[Asked]):
    """One kind of request: how its bodies are read and checked, and the form of its answer.

    Args:
        kind: Struct of the request.
        answer: Struct of its answer.
    """

    def __init__(self, kind: type[Asked], answer: type[Answer]) -> None:
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
        self.answers.__doc__ = "Answers to a batch, in the order of its requests."
        self._one: msgspec.json.Decoder[Asked] = msgspec.json.Decoder(kind)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.batch)

    def read(self, body: bytes, limits: Limits) -> Body[Asked]:
        """Reads and checks a body.

        Raises:
            Problem: 400 if it is not JSON, 422 if a field is wrong.
        """
        parsed = self._parse(body)
        if parsed.batch and not 1 <= len(parsed.requests) <= limits.max_batch:
            count = len(parsed.requests)
            raise Problem(422, f"must be 1 to {limits.max_batch} requests, not {count}", field="requests")
        for index, request in enumerate(parsed.requests):
            try:
                _check(request, limits)
            except Problem as problem:
                if not parsed.batch:
                    raise
                raise Problem(422, problem.detail, field=parsed.path(index, problem.field)) from None
        return parsed

    def _parse(self, body: bytes) -> Body[Asked]:
        batch = False
        try:
            # The word "requests" may also be an id or a context value. So the body is parsed once more to find out.
            if b'"requests"' in body and _probe.decode(body).requests is not UNSET:
                batch = True
                return Body(self._many.decode(body).requests, batch=True)
            return Body((self._one.decode(body),), batch=False)
        except msgspec.ValidationError as problem:
            field, detail = explain(problem, self, body, batch=batch)
            raise Problem(422, detail, field=field) from None
        except RecursionError:
            raise Problem(400, "the JSON is nested too deeply") from None
        except (msgspec.DecodeError, UnicodeError) as problem:
            what = "bytes that are not UTF-8" if isinstance(problem, UnicodeError) else _lower(str(problem))
            raise Problem(400, f"the body is not JSON: {what}") from None


RECOMMEND: Final = Form(RecommendRequest, RecommendAnswer)
RANK: Final = Form(RankRequest, RankAnswer)
SIMILAR: Final = Form(SimilarRequest, SimilarAnswer)


def _check(request: RecommendRequest | RankRequest | SimilarRequest, limits: Limits) -> None:
    """Checks the rules that types cannot express."""
    if not isinstance(request, RankRequest):
        if not 1 <= request.k <= limits.max_k:
            raise Problem(422, f"must be 1 to {limits.max_k}, not {_number(request.k)}", field="k")
        if request.where:
            _check_where(request.where, limits)
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


def _check_where(where: dict[str, Value], limits: Limits) -> None:
    if len(where) > limits.max_where:
        raise Problem(422, f"may name {limits.max_where} attributes, not {len(where)}", field="where")
    values = sum(len(value) if isinstance(value, list) else 1 for value in where.values())
    if values > limits.max_where_values:
        raise Problem(422, f"may hold {limits.max_where_values} values, not {values}", field="where")
    _checked("where", lambda: check_values(where, "where"))


def _checked(field: str, check: Callable[[], None]) -> None:
    try:
        check()
    except Invalid as wrong:
        raise Problem(422, wrong.problem, field=wrong.field) from None
    except (ValueError, OverflowError):  # a number with too many digits for a text
        raise Problem(422, "holds a number that is far too large", field=field) from None


def explain(error: msgspec.ValidationError, form: Form[Any], body: bytes, *, batch: bool) -> tuple[str, str]:
    """Field and problem of a msgspec error. It adds the key that msgspec leaves out, and a similar known key."""
    found = misfit(error)
    path = _with_key(found.path, found.problem, body) if "[...]" in found.path else found.path
    if found.missing:
        return _below(path, found.missing), "is required"
    if found.unknown:
        kind: Any = Event if "history[" in path else form.kind
        names = [field.encode_name for field in msgspec.structs.fields(kind)]
        hint = did_you_mean(found.unknown, names, otherwise=f"there are {', '.join(names)}")
        if batch and not path:
            hint = "beside `requests` there is nothing else; put it into each of them"
        return _below(path, found.unknown), f"is not known here; {hint}"
    return path, _in_words(found.problem, path)


_KINDS: Final = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "a flag",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def _in_words(problem: str, path: str) -> str:
    """What msgspec says of a wrong type, in the words of JSON, and how to write it right."""
    said = re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`", problem)
    if said is None:
        return _lower(problem)
    wanted, got = (kinds.split(" | ") for kinds in said.groups())
    told = [_KINDS.get(kind, kind) for kind in wanted]
    text = f"must be {', '.join(told[:-1])}{' or ' if told[1:] else ''}{told[-1]}"
    text += f", not {' or '.join(_KINDS.get(kind, kind) for kind in got)}"
    if wanted == ["str"] and got in (["int"], ["float"]):
        return f'{text}; write it in quotes: "7"'
    if path.endswith("time_us"):
        return f"{text}; times are microseconds since 1970"
    if re.search(r"history\[\d+\]$", path):
        return f'{text}; an event is {{"item": "an id"}}'
    return text


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _with_key(path: str, detail: str, body: bytes) -> str:
    """Puts a key into `context[...]`: the first one whose value does not fit. msgspec does not name it."""
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
        pass  # a number out of range is an error already when it is parsed
    return head


def _number(value: int) -> str:
    return str(value) if abs(value) < 10**30 else "a number with more than 30 digits"


def _lower(text: str) -> str:
    """The message of a library in a form that fits into a sentence."""
    return text if text.startswith("JSON") else text[:1].lower() + text[1:]
