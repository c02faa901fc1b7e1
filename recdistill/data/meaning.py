"""What tables mean: which one holds items, lists, feedback or events, and which column is which field.

It reads names first, then what the columns hold. A guess is written into a mapping file, with words for what was left
out and why, so that a person can put it right. It never looks into a file itself: `recdistill.data.shape` says how a
file is written and what a sample of its columns is.

It knows nothing of logs.

Example:
    >>> seen = [Seen(name="userId", type="number", filled=9, distinct=3),
    ...         Seen(name="movieId", type="number", filled=9, distinct=9),
    ...         Seen(name="rating", type="number", filled=9, distinct=4),
    ...         Seen(name="timestamp", type="time", unit="s", filled=9, distinct=9)]
    >>> found = meaning_of("ratings.csv", Shape(kind="text", columns=tuple(seen), rows=9))
    >>> found.kind, {field: column.column for field, column in found.columns.items()}, found.constants
    ('interactions', {'user': 'userId', 'item': 'movieId', 'time': 'timestamp', 'value': 'rating'}, {'action': 'rate'})
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from recdistill.data.columns import Seen
from recdistill.data.shape import Shape

NAMES: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "user": "user userid uid usr member memberid customer customerid reviewerid visitor visitorid account "
        "accountid profileid playerid shopper who",
        "session": "session sessionid visit visitid",
        "item": "item itemid iid asin parentasin movie movieid news newsid article articleid product productid sku "
        "track trackid song songid book bookid isbn game gameid video videoid artist artistid business businessid "
        "recipe recipeid post postid doc docid content contentid stockcode film filmid show showid place placeid "
        "venueid",
        "time": "time timestamp ts date datetime unixreviewtime unixtime at createdat eventtime when day purchasedate "
        "orderdate invoicedate reviewtime t",
        "value": "rating stars overall value weight playcount plays count quantity qty",
        "action": "action event eventtype behavior behaviour behaviortype type what",
        "id": "id impression impressionid request requestid listid query queryid search searchid slateid",
        "history": "history clickhistory clickedbefore seen past previous userhistory",
        "history_times": "historytimes historytime seenat pasttimes",
        "candidates": "candidates candidate impressions shown slate list offered items inview displayed results "
        "recommended",
        "clicked": "clicked clicks click labels label chosen articleidsclicked",
        "logged_scores": "scores score loggedscores predictions logits",
        "propensities": "propensities propensity",
        "exclude": "exclude excluded blocked",
    }.items()
}
"""Field -> names of columns, in small letters and without marks between the words."""

_ITEM_FILES = re.compile(r"item|movie|news|product|meta|book|track|song|catalog|article|film|game|recipe|sku", re.I)
_USER_FILES = re.compile(r"user|customer|member|people|person", re.I)
_CODES = re.compile(r"categor|genre|class|brand|type|kind|group|code|_?id$|author|artist|label|language", re.I)
_LABELLED = re.compile(r"\S+([-:_/])([01])")
_OWN_FORM = {
    "items": {"id", "attributes"},
    "impressions": {"id", "time_us", "candidates"},
    "feedback": {"impression_id", "item", "action", "time_us"},
}
"""Names that JSON lines have when they are records already. `id` alone would not say it."""


@dataclass(frozen=True)
class Said:
    """A column of a field, as it will be written into the mapping."""

    column: str
    unit: str | None = None
    separator: str | None = None
    labels: str = ""
    type: str | None = None


@dataclass
class Meaning:
    """What one table means.

    Attributes:
        kind: items, impressions, feedback or interactions. Empty: it is of no use here, and `why` says why.
        columns: Field -> column.
        constants: Field -> what holds for every row.
        values: Attributes of items, or context of lists: name -> column.
        left: Column -> why it is left out.
        own: Whether the rows are records already, so that no mapping is needed.
        why: Why the table is of no use.
    """

    kind: str = ""
    columns: dict[str, Said] = field(default_factory=dict)
    constants: dict[str, str | float] = field(default_factory=dict)
    values: dict[str, Said] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    own: bool = False
    why: str = ""


def meaning_of(name: str, shape: Shape) -> Meaning:
    """What a table means.

    Args:
        name: Name of the file. It helps where columns have no names.
        shape: How it is written, and its columns.
    """
    if shape.kind == "jsonl" and (kind := _own_form(shape)):
        return Meaning(kind, own=True)
    table = _Table(name, shape)
    for read in (_lists, _feedback, _people, _events, _items):
        if (found := read(table)) is not None:
            return found
    return Meaning(
        why="it has no column of ids; recdistill needs items, lists that were shown, or who chose what and when"
    )


class _Table:
    """The columns of a table, each to be taken once."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name = name
        self.header = shape.kind != "text" or shape.header
        self.rows = shape.rows
        self.columns = list(shape.columns)
        self.taken: set[str] = set()

    def free(self) -> list[Seen]:
        """The columns that nobody has taken yet, without empty ones."""
        return [one for one in self.columns if one.name not in self.taken and one.type is not None]

    def named(self, field: str, *, lists: bool | None = None) -> Seen | None:
        """The first free column with a name of the field. `lists`: whether it must, or must not, hold lists."""
        words = NAMES[field]
        for one in self.free():
            plain = re.sub(r"[\W_]+", "", one.name).lower()
            if plain in words and (lists is None or _is_list(one) == lists):
                return one
        return None

    def take(self, column: Seen | None) -> Seen | None:
        """The same column; nobody else gets it."""
        if column is not None:
            self.taken.add(column.name)
        return column


