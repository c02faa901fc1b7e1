"""The verb `import`: a table or a data set -> the log, all of it and once.

First every record is read and checked, then they are written. What the tables were guessed to be is said on stderr.

It knows nothing of the form of tables; `recdistill.data` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.commands.datasets import (
    feed_dataset,
    feed_events,
    mix_of,
    must_be_there,
    surveyed,
    told,
    write_once,
    written,
)
from recdistill.commands.verb import Bar, Parser, Verb, between, one_of, settings_of, show, stopping
from recdistill.errors import UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.data import mapping
    from recdistill.features import FeatureSpec
    from recdistill.records import Record

AGAIN = "write records that are in the log already once more (default: they are not written twice)"


def _import_options(parser: Parser) -> None:
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="a table (text with delimiters, JSON lines or Parquet, perhaps compressed), several of one kind, or "
        "the folder of MovieLens",
    )
    parser.add_argument(
        "--kind",
        type=one_of("items", "impressions", "feedback", "interactions", "rankings", "examples"),
        metavar="KIND",
        help="what a row is: items, impressions, feedback or interactions (user, item, time; lists are made from "
        "them). JSONL without a mapping may also hold rankings or examples (default: what the mapping says)",
    )
    parser.add_argument(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="a file that names the columns (default: columns have the names of the fields)",
    )
    parser.add_argument(
        "--earlier",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="interactions only: events that were imported before; they make histories, but no lists. May be repeated",
    )
    parser.add_argument(
        "--seed", type=between(0, 2**31 - 1), default=0, metavar="N", help="seed of the lists that are made"
    )
    parser.add_argument("--check", action="store_true", help="read and check everything, write nothing")
    parser.add_argument("--again", action="store_true", help=AGAIN)


def _import(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    if len(args.paths) == 1 and args.paths[0].is_dir():
        return _folder(args, settings, args.paths[0])
    from recdistill.data import mapping

    columns = mapping.TableMapping.load(args.mapping) if args.mapping else None
    if "interactions" in (args.kind, columns.kind if columns and not args.kind else None):
        return feed_events(args, settings, args.paths, columns, earlier=args.earlier)
    if args.earlier:
        raise UsageError("--earlier: is only for interactions; records bring their own histories")
    return _records(args, settings, columns)


def _folder(args: argparse.Namespace, settings: Settings, path: Path) -> int:
    if args.kind or args.mapping or args.earlier:
        raise UsageError(f"{path}: a folder is MovieLens and takes no --kind, --mapping or --earlier; or name a file")
    from recdistill.data import movielens

    chosen = settings.interactions
    return feed_dataset(
        args,
        settings,
        lambda: movielens.load(
            path, mix=mix_of(settings), history=chosen.history, min_history=chosen.min_history, seed=args.seed
        ),
    )


def _records(args: argparse.Namespace, settings: Settings, columns: mapping.TableMapping | None) -> int:
    """Tables whose rows are records."""
    from recdistill.data import tables
    from recdistill.stream import open_log

    spec, said = _spec(settings), list[str]()

    def rows(say: Callable[[str], None] | None = None) -> Iterator[Record]:
        for path in args.paths:
            yield from tables.import_table(path, args.kind, columns, spec=spec, said=say)

    with stopping() as stop:
        with Bar("check", args) as bar:
            whole = surveyed(rows(said.append), stop, bar)
        told(args, said)
        if args.check:
            show(args, {"checked": whole.records}, f"{whole.records:,} rows are right; nothing was written")
            return 0
        with closing(open_log(settings.log)) as log:
            must_be_there(log)
            fed = write_once(args, log, rows(), whole, stop)
    text = written(fed.counts, fed.before, whole.records, "the table is empty")
    show(args, {**fed.counts, "before": fed.before, "stopped": False}, text)
    return 0


def _spec(settings: Settings) -> FeatureSpec | None:
    """The feature specification, if there is one yet."""
    from recdistill.features import FeatureSpec

    path = Path(settings.features.file)
    return FeatureSpec.load(path) if path.is_file() else None


VERBS = (
    Verb(
        name="import",
        purpose="Write a table into the log: text with delimiters, JSON lines or Parquet, or a MovieLens folder.",
        when="Every row is checked before the first one is written. The error of a wrong cell names line and column. "
        "Delimiter, quotes, encoding and header are guessed and said on stderr; the mapping can set them. An import "
        "that was stopped or killed goes on where it stopped when you give the same command. The same records are not "
        "written twice, unless you say --again.",
        examples=(
            "import items.csv --kind items",
            "import requests.parquet --mapping requests.toml --check",
            "import december.csv --kind interactions --earlier november.csv",
            "import ~/ml-100k",
        ),
        options=_import_options,
        run=_import,
    ),
)
