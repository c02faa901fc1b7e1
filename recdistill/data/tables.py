r"""CSV, Parquet and JSONL tables -> records. A mapping file says which column is which field.

    kind = "feedback"                  # items, impressions, feedback or interactions
    list_separator = "|"               # inside one cell; this and how the table is written is guessed if left out
    delimiter = ","                    # also: quote, encoding, header, missing, multiline, compression
    [columns]                          # field of the record = column of the table
    impression_id = "request"
    item = "movie_id"
    time = { column = "ts", unit = "s" }          # s, ms, us, ns, iso or %d.%m.%Y; guessed if left out
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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from recdistill.data.fit import Fit
from recdistill.data.mapping import FIELDS, TableMapping, nearest
from recdistill.data.reader import Reader, encode_row
from recdistill.data.rows import Row, read_rows
from recdistill.data.shape import Shape, guess
from recdistill.errors import ConfigError, DataError
from recdistill.features import FeatureSpec
from recdistill.records import TOPICS, Encoded, Record, decode, encode, encoded


def import_table(
    path: Path | str,
    kind: str | None = None,
    mapping: TableMapping | Path | str | None = None,
    *,
    said: Callable[[str], None] | None = None,
    spec: FeatureSpec | None = None,
) -> Iterator[Record]:
    """Reads a table row by row.

    Args:
        path: A text with delimiters, JSON lines or Parquet, perhaps compressed; see `recdistill.data.shape`.
        kind: "items", "impressions" or "feedback". From JSONL without a mapping also "rankings" and "examples". None
            takes the kind of the mapping.
        mapping: The mapping, or its file. None if the columns have the names of the fields.
        said: Told once, in one line, how the table is read.
        spec: What a model may see. Texts become numbers where it says so.

    Yields:
        Records, checked, in the order of the rows.

    Raises:
        ConfigError: The mapping does not fit the kind or the table.
        DataError: The table cannot be read, or a cell is wrong. The message names file, line and column.
    """
    for record, _ in _rows(path, kind, mapping, said, spec):
        yield record


def import_encoded(
    path: Path | str,
    kind: str | None = None,
    mapping: TableMapping | Path | str | None = None,
    *,
    said: Callable[[str], None] | None = None,
    spec: FeatureSpec | None = None,
) -> Iterator[Encoded]:
    """As `import_table`, for who writes the records: each one comes as the bytes that were made to check it."""
    for record, value in _rows(path, kind, mapping, said, spec):
        yield encoded(record, value)


def _rows(
    path: Path | str,
    kind: str | None,
    mapping: TableMapping | Path | str | None,
    said: Callable[[str], None] | None,
    spec: FeatureSpec | None,
) -> Iterator[tuple[Record, bytes]]:
    path = Path(path)
    loaded = mapping if isinstance(mapping, TableMapping) or mapping is None else TableMapping.load(mapping)
    kind = kind_of(path, kind, loaded)
    if kind == "interactions":
        raise ConfigError(
            f"{path.name}: interactions are no records yet; import them as a data set (recdistill.data.events)"
        )
    natural = loaded is None and kind in TOPICS
    shape = guess(path, loaded)
    rows = read_rows(path, shape)
    fit = Fit(spec)
    if natural and shape.kind == "jsonl":
        if said:
            said(f"{path.name}: {shape.sentence()}, one record each")
        yield from _natural(rows, TOPICS[kind], fit)
        return
    if kind not in FIELDS:
        raise ConfigError(f"{path.name}: {kind} can be imported from JSONL without a mapping only")
    with read_as(shape):
        reader: Reader | None = None
        for row in rows:
            if reader is None:
                reader = reader_of(path.name, kind, loaded or TableMapping(), row.columns, shape, said)
            for record in reader.records(row):
                fitting = fit(record, row.where)
                yield fitting, encode_row(fitting, row.where)


@contextmanager
def read_as(shape: Shape) -> Iterator[None]:
    """Adds to an error how the table was read, where that was guessed: a wrong guess is a common cause."""
    try:
        yield
    except (DataError, ConfigError) as e:
        if shape.kind != "text" or not shape.guessed:
            raise
        kind = ConfigError if isinstance(e, ConfigError) else DataError
        raise kind(f"{e} (read with {shape.sentence()})") from None


def reader_of(
    name: str,
    kind: str,
    mapping: TableMapping,
    columns: tuple[str, ...] | None,
    shape: Shape,
    said: Callable[[str], None] | None,
) -> Reader:
    """The reader of a table, after it has said how the table is read."""
    reader = Reader(name, kind, mapping, columns, shape)
    if said:
        more = reader.said()
        said(f"{name}: {shape.sentence()}{'; ' if more else ''}{more}")
    return reader


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


def _natural(rows: Iterator[Row], kind: type[Record], fit: Fit) -> Iterator[tuple[Record, bytes]]:
    for row in rows:
        try:
            record = decode(kind, msgspec.json.encode(row.cells))
        except DataError as e:
            raise DataError(f"{row.where}: {e}") from None
        record = fit(record, row.where)
        try:
            value = encode(record)  # the stages must have room for what they add
        except DataError as e:
            raise DataError(f"{row.where}: {e}") from None
        yield record, value
