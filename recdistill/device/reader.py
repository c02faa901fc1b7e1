"""Answers requests from a device file, with onnxruntime and numpy only. A phone or a browser does the same.

The file is checked before it is loaded (see `file.py`). The file itself holds the part of the specification that is
needed here.

It knows nothing of bundles, or of the code that computes features.

Example:
    >>> Device.open(Path("no/such.onnx"))
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such.onnx: cannot be read (No such file or directory); give a device file
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.device import file
from recdistill.errors import BundleError, RequestError
from recdistill.given import read_bytes

_MOST_BYTES = 2 << 30  # the largest ONNX file: protobuf allows no more

_TYPES = {"category": "tensor(string)", "number": "tensor(double)", "vector": "tensor(float)"}  # of context, by kind
_INPUTS = {
    **dict.fromkeys(("history", "actions", "exclude"), "tensor(string)"),
    **dict.fromkeys(("times", "time", "k"), "tensor(int64)"),
}


class Device:
    """A device file.

    Args:
        model: Its bytes.
        source: Its name, for errors.
        threads: Threads of one inference.

    Raises:
        BundleError: It is not a device file of this format, or a byte of it was changed.
    """

    def __init__(self, model: bytes, *, source: str, threads: int = 1) -> None:
        if not file.is_whole(model):
            raise BundleError(f"{source}: is not a whole device file, or was changed after the export; export it again")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as e:  # onnxruntime's exceptions have no common base class but Exception
            raise BundleError(f"{source}: onnxruntime cannot load it; export it again") from e
        try:
            entries = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as e:
            raise BundleError(f"{source}: does not say what it was made of (no UTF-8); export it again") from e
        made = file.Made.read(entries, source=source)
        self.content_hash, self.items = made.content_hash, made.items
        try:
            self._context = _context_of(made.features)
        except (ValueError, RecursionError) as e:
            raise BundleError(f"{source}: does not say what it was made of ({e}); export it again") from e
        takes = {entry.name: entry.type for entry in self._session.get_inputs()}
        stated = {f"context.{name}": _TYPES[field["kind"]] for name, field in self._context.items()}
        if takes != _INPUTS | stated or not {"items", "scores"} <= {out.name for out in self._session.get_outputs()}:
            raise BundleError(f"{source}: its graph takes or gives other values than it says; export it again")

    @classmethod
    def open(cls, path: Path, *, expect: str | None = None, threads: int = 1) -> Device:
        """Reads, checks and loads a device file.

        Args:
            path: The file.
            expect: Content hash of the bundle that the file must come from.
            threads: Threads of one inference.

        Raises:
            BundleError: It cannot be read, was changed, or comes from another bundle.
        """
        advice = "give a device file"
        model = read_bytes(Path(path), BundleError, most=_MOST_BYTES, advice=advice)
        device = cls(model, source=str(path), threads=threads)
        if expect is not None and device.content_hash != expect:
            raise BundleError(f"{path}: comes from bundle {device.content_hash[:12]}, not from {expect[:12]}")
        return device

    def recommend(
        self,
        history: Sequence[str] = (),
        *,
        actions: Sequence[str] | None = None,
        times_us: Sequence[int] | None = None,
        time_us: int = 0,
        context: Mapping[str, Any] | None = None,
        k: int = 10,
        exclude: Sequence[str] = (),
    ) -> tuple[list[str], list[float]]:
        """The best k items with their scores.

        Args:
            history: Item ids, oldest first. Unknown items are ignored.
            actions: The action of each event. None: the actions are unknown.
            times_us: The time of each event, in microseconds since the epoch; 0 is unknown. None: all are unknown.
            time_us: Time of the request; 0 is unknown.
            context: Values by field. Unknown fields are ignored.
            k: How many items. The answer has fewer only when fewer items are left.
            exclude: Items that must not be shown.

        Raises:
            RequestError: An argument does not fit. The error names it.
        """
        actions = [""] * len(history) if actions is None else actions
        times_us = [0] * len(history) if times_us is None else times_us
        for name, values in (("actions", actions), ("times_us", times_us)):
            if len(values) != len(history):
                raise RequestError(name, f"must be one for each of the {len(history)} events, not {len(values)}")
        if k < 1:
            raise RequestError("k", f"must be at least 1, not {k}")
        feeds = {
            "history": _texts(history, "history"),
            "actions": _texts(actions, "actions"),
            "times": _times(times_us, "times_us"),
            "time": _times([time_us], "time_us"),
            "exclude": _texts(exclude, "exclude"),
            "k": np.array([min(k, self.items)], np.int64),
        }
        for name, field in self._context.items():
            feeds[f"context.{name}"] = _context_value(f"context.{name}", field, (context or {}).get(name))
        items, scores = self._session.run(["items", "scores"], feeds)
        return items.tolist(), scores.tolist()


def _context_of(features: str) -> dict[str, dict[str, Any]]:
    """The fields of the context, from the feature specification.

    Raises:
        ValueError: The text is no JSON, or not of this form.
        RecursionError: The JSON is nested too deeply.
    """
    whole = json.loads(features)
    context = whole.get("context") if isinstance(whole, dict) else None
    if isinstance(context, dict) and all(_is_field(field) for field in context.values()):
        return context
    raise ValueError("the context of its feature specification is not of the right form")


def _is_field(field: Any) -> bool:
    if not isinstance(field, dict) or not isinstance(field.get("kind"), str) or field["kind"] not in _TYPES:
        return False
    return field["kind"] != "vector" or (type(field.get("size")) is int and field["size"] > 0)


def _texts(values: Sequence[str], name: str) -> np.ndarray:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise RequestError(name, "must be a list of texts")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        raise RequestError(name, "holds half a surrogate pair") from None
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _times(values: Sequence[int], name: str) -> np.ndarray:
    if not all(isinstance(v, int) and 0 <= v < 2**62 for v in values):
        raise RequestError(name, "must be microseconds since the epoch, 0 where unknown")
    return np.array(values, np.int64)


def _context_value(name: str, field: Mapping[str, Any], value: Any) -> np.ndarray:
    """One context value in the form that the graph takes. No value is an empty list."""
    members = list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
    if any(isinstance(member, int | float) and not _is_finite(member) for member in members):
        raise RequestError(name, "must be finite numbers")
    if field["kind"] == "category":
        return _texts([_text(member) for member in members], name)
    if not all(isinstance(v, int | float) for v in members):
        raise RequestError(name, "must be finite numbers")
    if field["kind"] == "number":
        if isinstance(value, list | tuple):
            raise RequestError(name, "must be one number, not a list")
        return np.array(members, np.float64)
    if members and len(members) != field["size"]:
        raise RequestError(name, f"must be a list of {field['size']} numbers, not of {len(members)}")
    return np.array(members, np.float32)


def _is_finite(member: int | float) -> bool:
    try:
        return math.isfinite(member)
    except OverflowError:  # a whole number that no float can hold
        return False


def _text(member: Any) -> str:
    """A category as the vocabulary writes it: whole numbers without a point, True and False in lower case."""
    if isinstance(member, bool):
        return "true" if member else "false"
    if isinstance(member, int | float):
        number = float(member)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return str(member)
