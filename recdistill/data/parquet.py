"""Parquet files -> rows, batch by batch, with the types of Python.

It knows nothing of what columns mean, or of records.

Example:
    >>> import tempfile, pyarrow, pyarrow.parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), f"{folder}/t.parquet")
    ...     list(batches(Path(folder, "t.parquet")))
    [(('id',), [{'id': 'a'}])]
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recdistill.data.columns import check_width
from recdistill.data.files import explained
from recdistill.errors import DataError
from recdistill.installed import how_to_install


def batches(path: Path, *, batch: int = 4096) -> Iterator[tuple[tuple[str, ...], list[dict[str, Any]]]]:
    """Reads a file.

    Args:
        path: The file.
        batch: Most rows at once.

    Yields:
        Names of the columns, and rows. An empty file gives its names once, with no rows.

    Raises:
        DataError: pyarrow is missing, it is no Parquet file, or a column has values that Python has not.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path.name}: Parquet needs pyarrow; type: {how_to_install('data')}") from None
    number = 0
    try:
        with explained(path), parquet.ParquetFile(path) as file:
            columns = tuple(file.schema_arrow.names)
            check_width(path.name, len(columns))
            if len(set(columns)) < len(columns):
                name = next(name for name in columns if columns.count(name) > 1)
                raise DataError(f"{path.name}: names column {name!r} twice; rename one")
            if not file.metadata.num_rows:
                yield columns, []
            for part in file.iter_batches(batch_size=batch):
                lists = [_cells(path.name, number, name, part.column(n)) for n, name in enumerate(columns)]
                rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*lists, strict=True)]
                number += part.num_rows
                yield columns, rows
    except (pa.ArrowException, OSError) as e:
        what = (str(e).splitlines() or [type(e).__name__])[0]
        raise DataError(f"{path.name}, after row {number}: is not Parquet: {what}") from None


def _cells(table: str, row: int, name: str, column: Any) -> list[Any]:
    """Cells of one column. Times finer than a microsecond are cut to one."""
    import pyarrow as pa

    try:
        return list(column.cast(_readable(column.type), safe=False).to_pylist())
    except (pa.ArrowException, ValueError, OverflowError, KeyError, TypeError, NotImplementedError, ImportError) as e:
        what = (str(e).splitlines() or [type(e).__name__])[0]
        raise DataError(
            f"{table}, after row {row}, column {name!r}: its type {column.type} cannot be read ({what}); "
            "write it as a number, a text or a list"
        ) from None


def _readable(kind: Any) -> Any:
    """The type as which a column is read."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", tz=kind.tz)
    if types.is_dictionary(kind):
        return _readable(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(_readable(kind.value_type))
    return kind
