r"""Reads whole tables as they will be imported, and counts what is in them and what they have in common.

The figures answer what a person asks before an import: do the ids of one table meet those of the other? How many lists
will there be, and why not more? `recdistill import --check` shows them, `recdistill init` writes settings from them.

It knows nothing of logs.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     items, log = Path(folder, "items.csv"), Path(folder, "log.csv")
    ...     _ = items.write_text("id\na\nz\n")
    ...     _ = log.write_text("user,item,time\nu,a,1\nu,b,2\nu,b,3\n")
    ...     found = survey([Bound(items, "items"), Bound(log, "interactions")], min_history=1)
    >>> (found.ids_named, found.ids_described), (found.made, found.early, found.repeated)
    ((2, 1), (1, 1, 1))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from recdistill.data.events import Choice, read_events
from recdistill.data.mapping import TableMapping
from recdistill.data.tables import import_table
from recdistill.features import FeatureSpec
from recdistill.records import Feedback, Impression, Item, Value

SAMPLE = 5
"""Records of each table that are kept, to be shown."""

_CONTEXTS = 2000


class Bound(NamedTuple):
    """A table with what its rows are, and the mapping of its columns."""

    path: Path
    kind: str
    mapping: TableMapping | None = None


@dataclass
class Survey:
    """What tables hold. Counts are 0 where no table is of that kind.

    Attributes:
        rows: Records of each table, by its path. Events are counted as events.
        samples: The first records of each table, by its path.
        items: The record of each described item that holds.
        twice: Items that were described more than once.
        users: How many different users there are.
        ids_named: How many different items lists, events and feedback name.
        ids_described: How many of those an items table describes.
        missing: A few that none describes.
        lists: Lists that were shown.
        candidates: Their candidates, in all.
        without_history: Lists without a history.
        clicked: Lists with feedback on one of their items.
        feedback: Records of feedback, those that lists tell themselves too.
        strange_feedback: Feedback on a list that is in no table.
        outside: Feedback on an item that was not in its list.
        events: Events.
        made: Lists that will be made of them.
        early: Events that make none: their user has too few events before.
        repeated: Events that make none: their user had the item before.
        unsorted: Tables whose rows are not in the order of time.
        actions: What users did -> how often.
        scored: Lists with scores of a ranker.
        contexts: The contexts of the first lists.
        times_us: The times of all lists, shown and made.
        delays_us: From a list to its feedback, where a table says it.
    """

    rows: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[Any]] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    twice: int = 0
    users: int = 0
    ids_named: int = 0
    ids_described: int = 0
    missing: list[str] = field(default_factory=list)
    lists: int = 0
    candidates: int = 0
    without_history: int = 0
    clicked: int = 0
    feedback: int = 0
    strange_feedback: int = 0
    outside: int = 0
    events: int = 0
    made: int = 0
    early: int = 0
    repeated: int = 0
    unsorted: list[str] = field(default_factory=list)
    actions: Counter[str] = field(default_factory=Counter)
    scored: int = 0
    contexts: list[dict[str, Value]] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)
    delays_us: list[int] = field(default_factory=list)

    def forget(self, attribute: str) -> None:
        """Takes an attribute off all items."""
        for name, item in self.items.items():
            values = {key: value for key, value in item.attributes.items() if key != attribute}
            self.items[name] = msgspec.structs.replace(item, attributes=values)

    def figures(self) -> dict[str, Any]:
        """The counts, for programs."""
        counts = (
            "users ids_named ids_described lists candidates without_history clicked feedback strange_feedback outside "
            "events made early repeated unsorted"
        )
        return {"items": len(self.items), **{name: getattr(self, name) for name in counts.split()}}


def survey(tables: Sequence[Bound], *, min_history: int, spec: FeatureSpec | None = None) -> Survey:
    """Reads tables and counts.

    Args:
        tables: The tables, in any order.
        min_history: Fewest earlier events of a user whose event makes a list.
        spec: What a model may see, if that is known: values must fit it.

    Raises:
        ConfigError: A mapping does not fit its table.
        DataError: A table cannot be read, or a cell is wrong.
    """
    return _Reading(min_history, spec).read(tables)


class _Reading:
    """One reading of all tables; what only the counting needs."""

    def __init__(self, min_history: int, spec: FeatureSpec | None) -> None:
        self.found = Survey()
        self._spec = spec
        self._min_history = min_history
        self._named: set[str] = set()
        self._users: set[str] = set()
        self._lists: dict[str, tuple[int, frozenset[str]]] = {}
        self._clicked: set[str] = set()

    def read(self, tables: Sequence[Bound]) -> Survey:
        order = ("items", "impressions", "feedback", "interactions")
        events: list[Choice] = []
        for table in sorted(tables, key=lambda table: order.index(table.kind)):
            if table.kind == "interactions":
                events += self._events(table)
            else:
                self._records(table)
        self._made(events)
        found = self.found
        found.users, found.ids_named, found.clicked = len(self._users), len(self._named), len(self._clicked)
        missing = self._named - set(found.items)
        found.ids_described = len(self._named) - len(missing)
        found.missing = sorted(missing)[:3]
        found.times_us.sort()
        return found

    def _records(self, table: Bound) -> None:
        found, latest = self.found, 0
        sample: list[Any] = found.samples.setdefault(str(table.path), [])
        rows = 0
        for record in import_table(table.path, table.kind, table.mapping, spec=self._spec):
            own = isinstance(record, Feedback) != (table.kind != "feedback")  # not what a list tells itself
            rows += own
            if own and len(sample) < SAMPLE:
                sample.append(record)
            if isinstance(record, Item):
                found.twice += record.id in found.items
                found.items[record.id] = record
                continue
            if isinstance(record, Impression):
                self._list(record)
            elif isinstance(record, Feedback):
                self._feedback(record, told=table.kind == "feedback")
            if own and isinstance(record, Impression | Feedback):
                if record.time_us < latest and str(table.path) not in found.unsorted:
                    found.unsorted.append(str(table.path))
                latest = max(latest, record.time_us)
        found.rows[str(table.path)] = rows

    def _list(self, shown: Impression) -> None:
        found = self.found
        ids = frozenset(one.item for one in shown.candidates)
        self._named |= ids
        self._named.update(event.item for event in shown.history)
        self._lists[shown.id] = (shown.time_us, ids)
        if shown.user is not None:
            self._users.add(shown.user)
        found.lists += 1
        found.candidates += len(ids)
        found.without_history += not shown.history
        found.scored += any(one.logged_score is not None for one in shown.candidates)
        found.times_us.append(shown.time_us)
        found.actions.update({event.action: 0 for event in shown.history if event.action})
        if len(found.contexts) < _CONTEXTS:
            found.contexts.append(dict(shown.context))

    def _feedback(self, record: Feedback, *, told: bool) -> None:
        found = self.found
        found.feedback += 1
        found.actions[record.action] += 1
        self._named.add(record.item)
        shown = self._lists.get(record.impression_id)
        if shown is None:
            found.strange_feedback += 1
        elif record.item not in shown[1]:
            found.outside += 1
        else:
            self._clicked.add(record.impression_id)
            if told:
                found.delays_us.append(record.time_us - shown[0])

    def _events(self, table: Bound) -> list[Choice]:
        found = self.found
        events = list(read_events(table.path, table.mapping or TableMapping()))
        found.rows[str(table.path)] = len(events)
        found.samples[str(table.path)] = events[:SAMPLE]
        if any(one.time_us < before.time_us for before, one in pairwise(events)):
            found.unsorted.append(str(table.path))
        return events

    def _made(self, events: list[Choice]) -> None:
        """What becomes of each event, as `recdistill.data.interactions` decides it."""
        found = self.found
        had: dict[str, set[str]] = {}
        counts: Counter[str] = Counter()
        for event in sorted(events, key=lambda event: event.time_us):
            past = had.setdefault(event.user, set())
            if counts[event.user] < self._min_history:
                found.early += 1
            elif event.item in past:
                found.repeated += 1
            else:
                found.made += 1
                found.times_us.append(event.time_us)
            past.add(event.item)
            counts[event.user] += 1
        found.events = len(events)
        found.actions.update(event.action for event in events)
        self._users.update(had)
        self._named.update(item for past in had.values() for item in past)


def members(items: Iterable[Item], name: str) -> list[str]:
    """All members of one attribute that holds lists, as texts."""
    found: list[str] = []
    for item in items:
        value = item.attributes.get(name)
        if isinstance(value, list | tuple):
            found += [one if isinstance(one, str) else f"{one:g}" for one in value]
    return found
