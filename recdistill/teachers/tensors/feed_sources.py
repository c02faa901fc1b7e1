"""What can be fed to a model of tensors, by the names in the settings, and how values are converted to its types.

| text | one for each | types |
| --- | --- | --- |
| `candidates`, `history` | candidate, event | texts, or integers by the vocabulary |
| `candidates.mask`, `history.mask` | candidate, event | 1 where there is one, 0 where there is padding |
| `candidates.logged_score` | candidate | numbers |
| `history.action`, `history.age_s` | event | texts; seconds before the impression, -1 where unknown |
| `history.length`, `time_us`, `user` | request | numbers; microseconds; texts |
| `item.NAME`, `context.NAME` | candidate, request | as the value is |

It does not know impressions.

Example:
    >>> source_of("item.price", "teacher.onnx.inputs.price").axis, cell_of(3.0, "int64"), cell_of(0.5, "int64")
    ('candidate', 3, None)
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from recdistill.errors import ConfigError
from recdistill.given import read_text
from recdistill.teachers.contract import LOGGED_SCORE, USER
from recdistill.teachers.tensors.models import TensorModel

DTYPES: Final[Mapping[str, type]] = {
    "string": object,
    "bool": np.bool_,
    "int32": np.int32,
    "int64": np.int64,
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
}
"""Types of tensors that can be fed, with numpy's type for each. Texts are objects."""

FLOATS: Final = ("float16", "float32", "float64")
INTEGERS: Final = ("int32", "int64")
_MOST_BYTES: Final = 1 << 30  # of a vocabulary
_MOST: Final = {"int32": 2**31, "int64": 2**63}

Axis = Literal["candidate", "event", "request"]


