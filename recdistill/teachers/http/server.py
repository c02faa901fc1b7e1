"""What is known of a model behind HTTP: where it is, what it is fed, and how requests are sent.

docs/configuration.md says what each value means, under `[teacher.http]`. Who makes one has checked the values.
It knows nothing of connections.

Example:
    >>> ModelServer(url="http://localhost:8000", model="ranker").protocol
    'open-inference'
"""

from __future__ import annotations

from typing import Literal

from msgspec import field

from recdistill.teachers.tensors import TensorModel


class ModelServer(TensorModel, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model behind HTTP."""

    protocol: Literal["open-inference", "rerank", "rerank-texts"] = "open-inference"
    url: str = ""
    model: str = ""
    model_version: str = ""
    metadata: bool = True
    datatypes: dict[str, Literal["BYTES", "BOOL", "INT32", "INT64", "FP16", "FP32", "FP64"]] = field(
        default_factory=dict
    )
    query: str = "The next item for someone who chose: {history}"
    document: str = "{title}"
    query_history: int = 10
    max_documents: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    concurrency: int = 4
    timeout_s: float = 10.0
    retries: int = 3
    backoff_s: float = 0.25
    breaker_failures: int = 8
    breaker_s: float = 10.0
    max_answer_bytes: int = 33_554_432
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    verify: bool = True
    proxy: str = ""
