"""Verbs that run the loops from the stream to the student: teach, score, probe, join, distil.

They know nothing of what the loops do. `recdistill.loops.wire` opens what each loop needs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.commands.features import specification
from recdistill.commands.verb import (
    PLACES,
    Bar,
    Parser,
    Verb,
    counted,
    place,
    settings_of,
    share,
    show,
    stopping,
)
from recdistill.errors import TeacherError, UsageError

if TYPE_CHECKING:
    from recdistill.stream import Place

DRAIN = "process what the log holds now, then stop (default: also process what comes later, until Ctrl-C)"


UNTOLD = ("known", "unknown", "prequential_lists", "prequential_labelled")
"""Counts that only programs are given: where they say something to a person, a sentence does."""


def drain_options(parser: Parser) -> None:
    """Adds what each loop takes that reads from a place in the log."""
    parser.add_argument("--drain", action="store_true", help=DRAIN)
    _from(parser, "begin there; it is remembered at once (default: where it stopped)")


def _from(parser: Parser, what: str) -> None:
    parser.add_argument(
        "--from",
        dest="begin",
        type=_place,
        metavar="PLACE",
        help=f"beginning, latest, a time (2026-01-31T12:00Z) or a position (1200, rankings/0:7,feedback/0:9); {what}",
    )


def _place(text: str) -> Place:
    from recdistill.stream import read_place

    try:
        return read_place(text, words=True)
    except UsageError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def _nothing_more(_: Counter[str]) -> list[str]:
    return []


def run_job(
    name: str,
    title: str,
    args: argparse.Namespace,
    sentence: str = "",
    say: Callable[[Counter[str]], list[str]] = _nothing_more,
    **more: Any,
) -> int:
    """Runs a loop in the terminal and prints what it did, also when it was stopped early.

    Args:
        name: Key of `recdistill.loops.wire.JOBS`.
        title: Title of the progress bar.
        args: The arguments of the call, with `drain`, and `begin` where the loop reads from a place.
        sentence: What to say behind the counts, if the job ran to its end.
        say: Gives more lines to say there, from the counts.
        more: What this loop alone takes.
    """
    from recdistill.commands import nothing
    from recdistill.loops import wire

    settings = settings_of(args)
    with stopping() as stop, Bar(title, args) as bar:
        if name in wire.STAGES:
            counts = wire.STAGES[name](settings, stop, args.drain, Counter(), bar, begin=args.begin, **more)
        else:
            counts = wire.JOBS[name](settings, stop, args.drain, Counter(), bar)
        stopped = stop.is_set()
    drained = bool(args.drain or more.get("until"))
    told = counted({name: value for name, value in counts.items() if name not in UNTOLD}, "nothing to do")
    told += " (stopped)" if stopped and drained else ""
    result: dict[str, Any] = {**counts, "stopped": stopped}
    if sentence and not stopped:
        told, result = f"{told}\n{sentence}", {**result, "part": sentence}
    show(args, result, "\n".join([told, *say(counts)]))
    if drained and not stopped:
        nothing.check(name, settings, counts)
    return 0


def _score_options(parser: Parser) -> None:
    drain_options(parser)
    parser.add_argument(
        "--teacher-budget",
        type=share,
        metavar="SHARE",
        help="share of the candidates that the teacher scores; they are chosen to teach most (default: score.budget)",
    )


def _score(args: argparse.Namespace) -> int:
    if args.teacher_budget is not None:
        args.changes.append(f"score.budget={args.teacher_budget!r}")
    return run_job("scorer", "score", args)


def _probe(args: argparse.Namespace) -> int:
    return run_job("prober", "probe", args)


def _join_options(parser: Parser) -> None:
    drain_options(parser)
    parser.add_argument(
        "--flush",
        action="store_true",
        help="as --drain, and at the end close every list that is open; for a log that gets no more records",
    )


def _join(args: argparse.Namespace) -> int:
    args.drain = args.drain or args.flush
    return run_job("joiner", "join", args, say=_of_joiner, flush=args.flush)


def _of_joiner(counts: Counter[str]) -> list[str]:
    lines = []
    if opened := counts["open"]:
        lines.append(
            f"{opened:,} lists are open: their windows are not over yet; if no more records come, "
            "`recdistill join --flush` closes them"
        )
    if ahead := counts["ahead"]:
        lines.append(
            f"{ahead:,} records are too far ahead in time and went to the dead letters (join.max_ahead_s); "
            "`recdistill inspect dead-letters` shows them"
        )
    return lines


def _distil_options(parser: Parser) -> None:
    drain_options(parser)
    parser.add_argument(
        "--until",
        type=place,
        metavar="TIME|POSITION",
        help=f"learn only what comes before this place of the examples, then stop: {PLACES}; the rest is left to judge "
        "on. A time is that of the lists",
    )
    parser.add_argument(
        "--warm-start",
        type=Path,
        metavar="PATH",
        help="begin a new student with the weights of an older one: a bundle, a checkpoint, or its distil.directory "
        "(default: begin with fresh weights, or go on with the student of distil.directory)",
    )
    parser.add_argument(
        "--control",
        action="store_true",
        help="make the control instead: the same student, taught by labels alone. It is judged beside every candidate, "
        "and never becomes one (default: distil.control)",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="make the student anew first: fresh weights learn again what it has learnt, from --from on (default: all "
        "that the log still holds of it). Where a distiller works already, it does so, and this call ends at once",
    )


def _distil(args: argparse.Namespace) -> int:
    if args.control:
        args.changes.append("distil.control=true")
    specification(settings_of(args))  # writes it, where there is none yet
    if args.rebuild and _asked_of_another(args):
        return 0
    if args.until is None:
        return run_job("distiller", "distil", args, warm=args.warm_start)
    from recdistill.loops import until
    from recdistill.stream import open_log

    with closing(open_log(settings_of(args).log)) as log:
        part = until.learnt_part(log, args.until)
    return run_job("distiller", "distil", args, part.sentence, warm=args.warm_start, until=part.position)


def _asked_of_another(args: argparse.Namespace) -> bool:
    """Leaves the request for a student made anew. Returns whether a distiller that works already will take it."""
    from recdistill.errors import CheckpointError
    from recdistill.loops.distil import ask
    from recdistill.loops.standing import student_at
    from recdistill.stream import TopicPartition, open_log, place_at, read_place

    settings = settings_of(args)
    directory = Path(settings.distil.directory)
    student = student_at(directory)
    if student is None or student.step is None:
        raise CheckpointError(f"{directory}: there is no student yet that could be made anew; leave --rebuild out")
    place = args.begin or read_place("beginning", words=True)
    if args.warm_start is not None or place.word == "latest":
        other = "--warm-start" if args.warm_start is not None else "--from latest"
        raise UsageError(f"--rebuild: does not go with {other}: a student that is made anew learns what the log holds")
    with closing(open_log(settings.log)) as log:
        place_at(log, [TopicPartition("examples", lane) for lane in range(log.topics().get("examples", 0))], place)
    ask(directory, place.text)
    args.begin = None
    since = "of what the log still holds" if place.word else f"of what came from {place.text} on"
    what = (
        f"the student in {directory} is made anew: fresh weights learn again, {since}, all that it has learnt; no "
        "bundle is made until then, so the newest one serves on; then the student goes on with the stream"
    )
    if student.works:
        show(args, {"asked": True, "owner": student.owner}, f"asked: with the next batch of {student.owner}, {what}")
        return True
    print(what, file=sys.stderr)
    return False


def _teach_options(parser: Parser) -> None:
    parser.add_argument("--kind", help="the teacher to train: builtin or linear (default: teacher.kind)")
    parser.add_argument(
        "--replace", action="store_true", help="replace a teacher that is there already (default: refuse)"
    )
    _from(parser, "learn only from what follows (default: beginning)")
    parser.add_argument(
        "--until",
        type=_time,
        metavar="TIME",
        help="learn only from lists before this time (2026-01-31T12:00Z, or @SECONDS since 1970), as `distil --until` "
        "does. The later ones are left to judge on",
    )


def _time(text: str) -> int:
    """A time, in microseconds."""
    time_us = _place(text).time_us
    if time_us is None:
        raise argparse.ArgumentTypeError(f"must be a time such as 2026-01-31T12:00Z, not {text[:100]!r}")
    return time_us


def _teach(args: argparse.Namespace) -> int:
    from recdistill.loops import teach, teachers
    from recdistill.stream import open_log
    from recdistill.teachers import TAUGHT
    from recdistill.teachers.builtin import Training
    from recdistill.teachers.linear import Blend

    settings = settings_of(args)
    place = Path(settings.teacher.path)
    kind = args.kind or settings.teacher.kind
    if kind not in TAUGHT:
        raise TeacherError(
            f"teacher.kind is {kind!r}: only {' and '.join(TAUGHT)} teachers are taught here; give --kind"
        )
    if place.exists() and not args.replace:
        raise TeacherError(f"{place}: holds a teacher already; add --replace, or set another teacher.path")
    if place.exists() and not (place / "teacher.json").is_file():
        raise TeacherError(f"{place}: does not hold a trained teacher, so --replace leaves it alone; set teacher.path")
    out = place.with_name(place.name + ".new")
    kept = place.with_name(place.name + ".training")
    shutil.rmtree(out, ignore_errors=True)
    spec = specification(settings) if kind == "builtin" else None
    join = settings.join
    timing = {"window_s": join.window_s, "max_ahead_s": join.max_ahead_s}
    try:
        with closing(open_log(settings.log)) as log, Bar("teach", args) as bar:
            if spec is not None:
                figures = teach.run(
                    log,
                    spec,
                    teachers.own(Training, settings.teacher_training),
                    out,
                    labels=join.labels,
                    begin=args.begin,
                    until_us=args.until,
                    keep=kept,
                    progress=bar,
                    **timing,
                )
            else:
                blend = teachers.own(Blend, settings.teacher.linear)
                figures = teach.run_linear(
                    log, blend, out, labels=join.labels, begin=args.begin, until_us=args.until, **timing
                )
        if place.exists():
            shutil.rmtree(place)
        out.rename(place)
        teach.note(place, figures["latest_list"])
        # The rows of the passes stay, for whoever wants to see how it learnt.
        if (rows := kept / "epochs.jsonl").is_file():
            rows.replace(place.with_name(place.name + ".epochs.jsonl"))
        shutil.rmtree(kept, ignore_errors=True)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    lines = [f"{name:16} {value}" for name, value in figures.items()]
    use = "" if kind == settings.teacher.kind else f"; score with it: --set teacher.kind={kind}"
    show(args, {**figures, "path": str(place)}, "\n".join([*lines, f"the teacher is in {place}{use}"]))
    return 0


VERBS = (
    Verb(
        name="teach",
        purpose="Train a teacher, built-in or linear, on the records of the log.",
        when="Use it if you do not have your own ranker yet. It reads items, impressions and feedback, from the "
        "beginning of the log to its present end, and writes the teacher's folder, teacher.path. The built-in teacher "
        "learns from labels ([teacher_training]). With teacher_training.kind = attention a training that was stopped "
        "goes on after its last whole pass, when the same command runs again on the same records. The linear one "
        "learns from histories and labels, in closed form ([teacher.linear]).",
        examples=(
            "teach",
            "teach --until 2026-01-31T12:00:00Z",
            "teach --set teacher_training.epochs=3 --replace",
            "teach --kind linear",
        ),
        options=_teach_options,
        run=_teach,
    ),
    Verb(
        name="score",
        purpose="Let the teacher score every candidate list: impressions -> rankings.",
        when="Let it run while your product writes its stream, or run it once with --drain. Each impression gets one "
        "ranking, even if the scorer is killed and started again. An impression that cannot be scored goes to "
        "dead-letters. Settings: [score], [teacher].",
        examples=(
            "score --drain",
            "score --teacher-budget 0.3",
            "score --set score.worker=1 --set score.workers=4",
            "score --from latest",
        ),
        options=_score_options,
        run=_score,
    ),
    Verb(
        name="probe",
        purpose="Let the teacher score the student's own top items too: impressions -> more impressions.",
        when="Use it where a champion serves, or will serve. The teacher then scores what the student would show, not "
        "only what the product showed. A share of the impressions is probed, each once. Settings: [probe], "
        "[registry].",
        examples=("probe", "probe --drain --set probe.share=0.2 --set probe.k=50"),
        options=drain_options,
        run=_probe,
    ),
    Verb(
        name="join",
        purpose="Join rankings with the feedback in their window: rankings + feedback -> examples.",
        when="An example is written when its window, join.window_s, is over in event time. So with --drain the newest "
        "lists stay open until later records come; --flush closes them too. A record whose time is too far ahead, "
        "join.max_ahead_s, goes to dead-letters. Settings: [join].",
        examples=("join --drain", "join --flush", "join --set join.window_s=600", "join --set join.labels.buy=3"),
        options=_join_options,
        run=_join,
    ),
    Verb(
        name="distil",
        purpose="Train the student on the teacher's rankings: examples -> checkpoints and bundles.",
        when="It continues from its newest checkpoint, and its result has the same bytes as a run that was never "
        "stopped. Bundles are in distil.directory/bundles. With --until the rest of the log is left for judging, also "
        "of other students: give each its own distil.directory. With --rebuild it makes the student anew first, also "
        "that of a distiller that works already. Settings: [student], [loss], [distil], [features].",
        examples=(
            "distil --drain",
            "distil --config shop.toml --set distil.passes=4 --drain",
            "distil --until 2026-01-31T12:00:00Z",
            "distil --control",
            "distil --warm-start old/student --set distil.directory=recdistill-data/new",
            "distil --rebuild --drain",
        ),
        options=_distil_options,
        run=_distil,
    ),
)
