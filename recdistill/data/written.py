"""The files that `recdistill init` writes: a mapping for each table, a feature specification and settings, in TOML.

Each has comments in plain words, so that a person can put right what was guessed wrong.

It knows nothing of logs, and writes nothing itself.

Example:
    >>> spec = FeatureSpec(item={"year": Field("number", mean=1990, std=8.5)})
    >>> print(specification_text(spec).split("[item.year]")[1])
    <BLANKLINE>
    kind = "number"        # (value - mean) / std, clipped to 5 either way
    mean = 1990.0
    std = 8.5
    <BLANKLINE>
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recdistill.data.meaning import Meaning, Said
from recdistill.features import FeatureSpec, Field

_KINDS = {
    "category": "one of a few values, or several of them; each value gets a row of its own",
    "number": "(value - mean) / std, clipped to 5 either way",
    "text": "runs of words, hashed into `capacity` buckets",
    "vector": "`size` numbers from your catalogue, such as an embedding",
}
_WHAT = {
    "items": "each row is an item that can be recommended",
    "impressions": "each row is a list that was shown",
    "feedback": "each row says what somebody did with a list",
    "interactions": "each row says who chose what, and when; lists are made of them",
}


class Chosen(NamedTuple):
    """What the settings of a first student depend on.

    Attributes:
        tables: Names of the tables.
        features: Name of the feature specification.
        logged: Whether the lists have scores of a ranker.
        labels: Action -> weight.
        window_s: How long feedback may take.
        lists: How many lists the student learns from.
        shown: Whether lists were shown; otherwise they are made of events.
    """

    tables: Sequence[str]
    features: str
    logged: bool
    labels: Mapping[str, float]
    window_s: float
    lists: int
    shown: bool


def mapping_text(table: str, file: str, meaning: Meaning, form: Mapping[str, Any], *, add_items: bool = False) -> str:
    """A mapping file.

    Args:
        table: Name of the table.
        file: Name of the mapping file.
        meaning: What the table means.
        form: How it is written: keys of a mapping.
        add_items: Whether items that lists name and no table describes become items.
    """
    lines = [
        f"# {_one_line(file)}: which column of {_one_line(table)} is which field.",
        "# `recdistill init` guessed it; change what is wrong.",
        f'kind = "{meaning.kind}"' + " " * 8 + f"# {_WHAT[meaning.kind]}",
    ]
    if form:
        lines += ["", "# How the file is written."]
        lines += [f"{name} = {_value(value)}" for name, value in form.items()]
    if add_items:
        lines += [
            "",
            "# The lists name items that no table describes. They become items without attributes.",
            "add_items = true",
        ]
    lines += ["", "[columns]              # field = column of the table"]
    lines += [f"{name} = {_column(said)}" for name, said in meaning.columns.items()]
    if meaning.constants:
        lines += ["", "[constants]            # the same for every row"]
        lines += [f"{name} = {_value(value)}" for name, value in meaning.constants.items()]
    if meaning.values:
        side = "attributes" if meaning.kind == "items" else "context"
        what = "what a model may know of an item" if side == "attributes" else "what a request says"
        lines += ["", f"[{side}]" + " " * (21 - len(side)) + f"# {what}"]
        lines += [f"{_key(name)} = {_column(said)}" for name, said in meaning.values.items()]
    if meaning.left:
        lines += ["", "# Left out:"]
        lines += [f"#   {_one_line(column)}: {why}" for column, why in meaning.left.items()]
    return "\n".join(lines) + "\n"


def specification_text(spec: FeatureSpec, *, why: str = "It was guessed from the values; change what is wrong.") -> str:
    """A feature specification.

    Args:
        spec: The specification.
        why: Where it comes from.
    """
    lines = [
        f"# What a model sees of items and requests. {why}",
        "# A student keeps the specification that it began with: a changed file needs a new distil.directory.",
        "",
        "[history]              # what the user did before, newest first",
        f"length = {spec.history.length}",
        f"actions = {_value(list(spec.history.actions))}    # actions that a model tells apart",
        "",
        "[id]                   # each item has a row of its own; new items take free rows",
        f"capacity = {spec.id.capacity}",
        f"hashed = {spec.id.hashed}            # rows that items share when no row is free",
    ]
    for side, fields in (("item", spec.item), ("context", spec.context)):
        for name, field in fields.items():
            lines += ["", f"[{side}.{_key(name)}]", *_field(field)]
    return "\n".join(lines) + "\n"


def settings_text(chosen: Chosen) -> str:
    """Settings for a first student. What is not said has the default of docs/configuration.md."""
    passes = _passes(chosen.lists)
    lines = [
        f"# Settings for a student from {', '.join(map(_one_line, chosen.tables))}.",
        "# `recdistill init` wrote them; change what you like. Keys that are not here have their defaults.",
        "",
        "[features]",
        f"file = {_value(chosen.features)}",
        "",
        "[teacher]",
    ]
    if chosen.logged:
        lines += ['kind = "logged"        # the lists carry the scores of your own ranker', 'id = "your-ranker"']
    else:
        lines += ['kind = "builtin"       # you have no ranker yet: `recdistill teach` trains one']
    lines += [
        "",
        "[join]",
        f"window_s = {chosen.window_s:g}" + " " * 8 + "# how long after its list feedback may come, in seconds",
        'soft = "with_labels"  # one example for each list, to be learnt in many passes; leave it out for a stream',
        "",
        "[join.labels]          # action = weight of its label, beside click = 1; 0 leaves an action out",
        *(f"{_key(name)} = {weight:g}" for name, weight in chosen.labels.items()),
        "",
        "[distil]",
        f"passes = {passes}" + " " * 12 + f"# how often the first {chosen.lists:,} lists are read",
        "checkpoint_every = 200",
        "publish = false        # bundles stay in their folder until `recdistill publish`",
    ]
    return "\n".join(lines) + "\n"


def _passes(lists: int) -> int:
    """Passes over the first lists: about 400,000 readings of a list, from 1 to 20."""
    return max(1, min(20, round(400_000 / max(1, lists))))


def _field(field: Field) -> list[str]:
    default = Field(field.kind)
    lines = [f'kind = "{field.kind}"' + " " * max(1, 16 - len(field.kind) - 2) + f"# {_KINDS[field.kind]}"]
    wanted = {
        "category": ("capacity", "max_values"),
        "text": ("capacity", "max_values"),
        "number": ("mean", "std"),
        "vector": ("size",),
    }
    for name in wanted[field.kind]:
        value = getattr(field, name)
        if value != getattr(default, name) or name in ("capacity", "mean", "std"):
            lines.append(f"{name} = {_value(value)}")
    return lines


def _column(said: Said) -> str:
    more = {"unit": said.unit, "separator": said.separator, "labels": said.labels, "type": said.type}
    more = {name: value for name, value in more.items() if value}
    if not more:
        return _value(said.column)
    inside = ", ".join(f"{name} = {_value(value)}" for name, value in {"column": said.column, **more}.items())
    return f"{{ {inside} }}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    """A value in TOML. Texts, numbers, flags and lists of them look as in JSON, but for the character DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _one_line(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")
