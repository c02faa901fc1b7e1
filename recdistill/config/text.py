"""Writes settings as text: TOML for a file, and the reference page for people.

It knows nothing of where the text goes.

Example:
    >>> print(to_toml({"join": {"window_s": 60.0}}))
    [join]
    window_s = 60.0
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from recdistill.config.settings import Settings


def to_toml(tree: Mapping[str, Any]) -> str:
    """Plain data as TOML text: values first, then tables. Texts, numbers and lists look the same in JSON and TOML.

    Example:
        >>> print(to_toml({"join": {"window_s": 60.0, "labels": {"click": 1.0}}}))
        [join]
        window_s = 60.0
        <BLANKLINE>
        [join.labels]
        "click" = 1.0
    """
    return "\n".join(_toml_lines(tree, ())).strip()


def _toml_lines(tree: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    tree = {key: value for key, value in tree.items() if value is not None}  # TOML has no null; leaving out means it
    quoted = [key if re.fullmatch("[A-Za-z_]+", key) and not path[1:] else _toml(key) for key in tree]
    values: list[tuple[str, Any]] = []
    tables: list[tuple[str, Any]] = []
    arrays: list[tuple[str, Any]] = []
    for name, value in zip(quoted, tree.values(), strict=True):
        if value is None:  # TOML has no null: a key that is left out has its default
            continue
        of_tables = isinstance(value, list) and value and isinstance(value[0], dict)
        (tables if isinstance(value, dict) else arrays if of_tables else values).append((name, value))
    lines = ["", f"[{'.'.join(path)}]"] if path and values else []
    lines += [f"{name} = {_toml(value)}" for name, value in values]
    for name, value in tables:
        lines += _toml_lines(value, (*path, name))
    for name, value in arrays:
        for table in value:
            below = _toml_lines(table, (*path, name))
            heading = f"[{'.'.join((*path, name))}]"
            # A table of an array gets its heading even when it has no values. The heading has double brackets.
            below = below[2:] if below[1:2] == [heading] else below
            lines += ["", f"[{heading}]", *below]
    return lines


def _toml(value: Any) -> str:
    """A value as TOML. JSON would write an emoji as two escapes, which TOML has not."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def reference() -> str:
    """The configuration reference in Markdown, one table for each section."""
    lines = [
        "# Configuration",
        "",
        "`make docs` writes this page from `recdistill/config/`; do not edit it. Settings are in one TOML file. Give",
        "its path with `--config` or `RECDISTILL_CONFIG`. `RECDISTILL__SECTION__KEY=value` in the environment",
        "wins over the file. Unknown keys, and values that do not fit, are errors with one sentence: nothing starts.",
        "",
    ]
    top: Any = msgspec.inspect.type_info(Settings)
    for section in top.fields:
        lines += _section(section.encode_name, section.type)
    return "\n".join(lines)


def _section(name: str, struct: Any) -> list[str]:
    """The table of one section, then the tables of the sections below it."""
    summary = (struct.cls.__doc__ or "").split(":", 1)[-1].strip()
    lines = [f"## `[{name}]`", "", summary[0].upper() + summary[1:], ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    below: list[str] = []
    for field in struct.fields:
        if isinstance(field.type, msgspec.inspect.StructType):
            inner = f"{name}.{field.encode_name}"
            lines.append(f"| `{field.encode_name}` | section | | `[{inner}]`, below |")
            below += _section(inner, field.type)
            continue
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        shown = "" if default is None else f"`{msgspec.json.encode(default).decode()}`"
        lines.append(f"| `{field.encode_name}` | {_type_text(field.type)} | {shown} | {_description(field.type)} |")
    return [*lines, "", *below]


def _type_text(info: Any) -> str:
    inspect = msgspec.inspect
    if isinstance(info, inspect.Metadata):
        return _type_text(info.type)
    if isinstance(info, inspect.LiteralType):
        return " or ".join(f"`{v}`" for v in info.values)
    if isinstance(info, inspect.DictType):
        return "table"
    if isinstance(info, inspect.UnionType):
        return " or ".join(_type_text(t) for t in info.types if not isinstance(t, inspect.NoneType))
    if isinstance(info, inspect.IntType | inspect.FloatType):
        name = "integer" if isinstance(info, inspect.IntType) else "number"
        low = f"≥ {info.ge}" if info.ge is not None else f"> {info.gt}" if info.gt is not None else ""
        high = f"≤ {info.le}" if info.le is not None else f"< {info.lt}" if info.lt is not None else ""
        return " ".join(filter(None, [name, ", ".join(filter(None, [low, high]))]))
    if isinstance(info, inspect.ListType):
        return "list"
    return {"StrType": "text", "BoolType": "true or false"}.get(type(info).__name__, type(info).__name__)


def _description(info: Any) -> str:
    """The description of a field. msgspec keeps it in the Metadata node's extra JSON schema."""
    if isinstance(info, msgspec.inspect.Metadata):
        return str((info.extra_json_schema or {}).get("description", ""))
    if isinstance(info, msgspec.inspect.UnionType):
        return next(filter(None, map(_description, info.types)), "")
    return ""