class Port(NamedTuple):
    """One input or output of a model. A dimension of any size is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name!r} ({self.dtype} [{', '.join('?' if n is None else str(n) for n in self.shape)}])"


class Source(NamedTuple):
    """Something that can be fed. `name` is the attribute or the context field, if there is one."""

    text: str
    kind: str
    name: str
    axis: Axis


_PLAIN: Final[Mapping[str, Axis]] = {
    "candidates": "candidate",
    "candidates.mask": "candidate",
    "candidates.logged_score": "candidate",
    "history": "event",
    "history.mask": "event",
    "history.action": "event",
    "history.age_s": "event",
    "history.length": "request",
    "user": "request",
    "time_us": "request",
}
TAKES: Final[Mapping[str, tuple[str, ...]]] = {
    "candidates": ("string", *INTEGERS),
    "history": ("string", *INTEGERS),
    "candidates.mask": ("bool", *INTEGERS, *FLOATS),
    "history.mask": ("bool", *INTEGERS, *FLOATS),
    "candidates.logged_score": FLOATS,
    "history.age_s": FLOATS,
    "history.length": (*INTEGERS, *FLOATS),
    "time_us": ("int64", "float64"),
    "history.action": ("string",),
    "user": ("string",),
    "item": tuple(DTYPES),
    "context": tuple(DTYPES),
}
_NATURAL: Final[Mapping[str, str]] = {
    **dict.fromkeys(("candidates", "history", "history.action", "user"), "string"),
    **dict.fromkeys(("candidates.mask", "history.mask"), "bool"),
    **dict.fromkeys(("history.length", "time_us"), "int64"),
}


class Input(NamedTuple):
    """One input of the model and its sources. `width` is the size of an extra last axis; None if there is none."""

    port: Port
    sources: tuple[Source, ...]
    axis: Axis
    width: int | None
    substitute: Any


def natural_ports(settings: TensorModel, types: Mapping[str, str], section: str) -> list[Port]:
    """Inputs for a model that cannot be asked for them.

    Types follow from the sources: texts for ids, float32 for values.

    Args:
        settings: What is fed.
        types: Type by input, where it is different.
        section: Section of the settings, for errors.

    Raises:
        ConfigError: Something cannot be fed.
    """
    ports = []
    lists = settings.layout == "lists"
    for name, value in settings.inputs.items():
        texts = [value] if isinstance(value, str) else value
        sources = [source_of(text, f"{section}.inputs.{name}") for text in texts]
        axes = {source.axis for source in sources}
        axis = "candidate" if "candidate" in axes else "event" if "event" in axes else "request"
        kind = sources[0].kind if sources else ""
        dtype = "int64" if settings.vocabulary and kind in ("candidates", "history") else _NATURAL.get(kind, "float32")
        count = {"candidate": 2 if lists else 1, "event": 2, "request": 1}[axis]
        last = () if isinstance(value, str) else (len(sources),)
        ports.append(Port(name, types.get(name, dtype), (None,) * count + last))
    return ports


def needed_attributes(settings: TensorModel) -> set[str]:
    """The item attributes that are fed to inputs."""
    texts = [text for value in settings.inputs.values() for text in ([value] if isinstance(value, str) else value)]
    return {text.removeprefix("item.") for text in texts if text.startswith("item.")}


def read_by(settings: TensorModel) -> frozenset[str]:
    """Which of user and logged scores are fed, see `contract.reads`.

    Example:
        >>> sorted(read_by(TensorModel(inputs={"who": "user", "ids": "candidates"})))
        ['user']
    """
    texts = {text for value in settings.inputs.values() for text in ([value] if isinstance(value, str) else value)}
    told = {"user": USER, "candidates.logged_score": LOGGED_SCORE}
    return frozenset(name for text, name in told.items() if text in texts)


def source_of(text: str, at: str) -> Source:
    """The source that a text of the settings names. `at` is the key in the settings, for the error.

    Raises:
        ConfigError: Nothing of that name can be fed.
    """
    if text in _PLAIN:
        return Source(text, text, "", _PLAIN[text])
    kind, _, name = text.partition(".")
    if name and kind == "item":
        return Source(text, kind, name, "candidate")
    if name and kind == "context":
        return Source(text, kind, name, "request")
    raise ConfigError(f"{at}: {text!r} cannot be fed; use {', '.join(_PLAIN)}, item.NAME or context.NAME")


def check_names(settings: TensorModel, known: Mapping[str, Port], section: str) -> None:
    """Compares the names in the settings with the model's inputs.

    Raises:
        ConfigError: An input that is not fed, or one that the model does not have.
    """
    shown = ", ".join(map(str, known.values()))
    for name in known:
        if name not in settings.inputs:
            raise ConfigError(f"{section}.inputs: does not name the model's input {known[name]}; its inputs: {shown}")
    for name in settings.inputs:
        if name not in known:
            raise ConfigError(f"{section}.inputs.{name}: the model has no such input; its inputs: {shown}")
    for name in settings.missing:
        if name not in known:
            raise ConfigError(f"{section}.missing.{name}: the model has no such input; its inputs: {shown}")


def vocabulary(settings: TensorModel, section: str) -> dict[str, int] | None:
    """Integer by item id, from the file in the settings; None if the settings have no file.

    Raises:
        ConfigError: The file cannot be read, or names an item twice.
    """
    if not settings.vocabulary:
        return None
    try:
        text = read_text(Path(settings.vocabulary), what="vocabularies", most=_MOST_BYTES)
    except ConfigError as e:
        raise ConfigError(f"{section}.vocabulary: {e}") from e
    # Not `splitlines`: it also cuts at characters that an id may hold, and all later items would get other rows.
    lines = [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]
    rows = {line: at for at, line in enumerate(lines, settings.first_row)}
    if len(rows) < len(lines):
        raise ConfigError(f"{section}.vocabulary: {settings.vocabulary} names an item twice")
    return rows


def cell_of(value: Any, dtype: str) -> Any:
    """A value converted to the type; None if it does not fit. A text is taken for the number that it spells."""
    if value is None or isinstance(value, list):
        return None
    if dtype == "string":
        return text_of(value)
    if isinstance(value, str):
        value = _spelt(value)
        if value is None:
            return None
    if dtype == "bool":
        return bool(value) if isinstance(value, bool) or value in (0, 1) else None
    if dtype in INTEGERS:
        whole = int(value) if float(value).is_integer() else None
        return whole if whole is not None and -_MOST[dtype] <= whole < _MOST[dtype] else None
    return float(value)


def _spelt(text: str) -> float | None:
    """The finite number that a text spells, as tables of text have it."""
    try:
        number = float(text) if "_" not in text else math.nan  # Python would read 1_000
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def text_of(value: str | float | bool) -> str:
    """Text of a value: numbers in their shortest form."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
