"""The verb `import`: a table or a data set -> the log, all of it and once.

First every record is read and checked, then they are written. What the tables were guessed to be is said on stderr.

It knows nothing of the form of tables; `recdistill.data` does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.commands.verb import Bar, Parser, Verb, between, counted, one_of, settings_of, show, stopping
from recdistill.errors import Interrupted, StreamError, UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.data import Dataset
    from recdistill.features import FeatureSpec
    from recdistill.loops import feed
    from recdistill.records import Record
    from recdistill.stream import Log

AGAIN = "write records that are in the log already once more (default: they are not written twice)"


def _import_options(parser: Parser) -> None:
    parser.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="a table (text with delimiters, JSON lines or Parquet, perhaps compressed), or the folder of MovieLens",
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
        "--seed", type=between(0, 2**31 - 1), default=0, metavar="N", help="seed of the lists that are made"
    )
    parser.add_argument("--check", action="store_true", help="read and check everything, write nothing")
    parser.add_argument("--again", action="store_true", help=AGAIN)


def _import(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    if args.path.is_dir():
        if args.kind or args.mapping:
            raise UsageError(
                f"{args.path}: a folder is MovieLens and takes neither --kind nor --mapping; or name a file"
            )
        from recdistill.data import movielens

        return _dataset(args, settings, lambda: movielens.load(args.path, seed=args.seed))
    from recdistill.data import mapping, tables

    columns = mapping.TableMapping.load(args.mapping) if args.mapping else None
    said: list[str] = []
    if "interactions" in (args.kind, columns.kind if columns and not args.kind else None):
        return _dataset(
            args,
            settings,
            lambda: tables.import_interactions(args.path, columns, seed=args.seed, said=said.append),
            said,
        )
    spec = _spec(settings)

    def rows(said: Callable[[str], None] | None = None) -> Iterable[Record]:
        return tables.import_table(args.path, args.kind, columns, spec=spec, said=said)

    return _write_table(args, settings, rows, said)


def _write_table(
    args: argparse.Namespace, settings: Settings, rows: Callable[..., Iterable[Record]], said: list[str]
) -> int:
    with stopping() as stop:
        with Bar("check", args) as bar:
            whole = _survey(rows(said.append), stop, bar)
        _tell(args, said)
        if args.check:
            show(args, {"checked": whole.records}, f"{whole.records:,} rows are right; nothing was written")
            return 0
        from recdistill.stream import open_log

        with closing(open_log(settings.log)) as log:
            _must_be_there(log)
            fed = _write(args, log, rows(), whole, stop)
    show(args, {**fed.counts, "before": fed.before, "stopped": False}, _counted(fed, whole, "the table is empty"))
    return 0


def _spec(settings: Settings) -> FeatureSpec | None:
    """The feature specification, if there is one yet."""
    from recdistill.features import FeatureSpec

    path = Path(settings.features.file)
    return FeatureSpec.load(path) if path.is_file() else None


def _tell(args: argparse.Namespace, said: list[str]) -> None:
    if not args.quiet:
        for line in said:
            print(line, file=sys.stderr)


def _counted(fed: feed.Fed, whole: feed.Whole, nothing: str) -> str:
    if whole.records and fed.before == whole.records:
        return (
            f"nothing was written: all {whole.records:,} records are in the log already; --again writes them once more"
        )
    before = f" ({fed.before:,} records were there already)" if fed.before else ""
    return counted(fed.counts, nothing) + before


def _survey(records: Iterable[Record], stop: Any, bar: Bar) -> feed.Whole:
    from recdistill.loops import feed

    whole = feed.survey(records, stop=stop, progress=bar)
    if whole is None:
        raise Interrupted("stopped while the records were checked; nothing was written")
    return whole


def _write(args: argparse.Namespace, log: Log, records: Iterable[Record], whole: feed.Whole, stop: Any) -> feed.Fed:
    from recdistill.loops import feed

    with Bar("write", args) as bar:
        fed = feed.feed_once(log, records, whole, again=args.again, stop=stop, progress=bar)
    if fed.stopped:
        done = fed.before + fed.counts.total()
        raise Interrupted(
            f"stopped: {done:,} of {whole.records:,} records are in the log; the same command writes the rest"
        )
    return fed


def feed_dataset(
    args: argparse.Namespace, settings: Settings, make: Callable[[], Dataset], said: list[str] | None = None
) -> int:
    """Writes a data set in the order of its time. Writes its feature specification too, if there is none yet.

    Args:
        args: The call.
        settings: Its settings.
        make: Makes the data set.
        said: What `make` said, for people.
    """
    from recdistill.stream import open_log

    with stopping() as stop, closing(open_log(settings.log)) as log:
        _must_be_there(log)
        dataset = make()
        with Bar("check", args) as bar:
            whole = _survey(dataset.timeline(), stop, bar)
        _tell(args, said or [])
        fed = _write(args, log, dataset.timeline(), whole, stop)
    wrote = _write_spec(settings, dataset)
    text = [_counted(fed, whole, "nothing")]
    if wrote:
        text.append(f"the feature specification is in {settings.features.file}")
    missing = {name: weight for name, weight in dataset.labels.items() if name not in settings.join.labels}
    if missing:
        labels = ", ".join(f"join.labels.{name} = {weight:g}" for name, weight in missing.items())
        text.append(f"add this to your settings, so that feedback gives labels: {labels}")
    result = {**fed.counts, "before": fed.before, "stopped": False, "features_written": wrote}
    show(args, {**result, "labels": dict(dataset.labels)}, "\n".join(text))
    return 0


def _must_be_there(log: Log) -> None:
    from recdistill.stream import standard_topics

    if missing := sorted(set(standard_topics()) - set(log.topics())):
        raise StreamError(f"the log has no topic {missing[0]!r}; make the topics with `recdistill topics create`")


def _write_spec(settings: Settings, dataset: Dataset) -> bool:
    import msgspec

    from recdistill.config import to_toml

    path = Path(settings.features.file)
    if path.exists():
        print(f"{path} exists already and was not changed", file=sys.stderr)
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_toml(msgspec.to_builtins(dataset.spec)) + "\n", encoding="utf-8")
    except OSError as e:
        raise UsageError(f"{path}: cannot be written ({e.strerror}); set features.file to another place") from e
    return True


def _dataset(
    args: argparse.Namespace, settings: Settings, make: Callable[[], Dataset], said: list[str] | None = None
) -> int:
    if not args.check:
        return feed_dataset(args, settings, make, said)
    found = make()
    _tell(args, said or [])
    figures = {
        "items": len(found.items),
        "impressions": len(found.impressions),
        "feedback": len(found.feedback),
    }
    show(args, {"checked": figures}, f"{counted(figures, 'nothing')} would be written; nothing was")
    return 0


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
            "import clicks.csv --kind interactions",
            "import ~/ml-100k",
        ),
        options=_import_options,
        run=_import,
    ),
)
