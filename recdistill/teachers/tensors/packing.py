"""Rows that are ready to be fed -> the tensors of one call of the model, with padding where lists differ in length.

It knows nothing of how a row was made or of how the model is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recdistill.records import Impression
from recdistill.teachers.tensors.feed_sources import DTYPES, INTEGERS, Input
from recdistill.teachers.tensors.models import TensorModel


class Row(NamedTuple):
    """One impression, ready to be fed.

    `kept` are the places of the candidates that are fed; `cells` are the values by input.
    """

    impression: Impression
    kept: list[int]
    events: int
    cells: dict[str, Any]


def packed(
    inputs: Sequence[Input], batch: Sequence[Row], settings: TensorModel, *, length: int | None, events: int | None
) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a batch by input. Texts are arrays of objects.

    Args:
        inputs: Of the model.
        batch: The rows.
        settings: Of the model.
        length: The fixed length of its lists; None: there is none.
        events: The fixed length of its histories; None: there is none.
    """
    lists = settings.layout == "lists"
    counts = [len(row.kept) for row in batch]
    length = length or max(counts)
    events = events or max(1, *(row.events for row in batch))
    made = {}
    for one in inputs:
        tail = () if one.width is None else (one.width,)
        columns = [row.cells[one.port.name] for row in batch]
        # Candidates without padding, all lists one after another; or one row a request; or one padded row a list.
        if one.axis == "candidate" and not lists:
            array = _full(one, (sum(counts), *tail), settings.pad)
            _put(array, [cell for column in columns for cell in column])
        elif one.axis == "request":
            array = _full(one, (len(batch), *tail), settings.pad)
            _put(array, columns)
        else:
            width = length if one.axis == "candidate" else events
            array = _full(one, (len(batch), width, *tail), settings.pad)
            left = one.axis == "event" and settings.history_side == "left"
            for at, column in enumerate(columns):
                if column:
                    _put(array[at, width - len(column) :] if left else array[at, : len(column)], column)
        # In the flat layout each candidate has its own copy of the request's values.
        if not lists and one.axis != "candidate":
            array = np.repeat(array, counts, axis=0)
        made[one.port.name] = array
    return made


def _full(one: Input, shape: tuple[int, ...], pad: int) -> npt.NDArray[Any]:
    padding: Any = "" if one.port.dtype == "string" else 0
    if one.sources[0].kind in ("candidates", "history") and one.port.dtype in INTEGERS:
        padding = pad
    return np.full(shape, padding, dtype=DTYPES[one.port.dtype])


def _put(into: npt.NDArray[Any], cells: Sequence[Any]) -> None:
    """Writes cells into an array.

    Texts are written one by one, because numpy would turn them into its fixed-width type.
    """
    if into.dtype != object:
        with np.errstate(over="ignore"):  # a number too large for float16 becomes infinite, and its score is masked
            into[...] = cells
        return
    for at, cell in enumerate(cells):
        into[at] = cell
