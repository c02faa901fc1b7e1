"""The verb `canary`: how the trial of a version on a share of the users stands.

It knows nothing of how users are compared.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.commands.ledger import there
from recdistill.commands.verb import Parser, Verb, settings_of, show
from recdistill.errors import UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings

_SAYS = {"promote": "it is to be promoted", "withdraw": "it is to be withdrawn", "wait": "it goes on"}


def _options(parser: Parser) -> None:
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write its page into this HTML file (default: no page)"
    )


def _canary(args: argparse.Namespace) -> int:
    import msgspec

    from recdistill.judge import write_canary_page
    from recdistill.loops import canary, opened, wire
    from recdistill.stream import open_log

    settings = settings_of(args)
    if args.report is not None and not args.report.absolute().parent.is_dir():
        raise UsageError(f"--report {args.report}: there is no folder {args.report.absolute().parent}")
    plan = wire.canary_of(settings)
    registry = opened.open_registry(settings)
    there(settings)
    with closing(open_log(settings.log)) as log:
        found = None if plan is None else canary.watch_of(log, registry, plan)
        if found is None:
            return _none(args, settings)
        watch, number = found
        with closing(watch):
            watch.look()
            told = watch.trial.told()
            if args.report is not None:
                write_canary_page(told, watch.of(number), args.report)
    lines = [f"version {number} is the canary for {told.share:.2%} of the users; {_SAYS[told.say]}"]
    sentences = [reason.sentence for reason in told.reasons]
    lines += [f"  {sentence}" for sentence in sentences]
    data = {"version": number, "canary": watch.canary, **msgspec.to_builtins(told), "reasons": sentences}
    show(args, data, "\n".join(lines))
    if args.report is not None:
        print(f"its page is in {args.report}", file=sys.stderr)
    return 0


def _none(args: argparse.Namespace, settings: Settings) -> int:
    why = "the next version that passes the gate becomes one"
    if not settings.canary.share:
        why = "canary.share is 0, so versions are promoted without one"
    if args.report is not None:
        raise UsageError(f"--report {args.report}: there is no canary now; {why}")
    show(args, {"version": None}, f"there is no canary now; {why}")
    return 0


VERBS = (
    Verb(
        name="canary",
        purpose="Show how well the canary does: a version that answers only a share of the users.",
        when="If canary.share is above 0, a version that passed the gate is first the canary. This compares what its "
        "users did with what the users of the champion did, and says what to do. It changes nothing: the promoter ends "
        "the trial. Settings: [canary], [registry].",
        examples=("canary", "canary --report canary.html"),
        options=_options,
        run=_canary,
    ),
)
