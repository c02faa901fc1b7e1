"""The verb `import`: a table or a data set -> the log, all of it and once.

Every record is read, checked and encoded once, and waits in a file. Then all are written. What the tables were guessed
to be is said on stderr.

It knows nothing of the form of tables; `recdistill.data` does.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.commands.checking import check, distinct
from recdistill.commands.datasets import (
    feed_dataset,
    feed_events,
    mix_of,
    must_be_there,
    surveyed,
    told,
    write_items,
    write_once,
    written,
)
from recdistill.commands.verb import Bar, Parser, Verb, between, one_of, settings_of, show, stopping
from recdistill.errors import UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.data import mapping
    from recdistill.features import FeatureSpec
    from recdistill.records import Encoded

AGAIN = "write records once more that are in the log already (default: they are not written again)"


def _import_options(parser: Parser) -> None:
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="file with a table: .csv or other text with columns, JSON lines, or Parquet, compressed or not. Several "
        "files of one kind are read as one table. Or the folder of MovieLens",
    )
    parser.add_argument(
        "--kind",
        type=one_of("items", "impressions", "feedback", "interactions", "rankings", "examples"),
        metavar="KIND",
        help="what one row is: items, impressions, feedback, or interactions (user, item, time; recdistill makes lists "
        "from them). JSON lines without a mapping may also be rankings or examples (default: what the mapping says)",
    )
    parser.add_argument(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="file that says which column is which field, or one of the ready mappings: mind-news, mind-behaviors, "
        "movielens-movies, movielens-ratings (default: each column has the name of its field)",
    )
    parser.add_argument(
        "--earlier",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="with interactions: file of older events that were imported before. They become part of histories, but "
        "make no lists. May be given several times",
    )
    parser.add_argument(
        "--seed",
        type=between(0, 2**31 - 1),
        default=0,
        metavar="N",
        help="where random numbers begin, for lists that are made from events; another number gives other lists "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing. Read all rows, show the first ones as they are understood, and say how the tables fit "
        "together. The tables may be of several kinds. What you do not say is guessed",
    )
    parser.add_argument("--again", action="store_true", help=AGAIN)


def _import(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    if len(args.paths) == 1 and args.paths[0].is_dir():
        return _folder(args, settings, args.paths[0])
    distinct([*args.earlier, *args.paths])
    columns = _mapping(args.mapping) if args.mapping else None
    if args.check and args.kind not in ("rankings", "examples"):
        return check(args, settings, columns, _spec(settings))
    if "interactions" in (args.kind, columns.kind if columns and not args.kind else None):
        return feed_events(args, settings, args.paths, columns, earlier=args.earlier)
    if args.earlier:
        raise UsageError("--earlier: is only for interactions; records bring their own histories")
    return _records(args, settings, columns)


def _mapping(name: Path) -> mapping.TableMapping:
    """A mapping from a file, or a ready one by its name."""
    from recdistill.data import mapping, ready

    if name.exists() or len(name.parts) > 1 or name.suffix:
        return mapping.TableMapping.load(name)
    return mapping.TableMapping.parse(ready.ready_text(str(name)), str(name))


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
    from recdistill.data import mapping, shape, spool, tables
    from recdistill.loops import known
    from recdistill.stream import open_log

    spec, said = _spec(settings), list[str]()
    kind = args.kind or (columns.kind if columns else None)

    def rows() -> Iterator[Encoded]:
        for path in args.paths:
            yield from tables.import_encoded(path, args.kind, columns, spec=spec, said=said.append)

    with ExitStack() as stack:
        stop = stack.enter_context(stopping())
        with Bar("check", args) as bar:
            own = columns is None and all(shape.guess(path).kind == "jsonl" for path in args.paths)
            # Rows may be in any order, but stages read the time from records: they are written in its order.
            # JSON lines that are records already stand in the order of the log that they are from.
            by_time = kind in mapping.FIELDS and kind != "items" and not own
            records = stack.enter_context(spool.Spool(by_time=by_time))
            records.fill(rows(), stop=stop, progress=bar)
            whole = surveyed(records, stop, bar)
        told(args, said)
        if args.check:
            show(args, {"checked": whole.records}, f"{whole.records:,} rows are right; nothing was written")
            return 0
        log = stack.enter_context(closing(open_log(settings.log)))
        must_be_there(log)
        counts = Counter[str]()
        if by_time and columns is not None and columns.add_items:
            counts = write_items(args, log, spool.unknown_items(records, set(known.items_of(log))), stop)
        fed = write_once(args, log, records, whole, stop)
    counts += fed.counts
    text = written(counts, fed.before, whole.records, "the table is empty")
    if by_time and records.unsorted:
        text += "\nthe rows are not in the order of time; they were written in that order"
    show(args, {**counts, "before": fed.before, "stopped": False}, text)
    return 0


def _spec(settings: Settings) -> FeatureSpec | None:
    """The feature specification, if there is one yet."""
    from recdistill.features import FeatureSpec

    path = Path(settings.features.file)
    return FeatureSpec.load(path) if path.is_file() else None


VERBS = (
    Verb(
        name="import",
        purpose="Write a table into the log: text with columns, JSON lines, Parquet, or a folder of MovieLens.",
        when="Every row is checked before the first one is written. If a cell is wrong, the error names its line and "
        "column. The form of the text (what is between columns, quotes, encoding, header) is guessed and said on "
        "stderr. A mapping can set it instead. If the import is stopped or killed, give the same command again: it "
        "goes on where it stopped. The same records are written once only, unless you say --again.",
        examples=(
            "import items.csv --kind items",
            "import --check items.csv purchases.csv",
            "import december.csv --kind interactions --earlier november.csv",
            "import ~/ml-100k",
        ),
        options=_import_options,
        run=_import,
    ),
)
