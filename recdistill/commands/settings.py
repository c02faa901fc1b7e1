"""The verb `settings`: every setting as a run would see it, and where each one comes from.

Values that are secret are not shown.

It knows nothing of what a setting does.

Example:
    >>> flat({"log": {"path": "a", "options": {}}, "gate": {"parity": 1e-4}})
    {'log.path': 'a', 'log.options': {}, 'gate.parity': 0.0001}
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from recdistill.commands.verb import Parser, Verb, settings_of, show
from recdistill.errors import UsageError
from recdistill.given import read_text
from recdistill.text import did_you_mean, without_credentials

SECRET: Final = re.compile(r"password|secret|token|api.?key|authorization|credential", re.IGNORECASE)
_NAMED: Final = re.compile(r"^$|(^| )env:\w+$")
_HIDDEN: Final = "(not shown)"


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their dotted key. An empty table is a value."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return found


def _options(parser: Parser) -> None:
    parser.add_argument(
        "section",
        nargs="?",
        metavar="SECTION",
        help="show only this section or key, such as distil or distil.passes (default: all)",
    )
    parser.add_argument("--changed", action="store_true", help="show only settings that differ from their defaults")


def _settings(args: argparse.Namespace) -> int:
    import msgspec

    from recdistill.config import Settings

    values = flat(msgspec.to_builtins(settings_of(args)))
    defaults = flat(msgspec.to_builtins(Settings()))
    sources = _sources(args)
    rows: list[dict[str, Any]] = []
    for key, value in values.items():
        # A table such as join.labels may be named as a whole.
        named = [source for part, source in sources.items() if _within(key, part)]
        source = named[-1] if named else "default" if defaults.get(key, value) == value else "derived"
        if args.section and not _within(key, args.section):
            continue
        if args.changed and source == "default":
            continue
        rows.append({"key": key, "value": _shown(key, value), "from": source})
    if args.section and not rows and not any(_within(key, args.section) for key in values):
        sections = sorted({key.partition(".")[0] for key in values})
        hint = did_you_mean(args.section, [*sections, *values], otherwise=f"sections: {', '.join(sections)}")
        raise UsageError(f"there is no setting {args.section!r}; {hint}")
    text = [(_line(row["key"], row["value"]), row["from"]) for row in rows]
    wide = min(60, max((len(line) for line, _ in text), default=0))
    show(args, {"settings": rows}, "\n".join(f"{line:{wide}}  # {source}" for line, source in text) or "all defaults")
    return 0


def _line(key: str, value: Any) -> str:
    """As the settings file says it. A setting without a value is a comment there."""
    return f"# {key} has no value" if value is None else f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(section + ".")


def _sources(args: argparse.Namespace) -> dict[str, str]:
    """Where each named key comes from. A later source overrides an earlier one."""
    from recdistill.config import PREFIX

    found: dict[str, str] = {}
    file = args.config or (Path(os.environ["RECDISTILL_CONFIG"]) if os.environ.get("RECDISTILL_CONFIG") else None)
    if file is not None:  # it was read once already, so it can be read
        found |= dict.fromkeys(flat(tomllib.loads(read_text(file, what="settings"))), str(file))
    for name in sorted(os.environ):
        if name.startswith(PREFIX):
            found.pop(key := name[len(PREFIX) :].lower().replace("__", "."), None)
            found[key] = f"environment, {name}"
    for change in args.changes:
        found.pop(key := change.partition("=")[0].strip(), None)
        found[key] = "--set"
    return found


def _shown(key: str, value: Any) -> Any:
    if SECRET.search(key) and isinstance(value, str) and not _NAMED.search(value):
        return _HIDDEN
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, list):
        return [
            {name: _shown(name, inner) for name, inner in flat(one).items()} if isinstance(one, dict) else one
            for one in value
        ]
    return value


VERBS = (
    Verb(
        name="settings",
        purpose="Show every setting with its value, and where the value comes from.",
        when="Use it when a run does not do what you expect. A value comes from one of four places: the built-in "
        "defaults, the file, the environment, and --set. The later place in this list wins. Passwords are not shown.",
        examples=("settings", "settings distil", "settings --changed --set student.dim=32"),
        options=_options,
        run=_settings,
    ),
)
