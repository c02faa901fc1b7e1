"""The verb `translate`: topics that a company already has -> impressions, feedback and items.

It knows nothing of how messages are read; `recdistill.data` does.
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

from recdistill.commands.checking import cells_of, grid
from recdistill.commands.learn import drain_options, run_job
from recdistill.commands.verb import Parser, Verb, between, one_of, settings_of, show
from recdistill.errors import DataError, UsageError
from recdistill.text import cut, printable

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.data.foreign import Translator
    from recdistill.stream import Log

_MOST_PROBLEMS = 5


def topic_options(parser: Parser) -> None:
    """Adds what names one topic of somebody else."""
    parser.add_argument(
        "--topic",
        metavar="TOPIC",
        help="translate only this topic (default: the topics of the settings [[translate.topics]])",
    )
    parser.add_argument(
        "--mapping",
        action="append",
        default=[],
        metavar="FILE",
        help="with --topic: file that says which field is which. May be given several times",
    )
    parser.add_argument(
        "--format",
        type=one_of("json", "avro", "protobuf"),
        default="json",
        metavar="FORM",
        help="with --topic: the form of its messages: json, avro or protobuf (default: %(default)s)",
    )


def _options(parser: Parser) -> None:
    drain_options(parser)
    topic_options(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing. Show the first messages as they are understood, and those that cannot be understood",
    )
    parser.add_argument(
        "-n",
        type=between(1),
        default=10,
        metavar="N",
        help="with --check: how many messages of each topic (default: %(default)s)",
    )


def one_topic(args: argparse.Namespace) -> None:
    """Makes the topic that a call names the only one of its settings.

    Raises:
        UsageError: It has no mapping, or there is a mapping without a topic.
    """
    if args.topic is not None:
        if not args.mapping:
            raise UsageError("--topic: needs a mapping, a TOML file; write --mapping FILE")
        one = {"topic": args.topic, "mappings": args.mapping, "format": args.format}
        inside = ", ".join(f"{name} = {json.dumps(value)}" for name, value in one.items())
        args.changes.append(f"translate.topics=[{{{inside}}}]")
    elif args.mapping:
        raise UsageError("--mapping: goes with --topic; a topic of the settings names its own mappings")


def _translate(args: argparse.Namespace) -> int:
    one_topic(args)
    return _check(args, settings_of(args)) if args.check else run_job("translator", "translate", args)


def _check(args: argparse.Namespace, settings: Settings) -> int:
    from recdistill.loops import translators as parts
    from recdistill.stream import OUTSIDE, open_log

    translators = parts.translators_of(settings)
    if not translators:
        raise UsageError("there is no topic to look at; write a [[translate.topics]], or say --topic and --mapping")
    with closing(open_log(settings.log)) as log:
        found = {name.removeprefix(OUTSIDE): _looked(log, name, one, args.n) for name, one in translators.items()}
    lines = [line for topic, one in found.items() for line in (*_as_text(topic, one), "")]
    minds = _without_history(settings)
    show(args, {"topics": found, "minds": minds}, "\n".join([*lines, *minds, "nothing was written"]))
    return 0


def _without_history(settings: Settings) -> list[str]:
    """A sentence for each mapping of lists that leaves out what a student sees of a person."""
    from recdistill.data import mapping

    files = sorted({file for one in settings.translate.topics for file in one.mappings})
    mappings = {file: mapping.TableMapping.load(file) for file in files}
    return [
        f'mind: {file} says nowhere what the user did before (history = "..." under [columns]), and that is all that a '
        "student sees of a user"
        for file, one in mappings.items()
        if one.kind == "impressions" and "history" not in one.columns
    ]


def _looked(log: Log, name: str, translator: Translator, most: int) -> dict[str, Any]:
    """What the first messages of a topic mean."""
    from recdistill.data.foreign import Withdrawn
    from recdistill.loops import inspect, translate

    found: dict[str, Any] = {"messages": 0, "passed_over": 0, "records": {}, "problems": []}
    for message in inspect.look(log, name, most):
        found["messages"] += 1
        try:
            records = translator(translate.raw_of(message))
        except DataError as e:
            found["problems"].append(str(e))
            continue
        found["passed_over"] += not records
        for record in records:
            kind = "withdrawn" if isinstance(record, Withdrawn) else type(record).__name__.lower()
            cells = {"id": record.id} if isinstance(record, Withdrawn) else cells_of(record)
            found["records"].setdefault(kind, []).append(cells)
    return found


def _as_text(topic: str, found: dict[str, Any]) -> list[str]:
    if not found["messages"]:
        return [f"{topic}: holds no message yet"]
    understood = found["messages"] - len(found["problems"])
    lines = [f"{topic}: {understood} of the first {found['messages']} messages are understood"]
    if passed := found["passed_over"]:
        lines.append(f"  {passed} of them are passed over: no mapping means them")
    for kind, rows in found["records"].items():
        lines += [f"  {len(rows)} {kind}", *grid(rows)]
    for problem in found["problems"][:_MOST_PROBLEMS]:
        lines.append(f"  not understood: {cut(printable(problem), 300)}")
    if (more := len(found["problems"]) - _MOST_PROBLEMS) > 0:
        lines.append(f"  and {more} more")
    return lines


VERBS = (
    Verb(
        name="translate",
        purpose="Read topics of your own, and write their messages as impressions, feedback and items.",
        when="Use it where your product writes its own messages, in JSON, Avro or protobuf. A mapping is a file that "
        "says which field is which, as for tables. Begin with --check. Each message is translated once, even if the "
        "translator is killed and started again. A message that cannot be understood goes to the topic dead-letters. "
        "Settings: [translate].",
        examples=(
            "translate --check --topic web.views --mapping views.map.toml",
            "translate --drain --topic web.views --mapping views.map.toml",
            "translate --config shop.toml",
            "translate --from latest",
        ),
        options=_options,
        run=_translate,
    ),
)
