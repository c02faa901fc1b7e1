"""Verbs that look at a bundle or make something of it: evaluate, export.

Other verbs take from here which bundle is meant, and its judgement. They know nothing of how anything is measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.commands.foreign import try_first
from recdistill.commands.ledger import ledger_of
from recdistill.commands.verb import PLACES, Bar, Parser, Verb, between, newest_bundle, place, settings_of, show
from recdistill.errors import Refused, UsageError

if TYPE_CHECKING:
    from recdistill.bundle import Bundle
    from recdistill.config import Settings
    from recdistill.judge import Judgement
    from recdistill.registry import Evidence, Registry
    from recdistill.release import Pinned
    from recdistill.stream import Place


def bundle_option(parser: Parser) -> None:
    """The argument that says which bundle."""
    parser.add_argument(
        "bundle",
        nargs="?",
        type=Path,
        metavar="BUNDLE",
        help="folder of a bundle, or a version of the registry: its number, champion, candidate or previous "
        "(default: the newest in distil.directory)",
    )


_WORDS = ("champion", "candidate", "previous", "canary")


def bundle_of(args: argparse.Namespace, settings: Settings) -> Bundle:
    """The bundle that the arguments name; the newest of the student where they name none.

    Raises:
        RecdistillError: There is none, it is damaged, or the registry does not have it.
    """
    return _opened(args.bundle or newest_bundle(settings.distil.directory), settings)


def _opened(given: Path, settings: Settings) -> Bundle:
    """The bundle of a folder or, where no folder has this name, of a version in the registry."""
    from recdistill.bundle import open_bundle

    name = str(given)
    if given.exists() or not (name.isdecimal() or name.startswith("@") or name in _WORDS):
        return open_bundle(given)
    registry = registry_of(settings)
    return registry.fetch(registry.resolve(name), Path(settings.registry.cache))


# evaluate


def _evaluate_options(parser: Parser) -> None:
    bundle_option(parser)
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write the report into this HTML file (default: no report)"
    )
    parser.add_argument(
        "--beside",
        type=Path,
        action="append",
        default=[],
        metavar="BUNDLE",
        help="also judge this bundle or version, on the same lists, and say how far the two are apart. Lists that one "
        "of the two has learnt are left out (default: only one bundle)",
    )
    parser.add_argument(
        "--until",
        type=place,
        metavar="TIME|POSITION",
        help=f"judge only on examples before this place: {PLACES} (default: to the end of the log)",
    )
    parser.add_argument(
        "--seed",
        type=between(0, 2**31 - 1),
        default=0,
        metavar="N",
        help="where the random numbers of the judge begin (default: %(default)s)",
    )
    parser.add_argument(
        "--gate", action="store_true", help="exit code 7 if the bundle does not pass the gate (default: exit code 0)"
    )


def _evaluate(args: argparse.Namespace) -> int:
    from recdistill.judge import Asked, gate, to_json, write_report
    from recdistill.release import history_of

    settings = settings_of(args)
    if args.report is not None and not args.report.absolute().parent.is_dir():
        raise UsageError(f"--report {args.report}: there is no folder {args.report.absolute().parent}")
    bundle, others = bundle_of(args, settings), [_opened(path, settings) for path in args.beside]
    try_first(settings, bundle, *others)
    judgement = judge(args, settings, bundle, beside=others, until=args.until, seed=args.seed)
    evidence = gate(judgement, Asked.by(settings.gate))
    if args.report is not None:
        with ledger_of(settings) as ledger:  # judging has opened its log
            past = history_of(ledger.look(), {}, (judgement, evidence))
        write_report(judgement, args.report, evidence, past=past)
    print(_signed(settings, to_json(judgement)).decode() if args.json else _table(judgement, evidence))
    if args.report is not None:
        print(f"the report is in {args.report}", file=sys.stderr)
    if args.gate and not evidence.passed:
        raise Refused(evidence.reasons)
    return 0


def _signed(settings: Settings, judgement: bytes) -> bytes:
    """A judgement with its digest and, where a key signs here, a signature."""
    from recdistill.ledger import attach
    from recdistill.loops import opened

    keys = opened.keys_of(settings)
    return attach("judgement", judgement, keys.sign if keys.signs else None)


def judge(
    args: argparse.Namespace,
    settings: Settings,
    bundle: Bundle,
    *,
    beside: Sequence[Bundle] = (),
    champion: Bundle | None = None,
    control: tuple[Bundle | None, str] | None = None,
    pinned: Pinned | None = None,
    until: Place | None = None,
    seed: int = 0,
) -> Judgement:
    """Judges a bundle as the settings say, with a bar.

    Args:
        args: Whether the bar is shown.
        settings: Which log, teacher and rules.
        bundle: The bundle.
        beside: Other bundles that are judged on the same lists.
        champion: The champion, where a registry was asked.
        control: The student without a teacher, and why there is none. None: looked for where `judge.control` says.
        pinned: The version that `gate.pinned` names.
        until: Only examples before this place. None: to the end of the log.
        seed: Where the random numbers of the judge begin.

    Raises:
        RecdistillError: The log, the teacher or a bundle cannot be read, or there is nothing to judge on.
    """
    from recdistill import release
    from recdistill.loops import control as loop
    from recdistill.loops import teach, teachers
    from recdistill.progress import folder_bytes
    from recdistill.stream import open_log
    from recdistill.teachers import TAUGHT

    if control is None:
        looked = settings.judge.control
        control = (
            release.in_folder(loop.directory(settings) / "bundles") if looked else (None, "judge.control is empty")
        )
    alone, no_control = control
    taught = settings.teacher.kind in TAUGHT
    teacher = None if settings.teacher.kind == "logged" else teachers.open_teacher(settings.teacher)
    with closing(open_log(settings.log)) as log, Bar("judge", args) as bar:
        return release.judge(
            log,
            bundle,
            settings.promote.held_out,
            teacher=teacher,
            teacher_bytes=folder_bytes(Path(settings.teacher.path)) if taught else 0,
            beside=beside,
            champion=champion,
            control=alone,
            no_control=no_control,
            pinned=pinned,
            until=until,
            which=settings.judge.lists,
            least=settings.gate.min_lists,
            learnt=settings.judge.learnt,
            ease=settings.judge.ease or "ease" in settings.gate.beats,
            protocol=settings.judge.protocol,
            fields=settings.judge.slices,
            teacher_scores=settings.judge.teacher_scores,
            taught_us=teach.taught_us(Path(settings.teacher.path)) if taught else None,
            cost_per_1000=settings.score.cost_per_1000,
            blocked=settings.gate.blocked,
            rules=[(rule.attribute, rule.value) for rule in settings.gate.rules],
            seed=seed,
            progress=bar,
        )


def _table(judgement: Judgement, evidence: Evidence) -> str:
    from recdistill.judge import STUDENT

    lines = [f"{judgement.lists:,} held-out lists, {judgement.catalogue:,} items, bundle {judgement.content_hash[:12]}"]
    if (part := judgement.part) is not None:
        lines.append(f"learnt: up to {part.learnt}")
        lines.append(f"judged: {part.begins} up to {part.ends}, lists of {part.first} to {part.last}")
        lines.append(f"lists: {part.what}, because {part.why}")
    way = {"catalogue": "each ranks the whole catalogue", "shown": "each orders what was shown"}[judgement.protocol]
    other = {"catalogue": "shown", "shown": "catalogue"}[judgement.protocol]
    lines.append(f"protocol: {way}, because {judgement.protocol_why} (the other way: judge.protocol = {other})")
    lines += [f"mind: {note}" for note in judgement.notes]
    shown = ("ndcg@10", "recall@10") if judgement.protocol == "catalogue" else ("ndcg@10", "mrr", "auc")
    lines += ["", f"{'':20}" + "".join(f"{name:>24}" for name in shown)]
    for quality in sorted(judgement.contenders, key=lambda quality: -quality.metrics[shown[0]].mean):
        figures = (quality.metrics[name] for name in shown)
        row = "".join(f"{f.mean:10.4f} [{f.low:.3f}, {f.high:.3f}]" for f in figures)
        lines.append(f"{quality.name:20}{row}")
    for one in judgement.differences:
        if one.a == STUDENT and one.b.startswith("beside ") and one.metric == shown[0]:
            by = one.interval
            lines.append(
                f"student less {one.b.removeprefix('beside ')}, on the same lists: {by.mean:+.4f} {one.metric} "
                f"(95% interval {by.low:+.4f} to {by.high:+.4f})"
            )
    if (served := judgement.served) is not None:
        lines += ["", f"{served.lists:,} served lists, {served.explored:,} with an item by a rare draw; labels a list:"]
        lines.append(f"{'as served':20}{served.value.mean:10.4f} [{served.value.low:.3f}, {served.value.high:.3f}]")
        for order in served.orders:
            told = order.why
            if (value := order.snips) is not None:
                told = f"{value.mean:10.4f} [{value.low:.3f}, {value.high:.3f}]  (SNIPS)"
            lines.append(f"{order.name:20}{told}")
    if (spent := judgement.spending) is not None:
        saved = [f"{spent.candidates - spent.scored:,} scores"]
        saved += [] if spent.seconds is None else [f"{spent.seconds:,.3g} s"]
        saved += [] if spent.cost is None else [f"{spent.cost:,.2f} of money"]
        lines += ["", f"the teacher scored {spent.share:.1%} of the candidates learnt from; spared: {', '.join(saved)}"]
    verdict = {"passed": "lets it through", "refused": "does not let it through"}
    lines += ["", f"the gate {verdict.get(evidence.verdict, 'has not enough evidence')}:"]
    lines += [f"  {reason}" for reason in evidence.reasons]
    if not evidence.passed:
        lines.append('what to do then: docs/promotion.md, "When the gate refuses"')
    return "\n".join(lines)


# export


def _export_options(parser: Parser) -> None:
    bundle_option(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("device.onnx"), metavar="FILE", help="file to write (default: %(default)s)"
    )


def _export(args: argparse.Namespace) -> int:
    from recdistill.device import export_device

    settings = settings_of(args)
    figures = export_device(bundle_of(args, settings), args.out)
    text = f"{args.out}: {figures['size']:,} bytes, {figures['items']:,} items, bundle {figures['content_hash'][:12]}"
    show(args, {**figures, "path": str(args.out)}, text)
    return 0


def registry_of(settings: Settings) -> Registry:
    """The registry of the settings."""
    from recdistill.registry import Registry

    return Registry(settings.registry.uri, settings.registry.name, timeout_s=settings.registry.timeout_s)


VERBS = (
    Verb(
        name="evaluate",
        purpose="Judge a bundle on lists that it did not learn, beside its teacher and simpler models.",
        when="It uses lists of users from whom no student learns (topic held-out). If there are too few, it uses "
        "examples that came after the student had stopped learning; `recdistill distil --until` leaves such examples. "
        "It says which lists it used. Each model orders all items of the catalogue, or only those that were shown: "
        "judge.protocol says which. It prints the figures with 95% intervals, and the verdict of the gate. Settings: "
        "[judge], [gate], [promote].",
        examples=(
            "evaluate --report report.html",
            "evaluate candidate --beside champion",
            "evaluate --beside trial/bundles/step-0000000200 --until 2026-01-31",
            "evaluate bundles/step-2000 --gate",
            "evaluate --json > judgement.json",
        ),
        options=_evaluate_options,
        run=_evaluate,
    ),
    Verb(
        name="export",
        purpose="Write the device file of a bundle: one ONNX file that answers on a phone or in a browser.",
        when="The device file takes ids of items and gives ids of items. It works wherever ONNX Runtime works. "
        "`recdistill recommend --device FILE` asks it.",
        examples=("export", "export champion --out shop.onnx"),
        options=_export_options,
        run=_export,
    ),
)
