"""Verbs that answer: serve over HTTP."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from recdistill.commands.verb import Parser, Verb, counted, settings_of, show, stopping


def _serve_options(parser: Parser) -> None:
    del parser


def _serve(args: argparse.Namespace) -> int:
    from recdistill.loops.wire import JOBS

    settings = settings_of(args)
    with stopping() as stop:
        if not args.quiet:
            print(f"serving at http://{settings.rank.host}:{settings.rank.port} until Ctrl-C", file=sys.stderr)
        counts = JOBS["ranker"](settings, stop, False, Counter(), None)
    show(args, counts, counted(counts, "nothing was asked"))
    return 0


VERBS = (
    Verb(
        "serve",
        "Serve the champion over HTTP and follow it: POST /v1/recommend, /v1/rank, /v1/similar.",
        "It is ready (/readyz) once there is a champion, switches to a new one without a pause, and reads changes of "
        "items live. Settings: [rank], [registry], [log]. It never loads torch.",
        ("serve", "serve --set rank.port=9000"),
        _serve_options,
        _serve,
    ),
)
