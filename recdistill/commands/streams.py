"""Verbs that fill a log: topics, simulate, import.

They know nothing of the form of tables or worlds; `recdistill.data` does.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.commands.verb import Bar, Parser, Verb, between, counted, one_of, settings_of, show, stopping
from recdistill.errors import StreamError, UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.data import Dataset
    from recdistill.records import Record
    from recdistill.stream import Log


# topics


def _topics_options(parser: Parser) -> None:
    parser.add_argument(
        "action",
        type=one_of("create", "list", "mend"),
        metavar="create|list|mend",
        help="create: make the missing topics. list: show the topics with their records. mend: check every message of "
        "an embedded log, and move damaged ones to the dead letters",
    )


def _topics(args: argparse.Namespace) -> int:
    from recdistill.stream import STANDARD_CONFIGS, open_log, standard_topics

    settings = settings_of(args)
    with closing(open_log(settings.log)) as log:
        if args.action == "create":
            counts = standard_topics(settings.topics.partitions, settings.topics.lanes)
            made = log.create_topics(counts, configs=STANDARD_CONFIGS)
            show(args, {"made": made}, f"made {', '.join(made)}" if made else "all topics exist already")
            return 0
        if args.action == "mend":
            return _mend(args, log)
        rows = _ends(log)
    text = [f"{row['topic']:14} {row['partitions']:3} partitions  {row['end']:12,} offsets" for row in rows]
    show(args, {"topics": rows}, "\n".join(text) or "there are no topics; make them with `recdistill topics create`")
    return 0


def _mend(args: argparse.Namespace, log: Log) -> int:
    from recdistill.stream.embedded import EmbeddedLog

    if not isinstance(log, EmbeddedLog):
        raise UsageError("mend: only an embedded log is mended; Kafka's brokers check and repair their own records")
    found = log.mend()
    text = [f"{found.checked:,} messages have a checksum, and {len(found.moved)} of them were damaged"]
    text += [f"  {tp} offset {offset} is now in the dead letters" for tp, offset in found.moved]
    if found.unchecked:
        text.append(f"{found.unchecked:,} messages have none: an older version wrote them")
    show(args, found._asdict(), "\n".join(text))
    return 0


def _ends(log: Log) -> list[dict[str, Any]]:
    topics = log.topics()
    if not topics:
        return []
    with closing(log.source(sorted(topics))) as source:
        ends: Counter[str] = Counter()
        for tp in source.position():
            beginning, end = source.bounds(tp)
            ends[tp.topic] += end - beginning
    return [{"topic": name, "partitions": topics[name], "end": ends[name]} for name in sorted(topics)]


# simulate


def _simulate_options(parser: Parser) -> None:
    for name, low, what in (
        ("impressions", 10, "requests over all users"),
        ("items", 20, "items in the catalogue, over the whole time"),
        ("users", 2, "users, over the whole time"),
        ("days", 2, "days that the simulation lasts"),
    ):
        parser.add_argument(f"--{name}", type=between(low), metavar="N", help=f"{what} (default: the simulator's)")
    parser.add_argument("--seed", type=between(0, 2**31 - 1), default=0, metavar="N", help="default: %(default)s")


def _simulate(args: argparse.Namespace) -> int:
    from recdistill.data.simulated import SimulatorSettings, simulate

    settings = settings_of(args)
    given = {name: getattr(args, name) for name in ("impressions", "items", "users", "days")}
    chosen = SimulatorSettings(**{name: value for name, value in given.items() if value is not None})
    return _feed_dataset(args, settings, lambda: simulate(chosen, seed=args.seed)[0])


def _feed_dataset(args: argparse.Namespace, settings: Settings, make: Any) -> int:
    """Writes a data set in the order of its time. Writes its feature specification too, if there is none yet."""
    from recdistill.stream import open_log

    with closing(open_log(settings.log)) as log:
        _must_be_there(log)
        dataset: Dataset = make()
        total = len(dataset.items) + len(dataset.impressions) + len(dataset.feedback)
        counts, stopped = _write(args, log, dataset.timeline(), total)
    wrote = _write_spec(settings, dataset)
    text = [counted(counts, "nothing") + (" (stopped)" if stopped else "")]
    if wrote:
        text.append(f"the feature specification is in {settings.features.file}")
    missing = {name: weight for name, weight in dataset.labels.items() if name not in settings.join.labels}
    if missing:
        labels = ", ".join(f"join.labels.{name} = {weight:g}" for name, weight in missing.items())
        text.append(f"add this to your settings, so that feedback gives labels: {labels}")
    show(
        args, {**counts, "stopped": stopped, "features_written": wrote, "labels": dict(dataset.labels)}, "\n".join(text)
    )
    return 0


def _must_be_there(log: Log) -> None:
    from recdistill.stream import standard_topics

    if missing := sorted(set(standard_topics()) - set(log.topics())):
        raise StreamError(f"the log has no topic {missing[0]!r}; make the topics with `recdistill topics create`")


def _write(
    args: argparse.Namespace, log: Log, records: Iterable[Record], total: int | None
) -> tuple[Counter[str], bool]:
    from recdistill.loops import feed

    with stopping() as stop, Bar("write", args) as bar:
        return feed.feed(log, records, stop=stop, total=total, progress=bar), stop.is_set()


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


# import


def _import_options(parser: Parser) -> None:
    parser.add_argument(
        "path", type=Path, metavar="PATH", help="a .csv, .tsv, .jsonl or .parquet file, or the folder of MovieLens"
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
    if "interactions" in (args.kind, columns.kind if columns and not args.kind else None):
        return _dataset(args, settings, lambda: tables.import_interactions(args.path, columns, seed=args.seed))
    # All rows are checked before the first one is written: an import is whole, or nothing was written.
    with stopping() as stop, Bar("check", args) as bar:
        rows = 0
        for rows, _ in enumerate(tables.import_table(args.path, args.kind, columns), 1):
            if rows % 1000 == 0:
                bar(rows, None)
            if stop.is_set():
                show(
                    args, {"checked": rows, "stopped": True}, f"{rows:,} rows are right (stopped); nothing was written"
                )
                return 0
    if args.check:
        show(args, {"checked": rows}, f"{rows:,} rows are right; nothing was written")
        return 0
    from recdistill.stream import open_log

    with closing(open_log(settings.log)) as log:
        _must_be_there(log)
        counts, stopped = _write(args, log, tables.import_table(args.path, args.kind, columns), rows)
    text = counted(counts, "the table is empty")
    show(args, {**counts, "stopped": stopped}, text + (" (stopped)" if stopped else ""))
    return 0


def _dataset(args: argparse.Namespace, settings: Settings, make: Any) -> int:
    if not args.check:
        return _feed_dataset(args, settings, make)
    found: Dataset = make()
    figures = {
        "items": len(found.items),
        "impressions": len(found.impressions),
        "feedback": len(found.feedback),
    }
    show(args, {"checked": figures}, f"{counted(figures, 'nothing')} would be written; nothing was")
    return 0


VERBS = (
    Verb(
        name="topics",
        purpose="Make the topics of a log, or list them.",
        when="Run it once, before anything else is written. The number of partitions and lanes ([topics]) cannot "
        "change later. Topics that exist are not changed. One with another number of partitions is an error. `mend` is "
        "for an embedded log of which a stage says that a message is damaged.",
        examples=("topics create", "topics create --set topics.lanes=4", "topics list --json", "topics mend"),
        options=_topics_options,
        run=_topics,
    ),
    Verb(
        name="simulate",
        purpose="Write the stream of a simulated product into the log: items, impressions and feedback with a known "
        "truth.",
        when="Use it to try everything without your own data. It also writes the feature specification, "
        "features.file, if there is none. The same options and seed give the same records.",
        examples=("simulate", "simulate --impressions 5000 --users 500 --seed 1"),
        options=_simulate_options,
        run=_simulate,
    ),
    Verb(
        name="import",
        purpose="Write a table into the log: CSV, TSV, JSONL or Parquet through a mapping file, or a MovieLens folder.",
        when="Every row is checked before the first one is written. The error of a wrong cell names line and column. "
        "If you import a table twice, its records are there twice (items take the newer version, feedback is joined "
        "once).",
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