def _own_form(shape: Shape) -> str:
    names = {one.name for one in shape.columns}
    return next((kind for kind, needed in _OWN_FORM.items() if needed <= names), "")


def _is_list(column: Seen) -> bool:
    return column.type in ("texts", "numbers")


def _said(column: Seen, **more: str) -> Said:
    separator = column.separator if _is_list(column) else None
    return Said(column.name, separator=separator, **more)


def _time(table: _Table) -> Seen | None:
    """The column of times: one that is named so, else one that holds nothing but times."""
    named = table.named("time", lists=False)
    if named is not None and (named.unit is not None or named.type == "number"):
        return named  # small numbers are no times of our days, but they give an order
    return next((one for one in table.free() if one.type == "time"), None) or next(
        (one for one in table.free() if one.unit is not None and not table.header), None
    )


def _user(table: _Table) -> Seen | None:
    """Who it was; a visit where the table does not say it."""
    return table.named("user", lists=False) or table.named("session", lists=False)


# Kinds of tables


def _lists(table: _Table) -> Meaning | None:
    """Lists that were shown: a column of candidates, maybe with a label behind each."""
    labelled = next(((one, mark) for one in table.free() if (mark := _mark(one))), None)
    candidates = labelled[0] if labelled else table.named("candidates", lists=True)
    if candidates is None:
        return None
    found = Meaning("impressions")
    table.take(candidates)
    found.columns["candidates"] = _said(candidates, labels=labelled[1] if labelled else "")
    when = table.take(_time(table))
    if when is None:
        return Meaning(why="its lists have no time; add a column that says when each was shown")
    found.columns["time"] = Said(when.name, unit=when.unit)
    if (name := table.take(table.named("id", lists=False) or _unique(table))) is None:
        return Meaning(why="its lists have no id; add a column with a different id in each row")
    found.columns["id"] = Said(name.name)
    if not labelled and (clicked := table.take(table.named("clicked"))) is not None:
        found.columns["clicked"] = _said(clicked)
    for side in ("history", "logged_scores", "propensities", "exclude", "history_times"):
        if (column := table.take(table.named(side, lists=True))) is not None:
            found.columns[side] = Said(column.name, unit=column.unit, separator=column.separator)
    if not table.header and (past := next((one for one in table.free() if _is_list(one)), None)) is not None:
        found.columns["history"] = _said(past)
        table.take(past)
    user = _user(table)
    if user is None and not table.header:
        user = next((one for one in table.free() if not _is_list(one)), None)
    if table.take(user) is not None and user is not None:
        found.columns["user"] = Said(user.name)
    if labelled or "clicked" in found.columns:
        found.constants["action"] = "click"
        if "history" in found.columns:
            found.constants["history_actions"] = "click"
    _values(table, found, context=True)
    return found


def _mark(column: Seen) -> str:
    """What stands between a candidate and its label, as in `N1-0 N2-1`; empty if the column is not such a list."""
    marks = set()
    for example in column.examples:
        tokens = example.split()
        if len(example) >= 60:
            tokens = tokens[:-1]  # the sample cuts a cell, maybe in a word
        for token in tokens:
            match = _LABELLED.fullmatch(token)
            if match is None:
                return ""
            marks.add(match[1])
    return marks.pop() if len(marks) == 1 and _is_list(column) else ""


def _feedback(table: _Table) -> Meaning | None:
    """What was done with lists of another table: a list's id, an item and a time."""
    named = [one for one in table.free() if re.sub(r"[\W_]+", "", one.name).lower() in NAMES["id"] - {"id"}]
    item, when = table.named("item", lists=False), _time(table)
    if not named or item is None or when is None:
        return None
    found = Meaning("feedback")
    found.columns["impression_id"] = Said(named[0].name)
    found.columns["item"] = Said(item.name)
    found.columns["time"] = Said(when.name, unit=when.unit)
    for column in (named[0], item, when):
        table.take(column)
    if (action := table.take(table.named("action", lists=False))) is not None:
        found.columns["action"] = Said(action.name)
    else:
        found.constants["action"] = "click"
    if (own := table.take(table.named("id", lists=False))) is not None:
        found.columns["id"] = Said(own.name)
    _value(table, found)
    _rest(table, found)
    return found


