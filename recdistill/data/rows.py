r"""Rows of a table, one after another, as `recdistill.data.shape` says that it is written. Each row has its place.

It knows nothing of what columns mean, or of records.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "t.jsonl").write_text('{"a": 1}\n\n{"b": [2]}\n')
    ...     [(row.where, dict(row.cells)) for row in read_rows(Path(folder, "t.jsonl"))]
    [('t.jsonl, line 1', {'a': 1}), ('t.jsonl, line 3', {'b': [2]})]
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from recdistill.data.files import opened
from recdistill.data.lines import MOST_CHARACTERS, Broken, Cut, rows_of
from recdistill.data.parquet import batches
from recdistill.data.shape import Shape, guess, header_names
from recdistill.errors import DataError


class Row(NamedTuple):
    """Cells by column. `columns` are those of every row; None where each row names its own columns."""

    where: str
    cells: Mapping[str, Any]
    columns: tuple[str, ...] | None


def read_rows(path: Path, shape: Shape | None = None) -> Iterator[Row]:
    """Reads a table.

    Args:
        path: The file.
        shape: How it is written; None takes the guess.

    Raises:
        DataError: It cannot be read, or it is not written so.
    """
    shape = shape or guess(path)
    return {"text": _text, "jsonl": _json_lines, "parquet": _parquet}[shape.kind](path, shape)


@contextmanager
def _lines(path: Path, shape: Shape) -> Iterator[_Lines]:
    with opened(path, shape.compression) as raw:
        file = io.TextIOWrapper(raw, encoding=shape.encoding, newline=None)
        lines = _Lines(path.name, file)
        try:
            yield lines
        except UnicodeError as e:
            reason = getattr(e, "reason", str(e))
            raise DataError(
                f"{path.name}, after line {lines.number}: is not {shape.encoding.upper()} text ({reason}); "
                "set encoding in the mapping (cp1252 is a common one), or convert it"
            ) from None


class _Lines:
    """Lines without their ends, and the number of the last one."""

    def __init__(self, table: str, file: io.TextIOWrapper) -> None:
        self._table, self._file = table, file
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MOST_CHARACTERS):
            self.number += 1
            if len(line) == MOST_CHARACTERS and not line.endswith("\n"):
                raise DataError(
                    f"{self._table}, line {self.number}: is longer than {MOST_CHARACTERS:,} characters; a table has "
                    "one row a line"
                )
            yield line.removesuffix("\n")


def _text(path: Path, shape: Shape) -> Iterator[Row]:
    cut = Cut(shape.delimiter, shape.quote, shape.multiline)
    columns: tuple[str, ...] | None = shape.named or None
    with _lines(path, shape) as lines:
        try:
            for number, cells in rows_of(lines, cut):
                where = f"{path.name}, line {number}"
                if columns is None and shape.header:
                    columns = tuple(header_names(cells))
                    _distinct(columns, where)
                    continue
                if columns is None:
                    columns = tuple(str(n) for n in range(1, len(cells) + 1))
                if len(cells) != len(columns):
                    raise DataError(f"{where}: {_ragged(len(cells), len(columns), shape)}")
                yield Row(where, dict(zip(columns, cells, strict=True)), columns)
        except Broken as e:
            raise DataError(f"{path.name}, line {e.line}: {e.problem}") from None


def _ragged(cells: int, columns: int, shape: Shape) -> str:
    than = "the header has" if shape.header else "header names" if shape.named else "the first row has"
    mend = f"quote cells that hold {shape.delimiter!r}" if shape.quote else "mend the row"
    return f"has {cells} cells where {than} {columns}; {mend}, or set delimiter and quote in the mapping"


def _distinct(columns: tuple[str, ...], where: str) -> None:
    if len(set(columns)) < len(columns):
        name = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{where}: the header names column {name!r} twice; rename one")


def _json_lines(path: Path, shape: Shape) -> Iterator[Row]:
    with _lines(path, shape) as lines:
        for line in lines:
            where = f"{path.name}, line {lines.number}"
            if not line.strip():
                continue
            try:
                cells = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
                raise DataError(f"{where}: is not JSON: {e}") from None
            if not isinstance(cells, dict):
                raise DataError(f"{where}: must be an object, {{…}}, not a {type(cells).__name__}")
            yield Row(where, cells, None)


def _parquet(path: Path, _: Shape) -> Iterator[Row]:
    number = 0
    for columns, rows in batches(path):
        for cells in rows:
            number += 1
            yield Row(f"{path.name}, row {number}", cells, columns)
