"""One column of values -> numbers: what a category, number, text or vector is in a batch.

| kind | array | where there is no value |
| --- | --- | --- |
| category | int32 [N, max_values] rows | -1 |
| text | int32 [N, max_values] rows | -1 |
| number | float32 [N, 2]: standardised and clipped to ±5, present | 0, 0 |
| vector | float32 [N, size] | 0 |

A category that is a number is taken as its shortest text (`1994`, `0.5`), a flag as `true` or `false`. A text is
lower-cased and split into words (runs of letters, digits and `_`); each run of `ngrams[0]` to `ngrams[1]` words,
shorter runs first, joined by one space, falls to row `1 + crc32(run as UTF-8, started from crc32(key)) mod capacity`.
Values and rows of runs that come twice count once; those after the first `max_values` are ignored. An empty text or
list is no value.

It does not know items or requests.

Example:
    >>> from recdistill.features.spec import Field, FeatureSpec
    >>> spec = FeatureSpec(context={"age": Field("number", mean=40.0, std=10.0)})
    >>> encode_column("context.age", spec.context["age"], [25.0, None], Vocabulary(spec)).tolist()
    [[-1.5, 1.0], [0.0, 0.0]]
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from recdistill.features.spec import FeatureError, Field
from recdistill.features.vocabulary import Vocabulary
from recdistill.records import Value

CLIP: Final = 5.0  # standard deviations
_WORDS: Final = re.compile(r"\w+")
_EXPECTED: Final = {
    "category": "a text, number, flag or a list of them",
    "number": "a number or a flag",
    "text": "a text or a list of texts",
}


def encode_column(
    key: str,
    field: Field,
    values: Sequence[Value | None],
    vocabulary: Vocabulary,
    *,
    admit: bool = False,
    errors: list[FeatureError] | None = None,
) -> npt.NDArray[Any]:
    """Encodes one field of N requests or items.

    Args:
        key: "item.<field>" or "context.<field>".
        field: Its specification.
        values: One each; None where there is none.
        vocabulary: Rows of categories.
        admit: Whether new categories get rows of their own.
        errors: Where given, a value of the wrong kind is added here and counts as absent.

    Returns:
        Array [N, field.width], as in the table above.

    Raises:
        FeatureError: For the first value of the wrong kind, when `errors` is None.
    """
    checked: list[Value | None] = []
    for row, value in enumerate(values):
        problem = None if value is None else problem_of(field, value)
        if problem is None:
            checked.append(value)
            continue
        error = FeatureError(key, problem, row)
        if errors is None:
            raise error
        errors.append(error)
        checked.append(None)
    match field.kind:
        case "category":
            return _categories(key, field, checked, vocabulary, admit)
        case "text":
            return _texts(key, field, checked)
        case "number":
            return _numbers(field, checked)
        case "vector":
            return _vectors(field, checked)


def problem_of(field: Field, value: Value) -> str | None:
    """What is wrong with a value, None when it fits the field."""
    members = value if isinstance(value, list) else [value]
    if field.kind == "vector":
        if not isinstance(value, list) or not all(isinstance(member, float | int) for member in members):
            return f"must be a list of {field.size} numbers, not {_describe(value)}"
        return (
            f"must be a list of {field.size} numbers, not of {len(value)}"
            if len(value) not in (0, field.size)
            else None
        )
    if field.kind == "category":
        fits = all(isinstance(member, str | float | int) for member in members)
    elif field.kind == "text":
        fits = all(isinstance(member, str) for member in members)
    else:
        fits = isinstance(value, float | int)
    return None if fits else f"must be {_EXPECTED[field.kind]}, not {_describe(value)}"


def _describe(value: Any) -> str:
    if isinstance(value, list):
        return "a list of " + ("texts" if value and isinstance(value[0], str) else "numbers")
    return {str: "a text", bool: "a flag", float: "a number", int: "a number"}.get(type(value), type(value).__name__)


def _text_of(member: Any) -> str:
    if isinstance(member, str):
        return member
    if isinstance(member, bool):
        return "true" if member else "false"
    number = float(member)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _padded(rows: list[list[int]], width: int) -> npt.NDArray[np.int32]:
    out = np.full((len(rows), width), -1, dtype=np.int32)
    for index, row in enumerate(rows):
        if row:
            out[index, : len(row)] = row
    return out


def _categories(
    key: str, field: Field, values: Sequence[Value | None], vocabulary: Vocabulary, admit: bool
) -> npt.NDArray[np.int32]:
    rows: list[list[int]] = []
    for value in values:
        members = value if isinstance(value, list) else () if value is None else (value,)
        texts = dict.fromkeys(text for text in map(_text_of, members) if text)
        rows.append([vocabulary.row(key, text, admit=admit) for text in list(texts)[: field.max_values]])
    return _padded(rows, field.width)


def _texts(key: str, field: Field, values: Sequence[Value | None]) -> npt.NDArray[np.int32]:
    seed = zlib.crc32(key.encode())
    rows: list[list[int]] = []
    for value in values:
        texts = cast("list[str]", value if isinstance(value, list) else [] if value is None else [value])
        words = [_WORDS.findall(text.lower()) for text in texts]
        runs = (
            " ".join(some[start : start + length])
            for length in range(field.ngrams[0], field.ngrams[1] + 1)
            for some in words
            for start in range(len(some) - length + 1)
        )
        hashed: dict[int, None] = {}
        for run in runs:
            hashed[1 + zlib.crc32(run.encode("utf-8", "surrogatepass"), seed) % field.capacity] = None
            if len(hashed) == field.max_values:
                break
        rows.append(list(hashed))
    return _padded(rows, field.width)


def _numbers(field: Field, values: Sequence[Value | None]) -> npt.NDArray[np.float32]:
    out = np.zeros((len(values), 2), dtype=np.float32)
    present = np.array([value is not None for value in values], dtype=bool)
    numbers = np.array([0.0 if value is None else float(cast("float", value)) for value in values], dtype=np.float64)
    with np.errstate(over="ignore"):  # a huge number is clipped like any other
        out[:, 0] = np.where(present, np.clip((numbers - field.mean) / field.std, -CLIP, CLIP), 0.0)
    out[:, 1] = present
    return out


def _vectors(field: Field, values: Sequence[Value | None]) -> npt.NDArray[np.float32]:
    out = np.zeros((len(values), field.size), dtype=np.float32)
    for index, value in enumerate(values):
        if value:
            out[index] = cast("list[float]", value)
    return out
