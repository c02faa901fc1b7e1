"""Verbs that begin a log: topics, simulate.

They know nothing of the form of worlds; `recdistill.data` does.
"""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

from recdistill.commands.datasets import feed_dataset
from recdistill.commands.imports import AGAIN
from recdistill.commands.verb import Parser, Verb, between, one_of, settings_of, share, show
from recdistill.errors import UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.stream import Log


# topics


def _topics_options(parser: Parser) -> None:
    parser.add_argument(
        "action",
        type=one_of("create", "list", "trim", "mend"),
        metavar="create|list|trim|mend",
        help="create: make the topics that are missing. list: show the topics, and how many records were written to "
        "each. trim: delete old records that nobody needs any more. mend: check every record, and move damaged ones to "
        "the topic dead-letters. trim and mend are for the log in a file, not for Kafka",
    )
    parser.add_argument(
        "--grow",
        action="store_true",
        help="with create: give impressions, rankings and feedback more partitions, as many as topics.partitions says "
        "or as the largest of them has. Stop all stages first (default: change no topic that exists)",
    )


def _topics(args: argparse.Namespace) -> int:
    from recdistill.stream import open_log

    settings = settings_of(args)
    if args.action == "create" and settings.translate.topics:
        from recdistill.loops import translators

        translators.check_names(settings)  # before a topic of somebody else is taken for one of ours
    if args.grow and args.action != "create":
        raise UsageError(f"--grow goes with `topics create`, not with `topics {args.action}`")
    with closing(open_log(settings.log)) as log:
        if args.action == "create":
            return _create(args, settings, log)
        if args.action == "trim":
            return _trim(args, settings, log)
        if args.action == "mend":
            return _mend(args, log)
        rows = _ends(log)
    text = [f"{row['topic']:14} {row['partitions']:3} partitions  {row['end']:12,} offsets" for row in rows]
    show(args, {"topics": rows}, "\n".join(text) or "there are no topics; make them with `recdistill topics create`")
    return 0


def _mend(args: argparse.Namespace, log: Log) -> int:
    from recdistill.stream.embedded import EmbeddedLog

    if not isinstance(log, EmbeddedLog):
        raise UsageError("only the embedded log is mended here; a broker checks and repairs its own records")
    found = log.mend()
    text = [f"{found.checked:,} messages have a checksum, and {len(found.moved)} of them were damaged"]
    text += [f"  {tp} offset {offset} is now in the dead letters" for tp, offset in found.moved]
    if found.unchecked:
        text.append(f"{found.unchecked:,} messages have none: an older version wrote them")
    show(args, found._asdict(), "\n".join(text))
    return 0


_KEYED = ("impressions", "rankings", "feedback")


def _create(args: argparse.Namespace, settings: Settings, log: Log) -> int:
    from recdistill.stream import STANDARD_CONFIGS, standard_topics

    partitions, lanes, grown = settings.topics.partitions, settings.topics.lanes, []
    if args.grow:
        topics = log.topics()
        there, lanes = {name: topics[name] for name in _KEYED if name in topics}, topics.get("examples", lanes)
        partitions = max(partitions, *there.values()) if there else partitions
        grown = log.grow_topics(dict.fromkeys(there, partitions))
    made = log.create_topics(standard_topics(partitions, lanes), configs=STANDARD_CONFIGS)
    text = [f"made {', '.join(made)}"] if made else [] if grown else ["all topics exist already"]
    if grown:
        text.append(f"{', '.join(grown)}: {partitions} partitions now; set topics.partitions = {partitions}")
    dangers = log.dangers()
    text += [f"warning: {danger}" for danger in dangers]
    show(args, {"made": made, "grown": grown, "dangers": dangers}, "\n".join(text))
    return 0


def _trim(args: argparse.Namespace, settings: Settings, log: Log) -> int:
    import msgspec

    from recdistill.loops import trim

    if not isinstance(log, trim.Trimmable):
        raise UsageError("only the embedded log is trimmed here; a broker does it by retention.ms of a topic")
    done, freed = trim.run(log, log, keep_s=settings.topics.keep_days * 24 * 3600)
    text = [
        f"{each.partition:16} {each.removed:12,} offsets removed, begins at {each.beginning:,}: {each.kept_for}"
        for each in done
    ]
    text.append(f"the file is {freed:,} bytes smaller")
    show(args, {"partitions": [msgspec.to_builtins(each) for each in done], "freed_bytes": freed}, "\n".join(text))
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
        ("impressions", 10, "how many lists are shown, to all users together (default: 30000)"),
        ("items", 20, "how many items there are, over the whole time (default: 2000)"),
        ("users", 2, "how many users there are, over the whole time (default: 3000)"),
        ("days", 2, "how many days the simulation lasts (default: 180)"),
    ):
        parser.add_argument(f"--{name}", type=between(low), metavar="N", help=what)
    parser.add_argument(
        "--world",
        type=one_of("plain", "deep"),
        metavar="KIND",
        help="plain: the attributes of an item say all about it. deep: they say little, all tastes change once, and "
        "each list has the scores of a teacher that knows the truth (default: plain)",
    )
    parser.add_argument(
        "--labelled",
        type=share,
        metavar="SHARE",
        help="share of lists with a click in the first days, above 0 and below 1 (default: 0.7)",
    )
    parser.add_argument(
        "--narrow",
        type=share,
        metavar="SHARE",
        help="share of lists whose items the user likes almost equally, up to 1 (default: none)",
    )
    parser.add_argument(
        "--shift",
        type=share,
        metavar="SHARE",
        help="with --world deep: after which share of the days all tastes change. 1: never (default: 0.4)",
    )
    parser.add_argument(
        "--seed",
        type=between(0, 2**31 - 1),
        default=0,
        metavar="N",
        help="where random numbers begin: another number gives other records (default: %(default)s)",
    )
    parser.add_argument("--again", action="store_true", help=AGAIN)


def _simulate(args: argparse.Namespace) -> int:
    from recdistill.data.simulated import SimulatorSettings, simulate

    settings = settings_of(args)
    given = {name: getattr(args, name) for name in ("impressions", "items", "users", "days", "narrow", "shift")}
    given |= {"kind": args.world, "click_rate": args.labelled}
    chosen = SimulatorSettings(**{name: value for name, value in given.items() if value is not None})
    return feed_dataset(args, settings, lambda: simulate(chosen, seed=args.seed)[0])


VERBS = (
    Verb(
        name="topics",
        purpose="Make the topics of a log, list them, delete old records, or repair the log.",
        when="Run `create` once, before anything else. It does not change a topic that exists. It is an error if one "
        "has another number of partitions (parts that processes share) than the settings say. `create --grow` adds "
        "partitions. The number of lanes (partitions of examples) never changes. `trim` deletes records that are older "
        "than topics.keep_days days, if no stage, no checkpoint and no judge needs them. Use `mend` when a stage says "
        "that a record of the log is damaged. Settings: [log], [topics].",
        examples=(
            "topics create --set topics.lanes=4",
            "topics create --grow --set topics.partitions=4",
            "topics list --json",
            "topics trim --set topics.keep_days=30",
        ),
        options=_topics_options,
        run=_topics,
    ),
    Verb(
        name="simulate",
        purpose="Write invented records into the log: items, impressions and feedback of a shop that does not exist.",
        when="Use it to try everything without data of your own. It also writes the feature specification (what a "
        "model sees) into features.file, if there is no such file. The same options and seed give the same records.",
        examples=(
            "simulate",
            "simulate --impressions 5000 --users 500 --seed 1",
            "simulate --world deep --labelled 0.05",
        ),
        options=_simulate_options,
        run=_simulate,
    ),
)