def _people(table: _Table) -> Meaning | None:
    """A table about users is of no use: a user's history comes with each request."""
    user, item = table.named("user", lists=False), table.named("item", lists=False)
    about = user is not None and item is None and user.distinct == user.filled
    by_file = not table.header and _USER_FILES.search(table.name) and not _ITEM_FILES.search(table.name)
    by_file = by_file and _time(table) is None
    if about or by_file:
        return Meaning(
            why="it describes users; recdistill keeps no profile of users, their history comes with each request"
        )
    return None


def _events(table: _Table) -> Meaning | None:
    """Who chose what, and when."""
    user, item, when = _user(table), table.named("item", lists=False), _time(table)
    if not table.header and when is not None:
        plain = [one for one in table.free() if one.name != when.name and not _is_list(one)]
        if len(plain) >= 2 and not _ITEM_FILES.search(table.name):
            user, item = plain[:2]
    if user is None or item is None:
        return None
    if when is None:
        return Meaning(why="it says who chose what, but not when; recdistill needs the order: add a column of times")
    found = Meaning("interactions")
    for name, column in (("user", user), ("item", item)):
        found.columns[name] = Said(column.name)
        table.take(column)
    table.take(when)
    found.columns["time"] = Said(when.name, unit=when.unit)
    _value(table, found)
    if (action := table.named("action", lists=False)) is not None and action.distinct <= 20 and action.type == "text":
        table.take(action)
        found.columns["action"] = Said(action.name)
    else:
        found.constants["action"] = "rate" if "value" in found.columns else "choose"
    _rest(table, found)
    return found


def _items(table: _Table) -> Meaning | None:
    """What can be recommended: a row for each id."""
    name = table.named("item", lists=False) or table.named("id", lists=False) or _unique(table)
    if name is None:
        return None
    found = Meaning("items")
    table.take(name)
    found.columns["id"] = Said(name.name)
    _values(table, found, context=False)
    return found


def _unique(table: _Table) -> Seen | None:
    """The first column whose cells all differ."""
    return next((one for one in table.free() if one.filled == one.distinct == table.rows and not _is_list(one)), None)


# What the other columns are


def _value(table: _Table, found: Meaning) -> None:
    column = table.named("value", lists=False)
    if column is None and not table.header:
        column = next((one for one in table.free() if one.type == "number" and one.distinct <= 20), None)
    if column is not None and column.type == "number":
        table.take(column)
        found.columns["value"] = Said(column.name)


def _values(table: _Table, found: Meaning, *, context: bool) -> None:
    """The columns that are left become attributes or context, if a model can use them."""
    for column in table.columns:
        if column.name in table.taken:
            continue
        if why := _no_use(column, context=context):
            found.left[column.name] = why
            continue
        name = _field_name(column, table, found)
        code = column.type == "number" and _CODES.search(column.name) and all(_whole(one) for one in column.examples)
        kind = "text" if code else column.type
        found.values[name] = Said(column.name, separator=column.separator if _is_list(column) else None, type=kind)


def _rest(table: _Table, found: Meaning) -> None:
    for column in table.columns:
        if column.name not in table.taken:
            found.left[column.name] = f"{found.kind} have no place for it"


def _no_use(column: Seen, *, context: bool) -> str:
    """Why a model cannot use a column; empty if it can."""
    if column.type is None:
        return "it is empty in the rows that were looked at"
    if column.filled > 1 and column.distinct == 1:
        return "it is the same in the rows that were looked at"
    if column.type == "time":
        return "a time is no feature"
    if all(one.startswith(("http://", "https://")) for one in column.examples):
        return "it holds addresses"
    if all(one.startswith(("[{", "{", "[]")) for one in column.examples) and any("{" in one for one in column.examples):
        return "it holds JSON"
    if context and column.type == "text" and column.filled >= 20 and column.distinct > column.filled / 2:
        return "nearly each row has another text, so it is no category"
    if context and _is_list(column) and column.type == "numbers":
        return "a request's context has no lists of numbers"
    return ""


def _field_name(column: Seen, table: _Table, found: Meaning) -> str:
    """A name that a feature may have. Columns without names get one by what they hold."""
    if table.header:
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", column.name).strip("_")[:64] or "value"
    elif _is_list(column):
        name = "tags"
    elif column.type == "text":
        name = "category" if column.distinct <= column.filled / 2 else "title"
    else:
        name = str(column.type)
    number, chosen = 1, name
    while chosen in found.values:
        number += 1
        chosen = f"{name}_{number}"
    return chosen


def _whole(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.0*)?", text) is not None


def related(values: Sequence[str], ids: set[str]) -> bool:
    """Whether the members of a list are ids of items: such a list says what goes with what, not what an item is."""
    return bool(values) and sum(one in ids for one in values) > len(values) / 2
