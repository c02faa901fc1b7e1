"""The verb `init`: looks at tables and writes what a first student needs, with comments. Says what to type next.

It knows nothing of how tables are understood or how the files read; `recdistill.data` does.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.commands import checking
from recdistill.commands.features import specification_of_log
from recdistill.commands.verb import Bar, Parser, Verb, settings_of, show
from recdistill.errors import DataError, UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.data import survey, understood

SETTINGS = "recdistill.toml"

_TRAINED = 0.8
"""Share of the lists that a first student learns from. The newer ones are for the judge."""

_LONGEST_WINDOW_S = 7 * 86_400


def _options(parser: Parser) -> None:
    parser.add_argument(
        "tables",
        type=Path,
        nargs="*",
        metavar="TABLE",
        help="file with a table: items, lists that were shown, feedback (what people did with a list), or events (who "
        "chose what, when). It may be .csv, .tsv, .jsonl, .parquet or another form, compressed or not (default: no "
        "table; then only the feature specification is written, from the records in the log)",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="write over files that exist already (default: if one exists, write nothing and say so)",
    )


def _init(args: argparse.Namespace) -> int:
    if not args.tables:
        return _from_log(args, settings_of(args))
    settings = settings_of(args, makes=SETTINGS)
    from recdistill.data import understood

    checking.distinct(args.tables)
    tables = [understood.understand(path) for path in args.tables]
    _distinct_files(tables)
    used = [table for table in tables if table.kind]
    if not any(table.kind in ("impressions", "interactions") for table in used):
        raise DataError(_nothing_to_learn(tables))
    with Bar("read", args):
        found = checking.read(settings, used)
    if not found.times_us:
        raise DataError(
            f"no list comes out of these tables: {found.early:,} events are among the first "
            f"{settings.interactions.min_history} of their user (--set interactions.min_history=N asks for fewer), "
            f"{found.repeated:,} are on an item that the user had had"
        )
    _put_right(used, found)
    files = _files(settings, used, found)
    _write(files, replace=args.replace)
    until = _until(found)
    commands = _commands(used, found, until)
    lines = [line for table in tables for line in (*checking.as_text(table, found), "")]
    lines += [*checking.joins(found, settings.interactions.min_history), "", "wrote"]
    lines += [f"  {name:24} {what}" for name, (_, what) in files.items()]
    lines += ["", "type next, in this order (`recdistill VERB --help` explains each):", ""]
    lines += [f"  {command}" for command in commands]
    shown: dict[str, Any] = {
        "files": list(files),
        "commands": commands,
        "until": until,
        "tables": [checking.as_json(table, found) for table in tables],
        "joins": found.figures(),
    }
    show(args, shown, "\n".join(lines))
    return 0


def _nothing_to_learn(tables: Sequence[understood.Understood]) -> str:
    what = ", ".join(f"{table.path.name} ({table.kind or table.why})" for table in tables)
    return (
        f"there is nothing to learn from in {what}; add a table of lists that were shown (id, time, candidates), or of "
        "events (user, item, time). If a column was not understood, write a mapping: docs/records.md names the fields"
    )


def _distinct_files(tables: Sequence[understood.Understood]) -> None:
    """No two tables have one mapping file, unless one mapping fits both."""
    seen: dict[str, str] = {}
    for table in tables:
        same = seen.get(table.file)
        if same is not None and same != _body(table.text):
            table.file = f"{table.path.name}.map.toml"
            table.write_again(add_items=False)
        seen[table.file] = _body(table.text)


def _body(text: str) -> str:
    """A mapping without its first line, which names the table: two tables may share it."""
    return text.partition("\n")[2]


def _put_right(tables: Sequence[understood.Understood], found: survey.Survey) -> None:
    """What only whole tables show: lists of other items are no attributes, and undescribed items have to be added."""
    from recdistill.data import meaning, survey

    ids = set(found.items)
    for table in tables:
        if table.meaning is None or table.ready:
            continue
        for name, said in list(table.meaning.values.items()) if table.kind == "items" else ():
            if said.type in ("texts", "numbers") and meaning.related(survey.members(found.items.values(), name), ids):
                del table.meaning.values[name]
                table.meaning.left[said.column] = "its values are ids of other items, and may know the future"
                found.forget(name)
        add_items = table.kind == "impressions" and found.ids_described < found.ids_named
        table.write_again(add_items=add_items)


def _files(
    settings: Settings, tables: Sequence[understood.Understood], found: survey.Survey
) -> dict[str, tuple[str, str]]:
    """Name -> text, and what the file is."""
    from recdistill.data import infer, written

    shown = found.lists > 0
    actions = sorted(found.actions)
    context = infer.fields_of(found.contexts, context=True)
    spec = infer.infer_specification(
        list(found.items.values()),
        actions=actions,
        history=settings.interactions.history,
        context=context if shown else infer.CLOCK,
        least=found.ids_named + len(found.items) - found.ids_described,
    )
    chosen = written.Chosen(
        tables=[table.path.name for table in tables],
        features=settings.features.file,
        logged=shown and found.scored == found.lists,
        labels=dict.fromkeys(actions, 1.0) or {"click": 1.0},
        window_s=_window(settings, found),
        lists=int(len(found.times_us) * _TRAINED),
        shown=shown,
    )
    files = {
        table.file: (table.text, f"which column of {table.path.name} is which field") for table in tables if table.text
    }
    files[settings.features.file] = (written.specification_text(spec), "what a model sees of items and requests")
    files[SETTINGS] = (written.settings_text(chosen), "settings of a first student")
    return files


def _window(settings: Settings, found: survey.Survey) -> float:
    """A window that 99 of 100 feedback keep; at least the default, at most a week."""
    delays = sorted(found.delays_us)
    if not delays:
        return settings.join.window_s
    longest = delays[int(len(delays) * 0.99)] / 1e6
    return min(_LONGEST_WINDOW_S, max(settings.join.window_s, 600.0 * -(-longest // 600)))


def _write(files: dict[str, tuple[str, str]], *, replace: bool) -> None:
    there = [name for name in files if Path(name).exists()]
    if there and not replace:
        raise UsageError(
            f"{', '.join(there)}: exists already, so nothing was written; add --replace, or use another folder"
        )
    for name, (text, _) in files.items():
        try:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as e:
            raise UsageError(f"{name}: cannot be written ({e.strerror}); use another folder") from e


def _until(found: survey.Survey) -> str:
    """When the lists for the judge begin, as a time that can be typed."""
    from recdistill.stream import write_time

    return write_time(found.times_us[int(len(found.times_us) * _TRAINED)])


def _commands(tables: Sequence[understood.Understood], found: survey.Survey, until: str) -> list[str]:
    """What to type, in this order, up to a served student."""
    lines = [f"export RECDISTILL_CONFIG={SETTINGS}", "recdistill topics create"]
    lines += _imports(tables)
    if not (found.lists and found.scored == found.lists):
        lines.append(f"recdistill teach --until {until}")
    return [
        *lines,
        "recdistill score --drain",
        "recdistill join --flush",
        f"recdistill distil --drain --until {until}",
        "recdistill evaluate --report report.html",
        "recdistill publish",
        'recdistill promote candidate --why "the first student"',
        "recdistill serve",
    ]


def _imports(tables: Sequence[understood.Understood]) -> list[str]:
    """Items first, so that lists and events find their attributes. Files with one mapping are one table."""
    order = ("items", "impressions", "feedback", "interactions")
    groups: dict[tuple[str, str], list[str]] = {}
    for table in sorted(tables, key=lambda table: order.index(table.kind)):
        key = (table.kind, f"--mapping {shlex.quote(table.file)}" if table.text else f"--kind {table.kind}")
        groups.setdefault(key, []).append(shlex.quote(str(table.path)))
    return [f"recdistill import {' '.join(paths)} {how}" for (_, how), paths in groups.items()]


# From the log


def _from_log(args: argparse.Namespace, settings: Settings) -> int:
    path = settings.features.file
    if Path(path).exists() and not args.replace:
        raise UsageError(f"{path}: exists already; add --replace to overwrite it, or set another features.file")
    _write({path: (specification_of_log(settings), "")}, replace=args.replace)
    show(args, {"files": [path]}, f"{path} was written from the records of the log; look at it before you train")
    return 0


VERBS = (
    Verb(
        name="init",
        purpose="Look at your tables, and write the files that a first student needs, with comments.",
        when="Use it on the first day with tables of your own. It writes into this folder: mappings (which column is "
        "which field), the feature specification (what a model sees) and settings. It writes over no file without "
        "--replace. It prints the commands that lead from the tables to a student that serves.",
        examples=("init items.csv purchases.csv", "init news.tsv behaviors.tsv", "init ratings.dat", "init --replace"),
        options=_options,
        run=_init,
    ),
)
