"""The verb `demo`, which runs the whole product."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from recdistill.commands.verb import Parser, Verb, between, one_of
from recdistill.errors import UsageError


def _demo_options(parser: Parser) -> None:
    parser.add_argument(
        "--dataset",
        type=one_of("simulated", "ml-100k"),
        default="simulated",
        metavar="NAME",
        help="which data: simulated (made by the demo) or ml-100k (MovieLens 100K, which you download) "
        "(default: %(default)s)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="with --dataset ml-100k: the folder of its files")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("recdistill-demo"),
        metavar="DIR",
        help="folder for everything that the demo makes (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=between(0, 2**31 - 1),
        default=0,
        metavar="N",
        help="where random numbers begin: another number gives other data (default: %(default)s)",
    )
    parser.add_argument(
        "--keep-serving", action="store_true", help="go on answering requests at the end, until Ctrl-C (default: stop)"
    )
    parser.add_argument(
        "--impressions",
        type=between(100),
        metavar="N",
        help="with simulated data: how many lists are shown (default: 30000)",
    )
    live = parser.add_argument_group(
        "live demo: real processes learn while lists come, and a page in the browser shows it"
    )
    live.add_argument("--live", action="store_true", help="run the live demo, until Ctrl-C")
    live.add_argument(
        "--seconds", type=between(20, 86_400), metavar="N", help="end after so many seconds (default: at Ctrl-C)"
    )
    live.add_argument("--port", type=between(0, 65_535), metavar="N", help="port of the page (default: a free port)")
    live.add_argument("--rate", type=between(1, 1000), metavar="N", help="how many lists come a second (default: 25)")
    live.add_argument(
        "--price",
        type=float,
        metavar="P",
        help="price of one hour of one processor, in money of any kind (default: the setting status.processor_hour)",
    )
    live.add_argument(
        "--kafka",
        metavar="HOST:PORT",
        help="use this Kafka broker, with new topics; `make kafka` starts a broker (default: the log is a file)",
    )
    live.add_argument(
        "--by-hand",
        action="store_true",
        help="disturb nothing by itself; the buttons of the page and --act still do (default: at fixed times a process "
        "is killed, a worse student is pushed, and the champion is rolled back)",
    )
    live.add_argument(
        "--act",
        type=one_of("kill", "worse", "back"),
        metavar="NAME",
        help="disturb the live demo that runs with --port N, as the buttons of its page do, and end. kill: kill the "
        "distiller. worse: push a worse student. back: roll back to the champion before",
    )


def _demo(args: argparse.Namespace) -> int:
    if args.act is not None:
        return _act(args)
    if args.live:
        return _live(args)
    for name in ("seconds", "port", "rate", "price", "kafka", "by_hand", "json"):
        if getattr(args, name) not in (None, False):
            raise UsageError(f"--{name.replace('_', '-')}: is only for --live")
    if args.data is not None and args.dataset == "simulated":
        raise UsageError("--data: is only for --dataset ml-100k; a simulated product needs no data")
    if args.impressions is not None and args.dataset != "simulated":
        raise UsageError(f"--impressions: is only for --dataset simulated; {args.dataset} has a fixed number")
    if args.data is None and args.dataset != "simulated":
        from recdistill.data import movielens

        raise UsageError(f"--dataset {args.dataset}: needs --data DIR; {movielens.HOW_TO_GET}")
    from recdistill.demo import Options, run

    run(
        Options(
            dataset=args.dataset,
            data=args.data,
            output=args.output,
            seed=args.seed,
            keep_serving=args.keep_serving,
            impressions=args.impressions,
        )
    )
    return 0


def _live(args: argparse.Namespace) -> int:
    for name in ("data", "impressions", "keep_serving"):
        if getattr(args, name) not in (None, False):
            raise UsageError(f"--{name.replace('_', '-')}: is not for --live")
    if args.dataset != "simulated":
        raise UsageError("--dataset: the live demo plays a simulated world; leave it out")
    if args.price is not None and not 0 <= args.price < math.inf:
        raise UsageError(f"--price {args.price:g}: must be a number from 0 on")
    from recdistill.demo import LiveOptions, run_live, tell_live

    names = ("seconds", "port", "rate", "price", "kafka")
    chosen = {name: value for name in names if (value := getattr(args, name)) is not None}
    summary = run_live(LiveOptions(output=args.output, seed=args.seed, by_hand=args.by_hand, **chosen))
    if args.json:
        print(json.dumps(summary, indent=2))
    else:
        tell_live(summary, args.output)
    return 0


def _act(args: argparse.Namespace) -> int:
    if not args.port:
        raise UsageError("--act: needs --port N, the port in the address of the demo's page")
    from recdistill.demo import ask_live

    ask_live(args.port, args.act)
    print(f"asked for it: {args.act}; the page at http://127.0.0.1:{args.port}/ says what happens")
    return 0


VERBS = (
    Verb(
        name="demo",
        purpose="Run all of it in this terminal, in a few minutes: data, teacher, student, gate, answers.",
        when="Run this first. It makes data, trains a teacher, and trains a student from the teacher. It judges the "
        "student, registers it, makes it the champion, and serves it. It sends real requests, also to the device file. "
        "The figures are in summary.json in the folder of --output. With --live, the real processes run while new "
        "lists come. A page then shows how good the student is, beside a copy that learns no more.",
        examples=(
            "demo",
            "demo --live --seconds 450 --port 8700",
            "demo --live --kafka 127.0.0.1:9092",
            "demo --act kill --port 8700",
            "demo --dataset ml-100k --data ~/ml-100k --keep-serving",
        ),
        options=_demo_options,
        run=_demo,
        settings=False,
    ),
)
