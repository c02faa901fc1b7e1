"""One column of values -> numbers: how a category, number, text or vector looks in a batch.

| kind | array | where there is no value |
| --- | --- | --- |
| category | int32 [N, max_values] rows | -1 |
| text | int32 [N, max_values] rows | -1 |
| number | float32 [N, 2]: standardised and clipped to ±5, present | 0, 0 |
| vector | float32 [N, size] | 0 |

A number as a category is its shortest text (`1994`, `0.5`). A flag is `true` or `false`.

A text is changed to lower case and split into words (runs of letters, digits and `_`). Then come all runs of
`ngrams[0]` to `ngrams[1]` words, shorter runs first, with one space between words. Each run gets row `1 + crc32(run as
UTF-8, started from crc32(key)) mod capacity`.

A value or row that comes twice counts once. Those after the first `max_values` are ignored. An empty text or list
is no value.

It does not know items or requests.

Example:
    >>> from recdistill.features.spec import Field, FeatureSpec
    >>> spec = FeatureSpec(context={"age": Field("number", mean=40.0, std=10.0)})
    >>> encode_column("context.age", spec.context["age"], [25.0, None], Vocabulary(spec)).tolist()
    [[-1.5, 1.0], [0.0, 0.0]]
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from recdistill.features.spec import FeatureError, Field
from recdistill.features.vocabulary import Vocabulary
from recdistill.limits import MAX_VECTOR
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
    out = empty_column(field, len(values))
    # Most texts of a batch of requests come several times. Each is looked up once; later rows copy its first row.
    first: dict[str, int] = {}
    copies: list[tuple[int, int]] = []
    for row, value in enumerate(values):
        if value is None:
            continue
        if isinstance(value, str) and value in first:
            copies.append((row, first[value]))
            continue
        problem = problem_of(field, value)
        if problem is None:
            write_value(out[row], key, field, value, vocabulary, admit=admit)
            if isinstance(value, str):
                first[value] = row
            continue
        error = FeatureError(key, problem, row)
        if errors is None:
            raise error
        errors.append(error)
    if copies:
        if admit and vocabulary.counts_waiting and field.kind == "category":
            for text, times in Counter(cast("str", values[row]) for row, _ in copies).items():
                if text and not vocabulary.has(key, text):
                    vocabulary.saw(key, text, times)
        rows, origins = zip(*copies, strict=True)
        out[list(rows)] = out[list(origins)]
    return out


def empty_column(field: Field, count: int) -> npt.NDArray[Any]:
    """The array of `count` absent values."""
    if field.kind in ("category", "text"):
        return np.full((count, field.width), -1, dtype=np.int32)
    return np.zeros((count, field.width), dtype=np.float32)


def write_value(
    out: npt.NDArray[Any], key: str, field: Field, value: Value, vocabulary: Vocabulary, *, admit: bool
) -> None:
    """Writes one value into one row of an empty column. `problem_of` has said that the value fits its field."""
    rows: list[int] = []
    if field.kind == "category":
        rows = [vocabulary.row(key, text, admit=admit) for text in texts_of(value)[: field.max_values]]
    elif field.kind == "text":
        rows = _buckets(key, field, cast("list[str]", value if isinstance(value, list) else [value]))
    elif field.kind == "number":
        out[0] = min(max((float(cast("float", value)) - field.mean) / field.std, -CLIP), CLIP)
        out[1] = 1.0
    elif value:
        out[:] = value
    if rows:
        out[: len(rows)] = rows


def texts_of(value: Value) -> list[str]:
    """The texts of a category's value, each once."""
    members = value if isinstance(value, list) else (value,)
    return list(dict.fromkeys([text for text in map(_text_of, members) if text]))


def _buckets(key: str, field: Field, texts: list[str]) -> list[int]:
    """Rows of all runs of words in some texts. A run lies within one text."""
    seed = zlib.crc32(key.encode())
    words = [_WORDS.findall(text.lower()) for text in texts]
    runs = (
        " ".join(some[start : start + length])
        for length in range(field.ngrams[0], field.ngrams[1] + 1)
        for some in words
        for start in range(len(some) - length + 1)
    )
    rows: dict[int, None] = {}
    for run in runs:
        rows[1 + zlib.crc32(run.encode("utf-8", "surrogatepass"), seed) % field.capacity] = None
        if len(rows) == field.max_values:
            break
    return list(rows)


def problem_of(field: Field, value: Value) -> str | None:
    """What is wrong with a value; None when it fits the field."""
    members = value if isinstance(value, list) else [value]
    if field.kind == "vector":
        fits = isinstance(value, list) and all(isinstance(member, float | int) for member in members)
        if not fits:
            return f"must be a list of {field.size} numbers, not {_describe(value)}"
        if len(members) not in (0, field.size):
            return f"must be a list of {field.size} numbers, not of {len(members)}"
    elif field.kind == "category":
        fits = all(isinstance(member, str | float | int) for member in members)
    elif field.kind == "text":
        fits = all(isinstance(member, str) for member in members)
    else:
        fits = isinstance(value, float | int)
    if not fits:
        return f"must be {_EXPECTED[field.kind]}, not {_describe(value)}"
    for member in members:
        if isinstance(member, float) and not math.isfinite(member):
            return f"must be finite, not {member}"
    if field.kind == "vector" and members and max(map(abs, cast("list[float]", members))) > MAX_VECTOR:
        return f"must have numbers between -{MAX_VECTOR:,.0f} and {MAX_VECTOR:,.0f}: scale the vector down"
    return None


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
