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
`import_interactions` makes a data set of it.

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
from typing import Any

import msgspec
import numpy as np

from recdistill.data import Dataset
from recdistill.data.fit import Fit
from recdistill.data.interactions import Interactions, clock, cut_in_time, impressions_of, untie
from recdistill.data.mapping import FIELDS, TableMapping, nearest
from recdistill.data.reader import Reader
from recdistill.data.retrieval import Mix
from recdistill.data.rows import Row, read_rows
from recdistill.data.shape import Shape, guess
from recdistill.errors import ConfigError, DataError
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.records import TOPICS, Item, Record, decode, encode


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
    path = Path(path)
    loaded = mapping if isinstance(mapping, TableMapping) or mapping is None else TableMapping.load(mapping)
    kind = _kind(path, kind, loaded)
    if kind == "interactions":
        raise ConfigError(
            f"{path.name}: interactions are no records yet; import them as a data set (import_interactions)"
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
    with _read_as(shape):
        reader: Reader | None = None
        for row in rows:
            if reader is None:
                reader = _reader(path.name, kind, loaded or TableMapping(), row.columns, shape, said)
            yield fit(reader.record(row), row.where)


@contextmanager
def _read_as(shape: Shape) -> Iterator[None]:
    """Adds to an error how the table was read, where that was guessed: a wrong guess is a common cause."""
    try:
        yield
    except (DataError, ConfigError) as e:
        if shape.kind != "text" or not shape.guessed:
            raise
        kind = ConfigError if isinstance(e, ConfigError) else DataError
        raise kind(f"{e} (read with {shape.sentence()})") from None


def _reader(
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


def import_interactions(
    path: Path | str,
    mapping: TableMapping | Path | str | None = None,
    *,
    items: list[Item] | None = None,
    mix: Mix | None = None,
    history: int = 50,
    min_history: int = 3,
    seed: int = 0,
    said: Callable[[str], None] | None = None,
) -> Dataset:
    """Makes a data set from a table of interactions, as `recdistill.data.interactions` describes.

    Args:
        path: The table, with a user, an item and a time in each row. Rows need not be sorted.
        mapping: As for `import_table`.
        items: The catalogue, for attributes. None takes the items of the table, without attributes.
        mix: How candidates are found.
        history: Most events in a history.
        min_history: Fewest earlier events that a user must have for an impression.
        seed: Seed of the candidates.
        said: Told once, in one line, how the table is read.

    Raises:
        ConfigError: The mapping does not fit the table.
        DataError: The table cannot be read, holds nothing usable, or names an item that `items` lacks.
    """
    path = Path(path)
    loaded = (
        mapping
        if isinstance(mapping, TableMapping)
        else TableMapping()
        if mapping is None
        else TableMapping.load(mapping)
    )
    _kind(path, "interactions", loaded)
    shape = guess(path, loaded)
    user_row: dict[str, int] = {}
    item_row = {item.id: number for number, item in enumerate(items or ())}
    given = len(item_row)
    events: list[tuple[int, int, int, str, float]] = []
    with _read_as(shape):
        reader: Reader | None = None
        for row in read_rows(path, shape):
            if reader is None:
                reader = _reader(path.name, "interactions", loaded, row.columns, shape, said)
            values = reader.fields(row)
            item = item_row.setdefault(values["item"], len(item_row))
            if items is not None and item >= given:
                raise reader.error(
                    row, "item", f"{values['item']!r} is not in the catalogue; add it there or import without one"
                )
            user = user_row.setdefault(values["user"], len(user_row))
            events.append((values["time"], user, item, values.get("action") or "choose", values.get("value", 1.0)))
    if not events:
        raise DataError(f"{path.name}: holds no interaction")
    events.sort(key=lambda event: event[0])  # stable: ties stay in the order of the table
    log = Interactions(
        user_E=np.array([event[1] for event in events], np.int64),
        item_E=np.array([event[2] for event in events], np.int64),
        time_us_E=untie(np.array([event[0] for event in events], np.int64)),
        actions=[event[3] for event in events],
        value_E=np.array([event[4] for event in events], np.float64),
    )
    catalogue = [Item(id=name) for name in item_row] if items is None else items
    impressions, feedback, _ = impressions_of(
        log,
        prefix=f"{path.stem}-",
        users=list(user_row),
        items=list(item_row),
        context=lambda _, time_us: clock(time_us),
        mix=mix,
        history=history,
        min_history=min_history,
        seed=seed,
    )
    if not len(impressions):
        raise DataError(f"{path.name}: no user has more than {min_history} interactions, so no list can be made")
    actions = sorted({event[3] for event in events})
    return Dataset(
        name=path.stem,
        items=catalogue,
        impressions=impressions,
        feedback=feedback,
        spec=infer_specification(catalogue, actions=actions, history=history),
        cut_us=cut_in_time(log.time_us_E),
        labels=dict.fromkeys(actions, 1.0),
    )


def infer_specification(items: list[Item], *, actions: list[str], history: int = 50) -> FeatureSpec:
    """A specification from the attributes' values: lists of texts, and texts that repeat, are categories.

    A text attribute repeats if it has at most half as many values as there are items. Otherwise it is text. The context
    is hour and weekday.
    """
    columns: dict[str, list[Any]] = {}
    for item in items:
        for name, value in item.attributes.items():
            columns.setdefault(name, []).append(value)
    fields = {}
    for name, values in columns.items():
        first = values[0]
        if isinstance(first, list) and first and not isinstance(first[0], str):
            fields[name] = Field(kind="vector", size=len(first))
        elif isinstance(first, str | list | bool):
            distinct = {text for value in values for text in (value if isinstance(value, list) else [str(value)])}
            if isinstance(first, str) and len(distinct) > len(items) / 2:
                fields[name] = Field(kind="text", capacity=4096)
            else:
                fields[name] = Field(kind="category", capacity=max(16, 2 * len(distinct)))
        else:
            fields[name] = Field(kind="number", mean=float(np.mean(values)), std=float(np.std(values)) or 1.0)
    return FeatureSpec(
        history=HistorySpec(length=history, actions=tuple(actions)),
        id=IdSpec(capacity=max(1024, 2 * len(items))),
        item=fields,
        context={
            "hour": Field(kind="category", capacity=24, hashed=0, max_values=1),
            "weekday": Field(kind="category", capacity=7, hashed=0, max_values=1),
        },
    )


def _kind(path: Path, kind: str | None, mapping: TableMapping | None) -> str:
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


def _natural(rows: Iterator[Row], kind: type[Record], fit: Fit) -> Iterator[Record]:
    for row in rows:
        try:
            record = decode(kind, msgspec.json.encode(row.cells))
            encode(record)  # the stages must have room for what they add
        except DataError as e:
            raise DataError(f"{row.where}: {e}") from None
        yield fit(record, row.where)
