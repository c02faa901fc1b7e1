"""Turns impressions into the tensors that a model takes, and its output into scores.

The settings say what each input is fed. A candidate with a missing value is not fed, and is masked in the answer. An
impression with a missing value is an error. Lists of different lengths go into one batch only if the model knows what
is padding (`candidates.mask`, `history.mask`, `history.length`), or if its shape has a fixed length. Otherwise all
lists of a batch have one length. So the model cannot take padding for an item.

It does not know how the model is run.

Example:
    >>> from recdistill.teachers.tensors.models import OnnxModel
    >>> from recdistill.records import Candidate, Impression
    >>> settings = OnnxModel(inputs={"ids": "candidates"})
    >>> feeder = Feeder(settings, [Port("ids", "string", (None, None))], Attributes(), nan=True, section="teacher.onnx")
    >>> [row] = feeder.rows([Impression("i", 5, candidates=(Candidate("a"), Candidate("b")))])
    >>> feeder.arrays([row])["ids"].tolist()
    [['a', 'b']]
    >>> [scores] = feeder.scores([row], np.array([[0.5, np.nan]]))
    >>> scores.scored_L.tolist()
    [True, False]
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recdistill.errors import ConfigError, TeacherError
from recdistill.records import Impression
from recdistill.teachers.attributes import Attributes
from recdistill.teachers.contract import Scores
from recdistill.teachers.missed import Missed
from recdistill.teachers.tensors.feed_sources import (
    FLOATS,
    INTEGERS,
    Input,
    Port,
    Source,
    cell_of,
    check_names,
    vocabulary,
)
from recdistill.teachers.tensors.inputs import fixed, input_of
from recdistill.teachers.tensors.models import TensorModel
from recdistill.teachers.tensors.packing import Row, packed
from recdistill.teachers.tensors.unmet import Unmet

log_ = logging.getLogger(__name__)

_LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in FLOATS}


class Misfit(TeacherError):
    """A model's answer that does not have the shape that was asked for."""


