"""Verbs that run the loops from the stream to the student: teach, score, probe, join, distil.

They know nothing of what the loops do. `recdistill.loops.wire` opens what each loop needs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing, nullcontext
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
    telling,
)
from recdistill.errors import TeacherError, UsageError

if TYPE_CHECKING:
    from recdistill.stream import Place

DRAIN = "do the work that the log has now, then stop (default: wait for more, until Ctrl-C)"


UNTOLD = ("known", "unknown", "prequential_lists", "prequential_labelled")
"""Counts that only programs are given: where they say something to a person, a sentence does."""


def drain_options(parser: Parser) -> None:
    """Adds what each loop takes that reads from a place in the log."""
    parser.add_argument("--drain", action="store_true", help=DRAIN)
    _from(parser, "The place is saved at once (default: where it stopped)")


def _from(parser: Parser, what: str) -> None:
    parser.add_argument(
        "--from",
        dest="begin",
        type=_place,
        metavar="PLACE",
        help=f"begin at this place of the log: beginning, latest, a time (2026-01-31T12:00Z) or a position "
        f"(rankings/0:7,feedback/0:9, or only 1200 where there is one partition). {what}",
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
    drained = bool(args.drain or more.get("until"))
    begins = "" if drained else f"{title}: works until Ctrl-C; `recdistill status` says how far it is"
    # A drained run tells what it did at its end. A promoter's counts do not tell why it refused.
    told_meanwhile = nullcontext() if drained and name != "promoter" else telling(args, begins)
    with told_meanwhile, stopping() as stop, Bar(title, args) as bar:
        if name in wire.STAGES:
            counts = wire.STAGES[name](settings, stop, args.drain, Counter(), bar, begin=args.begin, **more)
        else:
            counts = wire.JOBS[name](settings, stop, args.drain, Counter(), bar)
        stopped = stop.is_set()
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
        help="share of the items of all lists that the teacher scores, above 0 and up to 1. It chooses "
        "the items from which a student learns most (default: the setting score.budget)",
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
        help="as --drain, and then also write the examples whose window is not over. For a log that gets no more "
        "records (default: they wait)",
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
    if without := counts["unlabelled_action"]:
        lines.append(
            f"{without:,} records of feedback gave no label: their action has no weight in join.labels; "
            "`recdistill inspect feedback` shows which actions there are"
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
        help=f"learn only examples before this place, then stop: {PLACES}. A time is compared with the time when a "
        "list was shown. The later examples are for the judge (default: learn all)",
    )
    parser.add_argument(
        "--warm-start",
        type=Path,
        metavar="PATH",
        help="begin a new student with the weights of an older one. PATH is its bundle, its checkpoint, or its "
        "distil.directory (default: random weights, or go on with the student that is in distil.directory)",
    )
    parser.add_argument(
        "--control",
        action="store_true",
        help="train the control instead: the same kind of student, but without the teacher. The judge compares every "
        "candidate with it. It never becomes a candidate itself (default: the setting distil.control)",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="first make the student again: random weights learn again what it has learnt, from the place of --from "
        "on (without --from: all of it that the log still has). If a distiller works on this student already, that one "
        "does it, and this command ends at once (default: go on with the student)",
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
    parser.add_argument("--kind", help="which teacher to train: builtin or linear (default: the setting teacher.kind)")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="replace a teacher that exists already (default: change nothing, and say so)",
    )
    _from(parser, "Nothing before it is learnt (default: beginning)")
    parser.add_argument(
        "--until",
        type=_time,
        metavar="TIME",
        help="learn only from lists that were shown before this time (2026-01-31T12:00Z, or @SECONDS since 1970), as "
        "`distil --until` does. The later lists are for the judge (default: learn from all)",
    )


def _time(text: str) -> int:
    """A time, in microseconds."""
    time_us = _place(text).time_us
    if time_us is None:
        raise argparse.ArgumentTypeError(f"must be a time such as 2026-01-31T12:00Z, not {text[:100]!r}")
    return time_us


def _teach(args: argparse.Namespace) -> int:
    from recdistill.loops import teach, teachers
    from recdistill.stream import open_log, read_place
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
    former = place.parent / f"{place.name}.former"
    if former.exists() and not place.exists():  # a call that replaced it was killed between two steps
        former.rename(place)
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
        before_us, latest = teach.taught_us(place), figures["latest_list"]
        if before_us is None or (read_place(latest).time_us or 0) > before_us:
            teach.note(place, latest)  # a kill before the last note may say that it has seen too much, never too little
        shutil.rmtree(former, ignore_errors=True)
        if place.exists():
            place.rename(former)
        out.rename(place)
        shutil.rmtree(former, ignore_errors=True)
        teach.note(place, latest)
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
        purpose="Train a teacher on the records of the log, if you have no ranker of your own.",
        when="It reads the items, impressions and feedback that the log has now. It writes the teacher into the folder "
        "teacher.path. There are two kinds. The built-in teacher is a neural network that learns from labels: settings "
        "[teacher_training]. With teacher_training.kind = attention, a training that was stopped goes on after its "
        "last full pass: give the same command again, on the same records. The linear teacher learns from histories "
        "and labels, and needs no passes: settings [teacher.linear].",
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
        purpose="Let the teacher score the items of every list. Reads impressions, writes rankings.",
        when="Let it run while your product writes impressions, or run it once with --drain. Each impression gets one "
        "ranking, even if the scorer is killed and started again. An impression that cannot be scored goes to the "
        "topic dead-letters. Settings: [score], [teacher].",
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
        purpose="Let the teacher also score the items that the student would show. Reads and writes impressions.",
        when="Use it where a champion serves, or will serve. For a share of the impressions, the champion makes a list "
        "of its own best items. This list is written as a new impression, and the teacher scores it as the others. "
        "Each impression is used once. Settings: [probe], [registry].",
        examples=("probe", "probe --drain --set probe.share=0.2 --set probe.k=50"),
        options=drain_options,
        run=_probe,
    ),
    Verb(
        name="join",
        purpose="Put labels on rankings. Reads rankings and feedback, writes examples.",
        when="After a list was shown, its feedback is waited for: join.window_s seconds, the window. The time is that "
        "of the records, not of the clock. So with --drain, the newest lists wait until later records come. --flush "
        "writes them too. A record whose time is too far in the future (join.max_ahead_s seconds) goes to the topic "
        "dead-letters. Settings: [join].",
        examples=("join --drain", "join --flush", "join --set join.window_s=600", "join --set join.labels.buy=3"),
        options=_join_options,
        run=_join,
    ),
    Verb(
        name="distil",
        purpose="Train the student to order lists as the teacher does. Reads examples, writes bundles.",
        when="It goes on from its newest checkpoint. The result has the same bytes as that of a run that was never "
        "stopped. Bundles are in the folder distil.directory/bundles. Each student needs a distil.directory of its "
        "own. With --until, the rest of the log is kept for the judge. Settings: [student], [loss], [distil], "
        "[features].",
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
