r"""Rows of a CSV, Parquet or JSONL file, one after another. Each row has its place in the file, for error messages.

It knows nothing of what columns mean, or of records.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "t.jsonl").write_text('{"a": 1}\n\n{"b": [2]}\n')
    ...     [(row.where, dict(row.cells)) for row in read_rows(Path(folder, "t.jsonl"))]
    [('t.jsonl, line 1', {'a': 1}), ('t.jsonl, line 3', {'b': [2]})]
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from recdistill.errors import DataError
from recdistill.installed import how_to_install

MAX_LINE = 16 << 20  # bytes of one line; a longer line means a file of another kind


class Row(NamedTuple):
    """Cells by column. `columns` are those of every row; None where each row names its own columns."""

    where: str
    cells: Mapping[str, Any]
    columns: tuple[str, ...] | None


def read_rows(path: Path, *, delimiter: str = ",") -> Iterator[Row]:
    """Reads a file by its ending: `.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.parquet`.

    Raises:
        DataError: It cannot be read, or its content does not fit its ending.
    """
    readers = {
        ".csv": lambda: _csv(path, delimiter),
        ".tsv": lambda: _csv(path, "\t"),
        ".jsonl": lambda: _jsonl(path),
        ".ndjson": lambda: _jsonl(path),
        ".parquet": lambda: _parquet(path),
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: is none of {', '.join(readers)}; convert it, or give the file its right ending")
    try:
        yield from readers[path.suffix.lower()]()
    except FileNotFoundError:
        raise DataError(f"{path}: does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; give a file") from None
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from None


def _csv(path: Path, delimiter: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        columns: tuple[str, ...] | None = None
        try:
            for cells in reader:
                where = f"{path.name}, line {reader.line_num}"
                if not cells:
                    continue
                if columns is None:
                    columns = tuple(name.strip() for name in cells)
                    _distinct(columns, where)
                    continue
                if len(cells) != len(columns):
                    raise DataError(
                        f"{where}: has {len(cells)} cells where the header has {len(columns)}; "
                        f"quote cells that hold {delimiter!r}"
                    )
                yield Row(where, dict(zip(columns, cells, strict=True)), columns)
        except csv.Error as e:
            raise DataError(f"{path.name}, line {reader.line_num}: is not CSV: {e}") from None
        except UnicodeDecodeError as e:
            raise DataError(
                f"{path.name}, after line {reader.line_num}: is not UTF-8 text ({e.reason}); convert it"
            ) from None


def _distinct(columns: tuple[str, ...], where: str) -> None:
    for name in columns:
        if columns.count(name) > 1:
            raise DataError(f"{where}: the header names column {name!r} twice; rename one")


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            where = f"{path.name}, line {number}"
            if len(line) == MAX_LINE:
                raise DataError(f"{where}: is longer than {MAX_LINE} bytes; a JSONL file has one object a line")
            if not line.strip():
                continue
            try:
                cells = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
                raise DataError(f"{where}: is not JSON: {e}") from None
            if not isinstance(cells, dict):
                raise DataError(f"{where}: must be an object, {{…}}, not a {type(cells).__name__}")
            yield Row(where, cells, None)


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path.name}: Parquet needs pyarrow; type: {how_to_install('data')}") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            columns = tuple(file.schema_arrow.names)
            _distinct(columns, path.name)
            for batch in file.iter_batches(batch_size=4096):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(f"{path.name}, row {number}", cells, columns)
    except pa.ArrowException as e:
        raise DataError(f"{path.name}, after row {number}: is not Parquet: {str(e).splitlines()[0]}") from None