class Feeder:
    """Makes tensors for one model.

    Args:
        settings: What each input is fed.
        ports: The model's inputs.
        attributes: The catalogue; asked at each call.
        nan: Whether a number that is missing may be fed as NaN.
        section: Section of the settings, for errors.

    Raises:
        ConfigError: The settings do not fit the model; one sentence says where.
    """

    def __init__(
        self, settings: TensorModel, ports: Sequence[Port], attributes: Attributes, *, nan: bool, section: str
    ) -> None:
        self._settings = settings
        self._attributes = attributes
        self._nan = nan
        self._section = section
        self._row_of = vocabulary(settings, section)
        self.missed = Missed()
        self._unmet = Unmet(section)
        self._told = settings.integer_ids or self._row_of is not None
        known = {port.name: port for port in ports}
        check_names(settings, known, section)
        self._inputs = [input_of(port, settings.inputs[name], settings, section) for name, port in known.items()]
        if all(one.axis != "candidate" for one in self._inputs):
            raise ConfigError(f"{section}.inputs: feeds no input from the candidates, so there is nothing to score")
        kinds = {source.kind for one in self._inputs for source in one.sources}
        lists = settings.layout == "lists"
        self._length = fixed(self._inputs, "candidate", 1, section) if lists else None
        self._events = fixed(self._inputs, "event", 1, section)
        self._single = any(one.port.shape[0] == 1 for one in self._inputs)
        self._by_length = lists and self._length is None and "candidates.mask" not in kinds
        told = "history.mask" in kinds or "history.length" in kinds
        self._by_events = self._events is None and not told and any(one.axis == "event" for one in self._inputs)
        self._most_events = min(settings.max_history, self._events or settings.max_history)
        # If the model knows items only by integers, events whose item has no integer are left out.
        self._passes_over = any(
            one.sources[0].kind == "history" and one.port.dtype in INTEGERS and one.substitute is None
            for one in self._inputs
        )

    def rows(self, impressions: Sequence[Impression]) -> list[Row | TeacherError]:
        """Prepares impressions. Each becomes a row, or the reason why it cannot be fed."""
        rows = [self._row(impression) for impression in impressions]
        self._unmet.check()
        return rows

    def _row(self, impression: Impression) -> Row | TeacherError:
        events = list(impression.history)
        if self._passes_over:
            events = [event for event in events if self._integer(event.item) is not None]
        events = events[-self._most_events :]
        fed = [True] * len(impression.candidates)
        why = ""
        columns: dict[str, Any] = {}
        for one in self._inputs:
            if one.axis == "event":
                columns[one.port.name] = self._event_cells(one, impression, events)
            elif one.axis == "request":
                cell = self._stacked(one, [self._request_value(s, impression, len(events)) for s in one.sources])
                if cell is None:
                    texts = " or ".join(source.text for source in one.sources)
                    return TeacherError(
                        f"impression {impression.id}: has no {texts} that fits the input {one.port}; say in "
                        f"{self._section}.missing what is fed instead"
                    )
                columns[one.port.name] = cell
            else:
                cells = self._candidate_cells(one, impression, len(events))
                for place, cell in enumerate(cells):
                    if cell is None:
                        if fed[place]:
                            self.missed.add(self._reason(one), impression.candidates[place].item)
                        fed[place] = False
                        why = why or f"{impression.candidates[place].item!r} has nothing that fits the input {one.port}"
                columns[one.port.name] = cells
        kept = [place for place, good in enumerate(fed) if good]
        if not kept:
            return TeacherError(
                f"impression {impression.id}: no candidate can be fed to the model; {why or 'it has none'}"
            )
        if self._length is not None and len(kept) > self._length:
            return TeacherError(
                f"impression {impression.id}: has {len(kept)} candidates, but the model takes lists of {self._length}"
            )
        cut = {one.port.name for one in self._inputs if one.axis == "candidate"}
        cells_of = {n: [column[i] for i in kept] if n in cut else column for n, column in columns.items()}
        return Row(impression, kept, len(events), cells_of)

    def _integer(self, item_id: str) -> int | None:
        if self._row_of is not None:
            return self._row_of.get(item_id)
        if not re.fullmatch(r"-?[0-9]{1,18}", item_id):
            return None
        if not self._told:
            self._told = True
            log_.warning(
                "%s: item ids such as %r are fed as the integers that they are, since %s.vocabulary names no file; if "
                "the model has rows of its own, name the file, or its scores are those of other items; if not, set "
                "%s.integer_ids = true",
                *(self._section, item_id, self._section, self._section),
            )
        return int(item_id)

    def _reason(self, one: Input) -> str:
        """Why a candidate is not fed to an input."""
        if one.sources[0].kind != "candidates":
            return f"candidates have nothing for the input {one.port}"
        if self._row_of is None:
            return f"candidates have ids that are no integers, and {self._section}.vocabulary names no file"
        return f"candidates are not among the {len(self._row_of):,} lines of {self._settings.vocabulary}"

    def _id(self, one: Input, item_id: str) -> Any:
        value: Any = item_id if one.port.dtype == "string" else cell_of(self._integer(item_id), one.port.dtype)
        return one.substitute if value is None else value

    def _event_cells(self, one: Input, impression: Impression, events: Sequence[Any]) -> list[Any]:
        kind = one.sources[0].kind
        if kind == "history":
            return [self._id(one, event.item) for event in events]
        if kind == "history.mask":
            return [True] * len(events)
        if kind == "history.action":
            return [event.action or one.substitute or "" for event in events]
        unknown = -1.0 if one.substitute is None else one.substitute
        now = impression.time_us
        return [max(0.0, (now - event.time_us) / 1e6) if now and event.time_us else unknown for event in events]

    def _candidate_cells(self, one: Input, impression: Impression, events: int) -> list[Any]:
        kind = one.sources[0].kind if len(one.sources) == 1 else ""
        if kind == "candidates":
            return [self._id(one, candidate.item) for candidate in impression.candidates]
        if kind == "candidates.mask":
            return [True] * len(impression.candidates)
        fixed = {s: self._request_value(s, impression, events) for s in one.sources if s.axis == "request"}
        cells = []
        for candidate in impression.candidates:
            known = self._attributes.get(candidate.item)
            values = []
            for source in one.sources:
                if source in fixed:
                    values.append(fixed[source])
                elif source.kind == "item":
                    values.append(None if known is None else known.get(source.name))
                    if known is not None and one.substitute is None:
                        self._look(one, source, values[-1])
                else:
                    values.append(candidate.logged_score)
            unheard = known is None and any(source.kind == "item" for source in one.sources)
            cells.append(self._stacked(one, values, unheard=unheard))
        return cells

    def _look(self, one: Input, source: Source, value: Any) -> None:
        """Whether a candidate has an attribute that fits its input."""
        vector = one.width not in (None, 1) and len(one.sources) == 1
        fits = (
            isinstance(value, list) and len(value) == one.width
            if vector
            else cell_of(value, one.port.dtype) is not None
        )
        wanted = f"a list of {one.width}" if vector else "a text" if one.port.dtype == "string" else "a number"
        self._unmet.saw(one.port.name, source.name, wanted, fits=fits, value=value)

    def _request_value(self, source: Source, impression: Impression, events: int) -> Any:
        if source.kind == "context":
            return impression.context.get(source.name)
        return {"history.length": events, "user": impression.user, "time_us": impression.time_us}[source.kind]

    def _stacked(self, one: Input, values: list[Any], *, unheard: bool = False) -> Any:
        """One cell: a value, or a list of values if the input has an extra axis. None if one is missing."""
        if one.width is not None and len(one.sources) == 1 and one.width != 1:
            vector = values[0]
            if not isinstance(vector, list) or len(vector) != one.width:
                vector = [None] * one.width
            values = vector
        cells = [self._filled(one, value, unheard) for value in values]
        if any(cell is None for cell in cells):
            return None
        return cells[0] if one.width is None else cells

    def _filled(self, one: Input, value: Any, unheard: bool) -> Any:
        cell = cell_of(value, one.port.dtype)
        if not self._nan and isinstance(cell, float) and abs(cell) > _LARGEST[one.port.dtype]:
            cell = None  # it would be infinite, and what takes no NaN takes no infinity either
        if cell is not None or one.substitute is not None or unheard:
            return one.substitute if cell is None else cell
        if one.port.dtype == "string":
            return ""
        if isinstance(value, str):  # a word where the model wants a number: no value is missing, it is a wrong one
            return None
        return math.nan if self._nan and one.port.dtype in FLOATS else None

    def batches(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Rows that may go into one call of the model, at most `batch` of them."""
        groups: dict[tuple[int, int], list[Row]] = {}
        for row in rows:
            key = (len(row.kept) if self._by_length else 0, max(1, row.events) if self._by_events else 0)
            groups.setdefault(key, []).append(row)
        size = 1 if self._single else self._settings.batch
        return [group[at : at + size] for group in groups.values() for at in range(0, len(group), size)]

    def arrays(self, batch: Sequence[Row]) -> dict[str, npt.NDArray[Any]]:
        """The tensors of a batch by input. Texts are arrays of objects."""
        return packed(self._inputs, batch, self._settings, length=self._length, events=self._events)

    def scores(self, batch: Sequence[Row], output: npt.NDArray[Any]) -> list[Scores | TeacherError]:
        """The scores of each row of a batch. A score that is not a finite number is masked.

        Raises:
            Misfit: The output does not have the shape of the batch.
        """
        counts = [len(row.kept) for row in batch]
        length = self._length or max(counts)
        lists = self._settings.layout == "lists"
        wanted = (len(batch), length) if lists else (sum(counts),)
        out = output
        if self._settings.column >= 0:
            if out.ndim < 1 or out.shape[-1] <= self._settings.column:
                raise Misfit(f"the output has shape {list(output.shape)}, without a column {self._settings.column}")
            out = out[..., self._settings.column]
        if out.shape not in (wanted, (*wanted, 1), (math.prod(wanted),)):
            raise Misfit(f"the output has shape {list(output.shape)} where {list(wanted)} scores were asked for")
        with np.errstate(over="ignore", invalid="ignore"):
            flat = out.astype(np.float32).reshape(-1)
        starts = np.arange(len(batch)) * length if lists else np.concatenate([[0], np.cumsum(counts)[:-1]])
        return [_scores(row, flat[start : start + len(row.kept)]) for row, start in zip(batch, starts, strict=True)]


def _scores(row: Row, fed: npt.NDArray[np.float32]) -> Scores | TeacherError:
    return put_scores(row.impression, row.kept, fed)


def put_scores(impression: Impression, places: Sequence[int], found: npt.NDArray[np.float32]) -> Scores | TeacherError:
    """Puts scores at the places of their candidates. A list without any finite score is an error."""
    values_L = np.zeros(len(impression.candidates), np.float32)
    scored_L = np.zeros(len(impression.candidates), np.bool_)
    finite = np.isfinite(found)
    if not finite.any():
        return TeacherError(f"impression {impression.id}: none of the scores that came back is a finite number")
    values_L[places] = np.where(finite, found, 0.0)
    scored_L[places] = finite
    return Scores(values_L, scored_L)
