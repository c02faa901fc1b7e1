r"""Tables of interactions (user, item, time) -> a data set, as `recdistill.data.interactions` makes it.

Several files are read as one table. Events of `earlier` files make histories, but no lists: their lists are in the log
already.

It knows nothing of logs.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "log.csv")
    ...     _ = table.write_text("user,item,time\nu,a,1\nu,b,2\nu,b,3\nu,c,4\n")
    ...     made = import_interactions(table, min_history=1)
    >>> [one.id for one in made.impressions], dict(made.left_out)
    (['log-1', 'log-3'], {'too early': 1, 'repeated': 1})
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recdistill.data import Dataset
from recdistill.data.infer import infer_specification
from recdistill.data.interactions import Interactions, clock, cut_in_time, impressions_of, untie
from recdistill.data.mapping import TableMapping
from recdistill.data.reader import Reader
from recdistill.data.retrieval import Mix
from recdistill.data.rows import read_rows
from recdistill.data.shape import guess
from recdistill.data.tables import kind_of, read_as, reader_of
from recdistill.errors import DataError
from recdistill.records import Item

DEFAULT_ACTION = "choose"
"""What an event did, where the table does not say it."""


class Choice(NamedTuple):
    """One row: who did what with which item, and when."""

    time_us: int
    user: str
    item: str
    action: str = DEFAULT_ACTION
    value: float = 1.0


def read_events(
    path: Path,
    mapping: TableMapping,
    *,
    only: Container[str] | None = None,
    said: Callable[[str], None] | None = None,
) -> Iterator[Choice]:
    """The events of one table, in the order of its rows.

    Args:
        path: The table.
        mapping: Its columns.
        only: The items that it may name. None: any.
        said: Told once, in one line, how the table is read.

    Raises:
        ConfigError: The mapping does not fit the table.
        DataError: The table cannot be read, or a cell is wrong.
    """
    kind_of(path, "interactions", mapping)
    shape = guess(path, mapping)
    with read_as(shape):
        reader: Reader | None = None
        for row in read_rows(path, shape):
            if reader is None:
                reader = reader_of(path.name, "interactions", mapping, row.columns, shape, said)
            if not reader.wants(row):
                continue
            values = reader.fields(row)
            if only is not None and values["item"] not in only:
                raise reader.error(
                    row, "item", f"{values['item']!r} is not in the catalogue; add it there or import without one"
                )
            yield Choice(
                time_us=values["time"],
                user=values["user"],
                item=values["item"],
                action=values.get("action") or DEFAULT_ACTION,
                value=values.get("value", 1.0),
            )


def import_interactions(
    tables: Sequence[Path | str] | Path | str,
    mapping: TableMapping | Path | str | None = None,
    *,
    earlier: Sequence[Path | str] = (),
    items: list[Item] | None = None,
    known: Sequence[Item] = (),
    mix: Mix | None = None,
    history: int = 50,
    min_history: int = 3,
    seed: int = 0,
    said: Callable[[str], None] | None = None,
) -> Dataset:
    """Makes a data set from tables of interactions, which count as one table.

    Args:
        tables: The table, or several. Each row has a user, an item and a time. Rows need not be sorted.
        mapping: As for `import_table`.
        earlier: Tables of the events before. They make histories, but no lists.
        items: The catalogue, for attributes. None takes the items of the tables, without attributes.
        known: Items that are written already. The data set does not hold them again.
        mix: How candidates are found.
        history: Most events in a history.
        min_history: Fewest earlier events that a user must have for an impression.
        seed: Seed of the candidates.
        said: Told once for each table, in one line, how it is read.

    Raises:
        ConfigError: The mapping does not fit a table.
        DataError: A table cannot be read, holds nothing usable, or names an item that `items` lacks.
    """
    paths = [Path(tables)] if isinstance(tables, Path | str) else [Path(table) for table in tables]
    loaded = (
        mapping
        if isinstance(mapping, TableMapping)
        else TableMapping()
        if mapping is None
        else TableMapping.load(mapping)
    )
    before = [Path(path) for path in earlier]
    names = None if items is None else {item.id for item in items}
    events: list[tuple[Choice, bool]] = []
    for path in [*before, *paths]:
        events += [(event, path not in before) for event in read_events(path, loaded, only=names, said=said)]
    name = paths[0].name if len(paths) == 1 else f"{len(paths)} tables"
    if not any(listed for _, listed in events):
        raise DataError(f"{name}: holds no interaction")
    # Rows of users and items by their first place in the tables, so that equal tables give equal lists.
    users = {user: row for row, user in enumerate(dict.fromkeys(event.user for event, _ in events))}
    given = [item.id for item in items or ()]
    item_row = {item: row for row, item in enumerate(dict.fromkeys([*given, *(event.item for event, _ in events)]))}
    events.sort(key=lambda one: one[0].time_us)  # stable: ties stay in the order of the tables
    log = Interactions(
        user_E=np.array([users[event.user] for event, _ in events], np.int64),
        item_E=np.array([item_row[event.item] for event, _ in events], np.int64),
        time_us_E=untie(np.array([event.time_us for event, _ in events], np.int64)),
        actions=[event.action for event, _ in events],
        value_E=np.array([event.value for event, _ in events], np.float64),
    )
    made = impressions_of(
        log,
        prefix=_prefix(paths, sum(not listed for _, listed in events)),
        users=list(users),
        items=list(item_row),
        context=lambda _, time_us: clock(time_us),
        mix=mix,
        history=history,
        min_history=min_history,
        listed_E=np.array([listed for _, listed in events], np.bool_),
        seed=seed,
    )
    if not len(made.impressions):
        raise DataError(
            f"{name}: no list can be made; {made.early:,} events are among the first {min_history} of their user "
            f"(--set interactions.min_history=N asks for fewer), {made.repeats:,} are on an item that the user had had"
        )
    there = {item.id: item for item in known}
    catalogue = items if items is not None else [there.get(name, Item(id=name)) for name in item_row]
    actions = sorted({event.action for event, _ in events})
    return Dataset(
        name=paths[0].stem,
        items=[item for item in catalogue if item.id not in there],
        impressions=made.impressions,
        feedback=made.feedback,
        spec=infer_specification(catalogue, actions=actions, history=history),
        cut_us=cut_in_time(log.time_us_E),
        labels=dict.fromkeys(actions, 1.0),
        left_out={"too early": made.early, "repeated": made.repeats},
    )


def _prefix(paths: list[Path], earlier: int) -> str:
    """Start of the lists' ids. With earlier events it says how many, so that no list has the id of one of theirs."""
    return f"{paths[0].stem}-after-{earlier}-" if earlier else f"{paths[0].stem}-"
