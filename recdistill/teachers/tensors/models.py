"""What is known of a model that takes tensors: what its inputs are fed, and where its scores are.

docs/configuration.md says what each value means, under `[teacher.onnx]` and `[teacher.http]`. Who makes one has checked
the values. It knows nothing of impressions.

Example:
    >>> OnnxModel(path="m.onnx", inputs={"ids": "candidates"}).layout
    'lists'
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class TensorModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model of tensors, wherever it runs."""

    inputs: dict[str, str | list[str]] = {}
    layout: Literal["lists", "pairs"] = "lists"
    output: str = ""
    column: int = -1
    batch: int = 64
    max_history: int = 50
    history_side: Literal["right", "left"] = "right"
    vocabulary: str = ""
    integer_ids: bool = False
    first_row: int = 1
    pad: int = 0
    missing: dict[str, str | int | float] = {}


class OnnxModel(TensorModel, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model in an ONNX file."""

    path: str = ""
    threads: int = 0
