r"""CSV, Parquet and JSONL tables -> records. A mapping file says which column is which field.

    kind = "feedback"                  # items, impressions, feedback or interactions
    list_separator = "|"               # inside one cell of a CSV
    delimiter = ","                    # of a CSV; a .tsv has tabs
    [columns]                          # field of the record = column of the table
    impression_id = "request"
    item = "movie_id"
    time = { column = "ts", unit = "s" }          # s, ms, us or iso
    [constants]                        # the same for every row
    action = "click"
    [attributes]                       # items; [context] for impressions
    year = { column = "release_year", type = "number" }   # text, number, flag, texts, numbers
    genres = { column = "class", type = "texts" }

Without a mapping, columns must have the names of the fields in `FIELDS`. Columns `attributes.NAME` and `context.NAME`
are attributes and context. Rows of a JSONL table are then records in their JSON form. Other columns are ignored. Rows
are read one after another, and not kept in memory. A table of `interactions` (user, item, time) holds no records:
`recdistill.data.events` makes a data set of it.

Records are checked by the rules of `recdistill.records` before they are returned.

It knows nothing of logs.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "clicks.csv")
    ...     _ = table.write_text("impression_id,item,action,time\nr1,a,click,17\n")
    ...     [one.time_us for one in import_table(table, "feedback")]
    [17000000]
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from recdistill.data.mapping import FIELDS, Reader, TableMapping, nearest
from recdistill.data.rows import Row, read_rows
from recdistill.errors import ConfigError, DataError
from recdistill.records import TOPICS, Record, decode


def import_table(
    path: Path | str, kind: str | None = None, mapping: TableMapping | Path | str | None = None
) -> Iterator[Record]:
    """Reads a table row by row.

    Args:
        path: `.csv`, `.tsv`, `.jsonl`/`.ndjson` or `.parquet`.
        kind: "items", "impressions" or "feedback". From JSONL without a mapping also "rankings" and "examples". None
            takes the kind of the mapping.
        mapping: The mapping, or its file. None if the columns have the names of the fields.

    Yields:
        Records, checked, in the order of the rows.

    Raises:
        ConfigError: The mapping does not fit the kind or the table.
        DataError: The table cannot be read, or a cell is wrong. The message names file, line and column.
    """
    path = Path(path)
    loaded = mapping if isinstance(mapping, TableMapping) or mapping is None else TableMapping.load(mapping)
    kind = kind_of(path, kind, loaded)
    if kind == "interactions":
        raise ConfigError(
            f"{path.name}: interactions are no records yet; import them as a data set (recdistill.data.events)"
        )
    rows = read_rows(path, delimiter="," if loaded is None else loaded.delimiter)
    if loaded is None and path.suffix in (".jsonl", ".ndjson"):
        yield from _natural(rows, TOPICS[kind])
        return
    if kind not in FIELDS:
        raise ConfigError(f"{path.name}: {kind} can be imported from JSONL without a mapping only")
    reader: Reader | None = None
    for row in rows:
        if reader is None:
            reader = Reader(path.name, kind, loaded or TableMapping(), row.columns)
        yield from reader.records(row)


def kind_of(path: Path, kind: str | None, mapping: TableMapping | None) -> str:
    """What the rows of a table are: what the caller says, otherwise what the mapping says.

    Raises:
        ConfigError: Nobody says it, they disagree, or there is no such kind.
    """
    mapped = None if mapping is None else mapping.kind
    if kind is None:
        kind = mapped
    if kind is None:
        raise ConfigError(f"{path.name}: which kind are its rows? Name one of {', '.join(FIELDS)}")
    if mapped is not None and mapped != kind:
        raise ConfigError(f"{path.name}: is imported as {kind}, but its mapping is for {mapped}")
    if kind not in FIELDS and kind not in TOPICS:
        raise ConfigError(f"{path.name}: {kind!r} is no kind of record; {nearest(kind, {**FIELDS, **TOPICS})}")
    return kind


def _natural(rows: Iterator[Row], kind: type[Record]) -> Iterator[Record]:
    for row in rows:
        try:
            yield decode(kind, msgspec.json.encode(row.cells))
        except DataError as e:
            raise DataError(f"{row.where}: {e}") from None
