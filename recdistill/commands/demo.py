"""The verb `demo`, which runs the whole product."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from recdistill.commands.verb import Parser, Verb, between, one_of
from recdistill.errors import UsageError


def _demo_options(parser: Parser) -> None:
    parser.add_argument(
        "--dataset",
        type=one_of("simulated", "ml-100k"),
        default="simulated",
        metavar="NAME",
        help="simulated or ml-100k (default: %(default)s)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of ml-100k")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("recdistill-demo"),
        metavar="DIR",
        help="folder for everything that it makes (default: %(default)s)",
    )
    parser.add_argument("--seed", type=between(0, 2**31 - 1), default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--keep-serving", action="store_true", help="keep serving at the end, until Ctrl-C")
    parser.add_argument(
        "--impressions",
        type=between(100),
        metavar="N",
        help="simulated only: how many lists (default: the simulator's own)",
    )
    live = parser.add_argument_group("live: real processes, a stream in the time of the clock, and a page")
    live.add_argument("--live", action="store_true", help="run the live demo until Ctrl-C")
    live.add_argument("--seconds", type=between(20, 86_400), metavar="N", help="end it by itself after so many seconds")
    live.add_argument("--port", type=between(0, 65_535), metavar="N", help="port of the page (default: a free one)")
    live.add_argument("--rate", type=between(1, 1000), metavar="N", help="lists a second (default: 40)")
    live.add_argument("--by-hand", action="store_true", help="kill, push and roll back nothing unless somebody asks")
    live.add_argument(
        "--act",
        type=one_of("kill", "worse", "back"),
        metavar="NAME",
        help="ask the demo that runs with --port N for an act, as the buttons of its page do: kill (the distiller), "
        "worse (push a worse student), back (roll back)",
    )


def _demo(args: argparse.Namespace) -> int:
    if args.act is not None:
        return _act(args)
    if args.live:
        return _live(args)
    for name in ("seconds", "port", "rate", "by_hand", "json"):
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
    from recdistill.demo import LiveOptions, run_live, tell_live

    chosen = {name: value for name in ("seconds", "port", "rate") if (value := getattr(args, name)) is not None}
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
        purpose="Run the whole product in this terminal, from a stream of impressions to answers, in a few minutes.",
        when="Run this first. It feeds an embedded log, trains a teacher, and distils a student. It judges, "
        "registers, promotes and serves the student. It sends real requests, also to the device file. "
        "OUTPUT/summary.json has the figures. With --live, the product's own processes run on a stream in the time of "
        "the clock, and a page draws how good the live student is, beside a frozen one.",
        examples=(
            "demo",
            "demo --live --seconds 300 --port 8700",
            "demo --act kill --port 8700",
            "demo --dataset ml-100k --data ~/ml-100k --keep-serving",
        ),
        options=_demo_options,
        run=_demo,
        settings=False,
    ),
)
