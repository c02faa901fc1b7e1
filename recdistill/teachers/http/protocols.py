"""What is sent over HTTP: it turns impressions into the body of a request, and an answer into scores.

`OpenInference` is the Open Inference Protocol v2 in JSON, as in Triton and KServe. It sends tensors and gets tensors,
and a request has many lists. `Rerank` is the rerank API in its two shapes. It sends a query and documents as text, and
gets an index and a score for each document. A list is sent in one request or in several.

An answer that does not fit the request is a `Misfit`. A score that is missing or not a finite number is masked.

They know nothing of connections.

Example:
    >>> Rerank(ModelServer(protocol="rerank", url="http://localhost:8000/rerank")).url
    'http://localhost:8000/rerank'
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt

from recdistill.errors import ConfigError, TeacherError
from recdistill.records import Impression, Item, Value
from recdistill.teachers.attributes import Attributes
from recdistill.teachers.contract import Scores
from recdistill.teachers.http.server import ModelServer
from recdistill.teachers.language import placeholders, render
from recdistill.teachers.tensors import Feeder, Misfit, Port, Row, natural_ports, needed_attributes, put_scores

SECTION: Final = "teacher.http"
_DTYPES: Final = {
    "BYTES": "string",
    "BOOL": "bool",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}

R = TypeVar("R")


class Ask(Protocol[R]):
    """How one protocol asks for scores. `R` is an impression that is ready to be sent."""

    url: str

    def apply_items(self, items: Sequence[Item]) -> None:
        """Remembers the attributes of items that are sent."""

    def rows(self, impressions: Sequence[Impression]) -> list[R | TeacherError]:
        """Prepares impressions, or returns why it cannot."""

    def batches(self, rows: Sequence[R]) -> list[list[R]]:
        """Rows that go into one request."""

    def parts(self, batch: Sequence[R]) -> list[list[R]]:
        """The batch as one or several requests. Each has a part of the candidates of every row; see `joined`."""

    def body(self, batch: Sequence[R]) -> bytes:
        """The request."""

    def scores(self, batch: Sequence[R], answer: Any) -> tuple[list[Scores | TeacherError], str]:
        """The scores of each row, and the version that made them; empty if the answer has no version.

        Raises:
            Misfit: The answer does not fit this request.
        """


class OpenInference:
    """The Open Inference Protocol v2.

    Args:
        settings: The address, and what the model is fed.
        metadata: The server's description of the model; None if it was not asked.

    Raises:
        ConfigError: The settings do not fit the model.
        TeacherError: The metadata is not as the protocol says.
    """

    def __init__(self, settings: ModelServer, metadata: Any = None) -> None:
        self.url = f"{model_url(settings)}/infer"
        self._attributes = Attributes(needed_attributes(settings))
        if metadata is None:
            types = {name: _DTYPES[kind] for name, kind in settings.datatypes.items()}
            ports, outputs = natural_ports(settings, types, SECTION), None
        else:
            ports, outputs = _ports(metadata, "inputs"), _ports(metadata, "outputs")
        self._feeder = Feeder(settings, ports, self._attributes, nan=False, section=SECTION)
        self._output = settings.output
        if outputs is not None:
            names = [port.name for port in outputs]
            shown = ", ".join(map(str, outputs))
            if self._output and self._output not in names:
                raise ConfigError(f"{SECTION}.output: the model has no output {self._output!r}; its outputs: {shown}")
            if not self._output and len(names) != 1:
                raise ConfigError(f"{SECTION}.output: name the scores' one of the model's outputs: {shown}")
            self._output = self._output or names[0]

    def apply_items(self, items: Sequence[Item]) -> None:
        """Remembers the attributes that are fed."""
        self._attributes.apply(items)

    def rows(self, impressions: Sequence[Impression]) -> list[Row | TeacherError]:
        """Makes impressions ready."""
        return self._feeder.rows(impressions)

    def why_missing(self) -> str:
        """See the teacher's."""
        return self._feeder.missed.why()

    def batches(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Rows that go into one request."""
        return self._feeder.batches(rows)

    def parts(self, batch: Sequence[Row]) -> list[list[Row]]:
        """One request."""
        return [list(batch)]

    def body(self, batch: Sequence[Row]) -> bytes:
        """The tensors as JSON."""
        request: dict[str, Any] = {
            "inputs": [
                {
                    "name": name,
                    "shape": list(array.shape),
                    "datatype": _NAMES["string" if array.dtype == object else array.dtype.name],
                    "data": array.reshape(-1).tolist(),
                }
                for name, array in self._feeder.arrays(batch).items()
            ]
        }
        if self._output:
            request["outputs"] = [{"name": self._output}]
        return msgspec.json.encode(request)

    def scores(self, batch: Sequence[Row], answer: Any) -> tuple[list[Scores | TeacherError], str]:
        """Reads the output with the scores."""
        outputs = answer.get("outputs") if isinstance(answer, dict) else None
        if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
            raise Misfit("the answer has no list of outputs")
        chosen = [one for one in outputs if self._output in ("", one.get("name"))]
        if len(chosen) != 1:
            raise Misfit(f"the answer has {len(chosen)} outputs {self._output!r} instead of one; see {SECTION}.output")
        version = answer.get("model_version")
        return self._feeder.scores(batch, _tensor(chosen[0])), version if isinstance(version, str) else ""


class _Question(NamedTuple):
    """One list as text. `places` are the places of the candidates that have a document."""

    impression: Impression
    places: list[int]
    query: str
    documents: list[str]


class Rerank:
    """The rerank API, in the shape that `teacher.http.protocol` names.

    `rerank` sends `documents` and gets `{"results": [{"index", "relevance_score"}]}`. `rerank-texts` sends `texts` and
    gets a list of `{"index", "score"}`, as in text-embeddings-inference. It asks for raw scores, before any sigmoid.

    A list of more than `max_documents` is sent in several requests. A cross-encoder scores each document alone, so the
    scores are the same as from one request. A reranker that compares documents with each other needs them
    in one request.

    Args:
        settings: The address, and the templates.

    Raises:
        ConfigError: A template names something that cannot be filled in.
    """

    def __init__(self, settings: ModelServer) -> None:
        self.url = settings.url
        self._settings = settings
        for name in placeholders(settings.query):
            if name != "history" and not name.removeprefix("context."):
                raise ConfigError(
                    f"{SECTION}.query: {{{name}}} cannot be filled in; use {{history}}, {{context.FIELD}}"
                )
            if name != "history" and not name.startswith("context."):
                raise ConfigError(
                    f"{SECTION}.query: {{{name}}} cannot be filled in; use {{history}}, {{context.FIELD}}"
                )
        names = set(placeholders(settings.document))
        if not names or "" in names:
            raise ConfigError(f"{SECTION}.document: names no attribute, so all documents are equal; as in '{{title}}'")
        self._attributes = Attributes(names - {"id"})

    def apply_items(self, items: Sequence[Item]) -> None:
        """Remembers the attributes that documents are made of."""
        self._attributes.apply(items)

    def rows(self, impressions: Sequence[Impression]) -> list[_Question | TeacherError]:
        """Renders the texts."""
        return [self._row(impression) for impression in impressions]

    def _row(self, impression: Impression) -> _Question | TeacherError:
        documents = [self._document(candidate.item) for candidate in impression.candidates]
        places = [place for place, document in enumerate(documents) if document]
        if not places:
            return TeacherError(
                f"impression {impression.id}: none of its candidates has an attribute that {SECTION}.document names"
            )
        events = impression.history[
            len(impression.history) - min(self._settings.query_history, len(impression.history)) :
        ]
        shown = [document for event in events if (document := self._document(event.item))]

        def fill(name: str) -> Value | None:
            return "; ".join(shown) if name == "history" else impression.context.get(name.removeprefix("context."))

        query = render(self._settings.query, fill)
        if not query:
            return TeacherError(f"impression {impression.id}: its query is empty; add words to {SECTION}.query")
        return _Question(impression, places, query, [documents[place] for place in places])

    def _document(self, item: str) -> str:
        """Text of an item; empty if it has no attribute that the template names."""
        known: Mapping[str, Value] = self._attributes.get(item) or {}
        names = placeholders(self._settings.document)
        if not any(name == "id" or known.get(name) not in (None, "", []) for name in names):
            return ""
        return render(self._settings.document, lambda name: item if name == "id" else known.get(name))

    def batches(self, rows: Sequence[_Question]) -> list[list[_Question]]:
        """One list at a time: it has one query."""
        return [[row] for row in rows]

    def parts(self, batch: Sequence[_Question]) -> list[list[_Question]]:
        """The list cut into requests of at most `max_documents` documents."""
        [row] = batch
        most = self._settings.max_documents or len(row.documents)
        return [
            [row._replace(places=row.places[at : at + most], documents=row.documents[at : at + most])]
            for at in range(0, len(row.documents), most)
        ]

    def body(self, batch: Sequence[_Question]) -> bytes:
        """The request. It asks for the scores of all documents."""
        [row] = batch
        request: dict[str, Any]
        if self._settings.protocol == "rerank-texts":
            request = {"query": row.query, "texts": row.documents, "raw_scores": True, "return_text": False}
            return msgspec.json.encode(request)
        request = {"query": row.query, "documents": row.documents, "top_n": len(row.documents)}
        return msgspec.json.encode(request | ({"model": self._settings.model} if self._settings.model else {}))

    def scores(self, batch: Sequence[_Question], answer: Any) -> tuple[list[Scores | TeacherError], str]:
        """Reads the results. They may come in any order."""
        [row] = batch
        if self._settings.protocol == "rerank-texts":
            results, key = answer, "score"
        else:
            results, key = answer.get("results") if isinstance(answer, dict) else None, "relevance_score"
        if not isinstance(results, list):
            raise Misfit("the answer has no list of results")
        found = np.full(len(row.documents), np.nan, np.float32)
        seen: set[int] = set()
        for result in results:
            index = result.get("index") if isinstance(result, dict) else None
            if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(found):
                raise Misfit(f"a result has the index {index!r:.40}, but there were {len(found)} documents")
            if index in seen:
                raise Misfit(f"the document {index} has two results")
            seen.add(index)
            with np.errstate(over="ignore"):
                found[index] = _number(result.get(key))
        return [put_scores(row.impression, row.places, found)], ""


def joined(parts: Sequence[Scores | TeacherError]) -> Scores | TeacherError:
    """Joins the scores of a list's parts. It is an error if no part has scores."""
    found = [part for part in parts if isinstance(part, Scores)]
    if not found:
        return parts[0]
    whole = found[0]
    for part in found[1:]:
        values_L = np.where(part.scored_L, part.values_L, whole.values_L)
        whole = Scores(values_L, whole.scored_L | part.scored_L)
    return whole


def model_url(settings: ModelServer) -> str:
    """Address of the model, where its metadata is.

    Raises:
        ConfigError: The settings name no model, or an address with a query.
    """
    if not settings.model:
        raise ConfigError(f"{SECTION}.model: names no model; set it to the model's name at the server")
    if "?" in settings.url:
        raise ConfigError(f"{SECTION}.url: must be the server's address alone, without '?'")
    version = f"/versions/{quote(settings.model_version, safe='')}" if settings.model_version else ""
    return f"{settings.url.rstrip('/')}/v2/models/{quote(settings.model, safe='')}{version}"


def version_of(metadata: Any) -> str:
    """The newest version that the metadata names; empty if it names none."""
    versions = metadata.get("versions") if isinstance(metadata, dict) else None
    texts = [one for one in versions if isinstance(one, str)] if isinstance(versions, list) else []
    return max(texts, key=lambda one: (int(one) if one.isdecimal() and len(one) < 20 else -1, one), default="")


def _ports(metadata: Any, key: str) -> list[Port]:
    """The inputs or outputs that the metadata describes."""
    found = metadata.get(key) if isinstance(metadata, dict) else None
    ports = []
    for one in found if isinstance(found, list) else []:
        name, kind, shape = (one.get(k) for k in ("name", "datatype", "shape")) if isinstance(one, dict) else [None] * 3
        sizes = [
            int(n) if isinstance(n, int | str) and re.fullmatch("-?[0-9]{1,9}", str(n)) else None for n in shape or []
        ]
        if not isinstance(name, str) or not isinstance(kind, str) or not isinstance(shape, list) or None in sizes:
            raise TeacherError(f"{SECTION}: the model's metadata has {key} without name, datatype and shape")
        ports.append(Port(name, _DTYPES.get(kind, kind), tuple(n if n is not None and n >= 0 else None for n in sizes)))
    if not ports:
        raise TeacherError(f"{SECTION}: the model's metadata names no {key}; set {SECTION}.metadata = false")
    return ports


def _tensor(output: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """An output as an array. null becomes NaN."""
    shape, data, kind = output.get("shape"), output.get("data"), output.get("datatype")
    if not isinstance(kind, str) or not kind.startswith(("FP", "BF")):
        raise Misfit(f"the output's type is {kind!r:.20}, not a floating-point type")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise Misfit(f"the output's shape is {shape!r:.40}")
    if not isinstance(data, list):
        raise Misfit("the output has no list of data")
    while data and all(isinstance(one, list) for one in data):  # data may be nested, or flat in row-major order
        data = [value for one in data for value in one]
    if math.prod(shape) != len(data):
        raise Misfit(f"the output says that it has shape {shape!r:.60}, but has {len(data)} numbers")
    try:
        return np.array([_number(value) for value in data], np.float64).reshape(shape)
    except ValueError as e:  # more axes than an array can have, or longer ones
        raise Misfit(f"the output's shape is {shape!r:.40}, which no array has") from e


def _number(value: Any) -> float:
    """A number of JSON; NaN for null. Anything else is an error."""
    if value is None:
        return math.nan
    if type(value) not in (int, float):
        raise Misfit(f"a score is {value!r:.40}, not a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf
