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
from recdistill.commands.verb import Parser, Verb, between, one_of, settings_of, show

if TYPE_CHECKING:
    from recdistill.stream import Log


# topics


def _topics_options(parser: Parser) -> None:
    parser.add_argument(
        "action",
        type=one_of("create", "list"),
        metavar="create|list",
        help="create: make the missing topics. list: show the topics with their records",
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
        rows = _ends(log)
    text = [f"{row['topic']:14} {row['partitions']:3} partitions  {row['end']:12,} offsets" for row in rows]
    show(args, {"topics": rows}, "\n".join(text) or "there are no topics; make them with `recdistill topics create`")
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
    parser.add_argument("--again", action="store_true", help=AGAIN)


def _simulate(args: argparse.Namespace) -> int:
    from recdistill.data.simulated import SimulatorSettings, simulate

    settings = settings_of(args)
    given = {name: getattr(args, name) for name in ("impressions", "items", "users", "days")}
    chosen = SimulatorSettings(**{name: value for name, value in given.items() if value is not None})
    return feed_dataset(args, settings, lambda: simulate(chosen, seed=args.seed)[0])


VERBS = (
    Verb(
        name="topics",
        purpose="Make the topics of a log, or list them.",
        when="Run it once, before anything else is written. The number of partitions and lanes ([topics]) cannot "
        "change later. Topics that exist are not changed. One with another number of partitions is an error.",
        examples=("topics create", "topics create --set topics.lanes=4", "topics list --json"),
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
)
