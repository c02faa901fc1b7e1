"""Verbs from a bundle to a champion: evaluate, export, publish, promote, rollback, versions.

They know nothing of how anything is measured or registered.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.commands.foreign import try_first
from recdistill.commands.learn import DRAIN, run_job
from recdistill.commands.ledger import ledger_of, there, warn_open
from recdistill.commands.verb import (
    MOST_OF_A_REASON,
    PLACES,
    Bar,
    Parser,
    Verb,
    between,
    newest_bundle,
    place,
    settings_of,
    show,
)
from recdistill.errors import DataError, RecdistillError, Refused, UsageError
from recdistill.given import read_bytes
from recdistill.text import cut, printable

if TYPE_CHECKING:
    from recdistill.bundle import Bundle
    from recdistill.config import Settings
    from recdistill.judge import Judgement
    from recdistill.registry import Evidence, Registry
    from recdistill.release import Pinned
    from recdistill.stream import Place


def _bundle_option(parser: Parser) -> None:
    parser.add_argument(
        "bundle",
        nargs="?",
        type=Path,
        metavar="BUNDLE",
        help="folder of a bundle, or a version of the registry: its number, champion, candidate or previous "
        "(default: the newest in distil.directory)",
    )


_WORDS = ("champion", "candidate", "previous", "canary")


def _bundle(args: argparse.Namespace, settings: Settings) -> Bundle:
    return _opened(args.bundle or newest_bundle(settings.distil.directory), settings)


def _opened(given: Path, settings: Settings) -> Bundle:
    """The bundle of a folder or, where no folder has this name, of a version in the registry."""
    from recdistill.bundle import open_bundle

    name = str(given)
    if given.exists() or not (name.isdecimal() or name.startswith("@") or name in _WORDS):
        return open_bundle(given)
    registry = _registry(settings)
    return registry.fetch(registry.resolve(name), Path(settings.registry.cache))


# evaluate


def _evaluate_options(parser: Parser) -> None:
    _bundle_option(parser)
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
    bundle, others = _bundle(args, settings), [_opened(path, settings) for path in args.beside]
    try_first(settings, bundle, *others)
    judgement = _judge(args, settings, bundle, beside=others, until=args.until, seed=args.seed)
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


def _judge(
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
    _bundle_option(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("device.onnx"), metavar="FILE", help="file to write (default: %(default)s)"
    )


def _export(args: argparse.Namespace) -> int:
    from recdistill.device import export_device

    settings = settings_of(args)
    figures = export_device(_bundle(args, settings), args.out)
    text = f"{args.out}: {figures['size']:,} bytes, {figures['items']:,} items, bundle {figures['content_hash'][:12]}"
    show(args, {**figures, "path": str(args.out)}, text)
    return 0


# The registry


def _registry(settings: Settings) -> Registry:
    from recdistill.registry import Registry

    return Registry(settings.registry.uri, settings.registry.name, timeout_s=settings.registry.timeout_s)


def _publish_options(parser: Parser) -> None:
    _bundle_option(parser)
    parser.add_argument(
        "--judgement",
        type=Path,
        metavar="FILE",
        help="what `recdistill evaluate --json` printed for this bundle, in a file (default: judge it now)",
    )
    parser.add_argument("--by", metavar="NAME", help="your name, for the ledger (default: the setting promote.by)")


def _publish(args: argparse.Namespace) -> int:
    from recdistill import release
    from recdistill.judge import Asked, gate
    from recdistill.loops import control as loop
    from recdistill.loops import opened

    settings = settings_of(args)
    try_it = opened.trial_of(settings)
    judgement = _read_judgement(args.judgement, settings) if args.judgement else None
    bundle, registry = _bundle(args, settings), _registry(settings)
    if judgement is None and try_it is not None:  # judging runs it in this process
        try_it(bundle)
    if judgement is None:
        with tempfile.TemporaryDirectory(prefix="recdistill-") as scratch:
            champion = release.take_champion(registry, Path(scratch), but=bundle.content_hash)
            controls = loop.controls_of(settings, try_it)
            control = None if controls is None else controls.newest(Path(scratch))
            pinned = release.take_pinned(registry, settings.gate.pinned, Path(scratch), but=bundle.content_hash)
            judgement = _judge(args, settings, bundle, champion=champion, control=control, pinned=pinned)
    asked, who = Asked.by(settings.gate), args.by or settings.promote.by
    with ledger_of(settings) as ledger:

        def judged(judgement: Judgement) -> Evidence:
            return gate(judgement, asked, release.tries_so_far(registry, ledger))

        version, evidence = release.publish(
            registry,
            ledger,
            bundle,
            judgement,
            judged(judgement),
            policy=release.policy_of(asked),
            who=who,
            try_it=try_it,
            gate=judged,
        )
        warn_open(ledger)
    verdict = "passed the gate" if evidence.passed else "did not pass the gate: " + "; ".join(evidence.reasons)
    show(
        args,
        {"version": version.number, "content_hash": version.content_hash, "passed": evidence.passed},
        f"version {version.number} is the candidate, {version.content_hash[:12]}; it {verdict}",
    )
    return 0


def _read_judgement(path: Path, settings: Settings) -> Judgement:
    from recdistill.judge import from_json
    from recdistill.ledger import detach
    from recdistill.loops import opened

    keys = opened.keys_of(settings)
    data = read_bytes(path, DataError, advice="give the judgement.json that `evaluate` wrote", most=64 << 20)
    try:
        note = detach("judgement", data, keys.verify)
        if keys.demanded and not (note and note.key):
            raise DataError("it has no signature of a trusted key, and one is demanded here; judge the bundle here")
        return from_json(data if note is None else note.payload)
    except DataError as e:
        raise DataError(f"{path}: {e}") from e


def _promote_options(parser: Parser) -> None:
    parser.add_argument(
        "version", nargs="?", metavar="VERSION", help="number of the version, or the word candidate: the newest one"
    )
    parser.add_argument("--why", metavar="TEXT", help="your reason, for the ledger; it must be given with VERSION")
    parser.add_argument("--by", metavar="NAME", help="your name, for the ledger (default: the setting promote.by)")
    parser.add_argument(
        "--loop",
        action="store_true",
        help="run the promoter: it judges and registers each new bundle, and promotes those that pass the gate",
    )
    parser.add_argument("--drain", action="store_true", help=f"with --loop: {DRAIN}")


def _promote(args: argparse.Namespace) -> int:
    if args.loop:
        if args.version or args.why:
            raise UsageError("promote --loop: takes no VERSION and no --why; the gate decides")
        return run_job("promoter", "judge", args)
    if args.drain:
        raise UsageError("promote --drain: is only for --loop")
    if not args.version:
        raise UsageError("promote: name a VERSION (see `recdistill versions`), or --loop for the promoter")
    if not (args.why or "").strip():
        raise UsageError("promote: --why TEXT is needed; the reason is written on the version")
    from recdistill import release
    from recdistill.judge import Asked

    settings = settings_of(args)
    registry = _registry(settings)
    number, expect = registry.resolve(args.version).number, _champion(registry)
    who, policy = args.by or settings.promote.by, release.policy_of(Asked.by(settings.gate))
    with ledger_of(settings) as ledger:
        done = release.promote(registry, ledger, number, expect=expect, who=who, why=args.why, policy=policy)
    _look_now(settings, who)
    show(
        args,
        {"version": done.after, "before": done.before, "content_hash": done.content_hash, "entry": done.n},
        f"version {done.after} is the champion, {_before(done.before)}",
    )
    return 0


def _look_now(settings: Settings, who: str) -> None:
    """Tells rankers to look at the registry now. Where no log answers, they look in their own time."""
    from recdistill.errors import StreamError
    from recdistill.loops import opened
    from recdistill.stream import say_look_now

    try:
        log = opened.log_if_there(settings.log)
        if log is not None:
            with closing(log):
                say_look_now(log, who)
    except StreamError as e:
        print(f"rankers look in their own time (rank.follow_s), because the log does not answer: {e}", file=sys.stderr)


def _champion(registry: Registry) -> str | None:
    from recdistill.registry import CHAMPION

    return registry.aliases().get(CHAMPION)


def _before(number: str | None) -> str:
    return "the first one" if number is None else f"before it was version {number}"


def _rollback_options(parser: Parser) -> None:
    parser.add_argument("--why", required=True, metavar="TEXT", help="your reason, for the ledger; it must be given")
    parser.add_argument(
        "--from",
        dest="leaves",
        metavar="VERSION",
        help="number of the champion that you want to leave. If another version is the champion now, nothing changes "
        "(default: whichever is the champion)",
    )
    parser.add_argument("--by", metavar="NAME", help="your name, for the ledger (default: the setting promote.by)")


def _rollback(args: argparse.Namespace) -> int:
    if not args.why.strip():
        raise UsageError("rollback: --why TEXT must not be empty; the reason is written on the version")
    from recdistill import release

    settings = settings_of(args)
    registry = _registry(settings)
    expect = _champion(registry) if args.leaves is None else args.leaves
    who, named = args.by or settings.promote.by, args.leaves is not None
    with ledger_of(settings) as ledger:
        done = release.rollback(registry, ledger, expect=expect, who=who, why=args.why, named=named)
    _look_now(settings, who)
    show(
        args,
        {"version": done.after, "before": done.before, "content_hash": done.content_hash, "entry": done.n},
        f"version {done.after} is the champion again, {_before(done.before)}",
    )
    if settings.promote.automatic and not args.quiet:
        print(
            "mind: a running promoter makes the next version that passes the gate the champion; to decide about it "
            "yourself, start the promoter again with promote.automatic = false",
            file=sys.stderr,
        )
    return 0


def _versions_options(parser: Parser) -> None:
    parser.add_argument(
        "-n",
        type=between(1),
        metavar="N",
        help=f"show the newest N (default: {_NEWEST}; with --json all of them)",
    )


_NEWEST = 20


def _versions(args: argparse.Namespace) -> int:
    import msgspec

    settings = settings_of(args)
    registry = _registry(settings)
    found, changes, absent = registry.versions(), [], ""
    try:
        there(settings)
        with ledger_of(settings) as ledger:
            changes = ledger.look().changes
    except RecdistillError as e:  # the versions are MLflow's
        absent = str(e)
    if args.json:
        found = found[: args.n]
    lines = []
    for version in found[: args.n or _NEWEST]:
        passed = {True: "passed", False: "failed", None: "not judged"}[version.passed]
        aliases = ", ".join(version.aliases)
        lines.append(f"{version.number:>4}  {version.content_hash[:12]}  {version.created_at}  {passed:10}  {aliases}")
        if version.reason:
            lines.append("      " + printable(cut(version.reason, MOST_OF_A_REASON), ""))
    if older := len(found) - (args.n or _NEWEST):
        lines += [f"and {older} older ones: -n {len(found)} shows all"] if older > 0 else []
    show(
        args,
        {"versions": msgspec.to_builtins(found), "ledger": msgspec.to_builtins(changes), "ledger_absent": absent},
        "\n".join(lines) or f"{settings.registry.name} has no version yet; `recdistill publish` makes one",
    )
    return 0


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
    Verb(
        name="publish",
        purpose="Judge a bundle and register it as the candidate, with figures, report and device file.",
        when="It does not change the champion: `recdistill promote` does. A bundle that is registered already keeps "
        "its version, and gets the new judgement. Settings: [judge], [gate], [registry].",
        examples=("publish", "publish bundles/step-2000 --judgement judgement.json"),
        options=_publish_options,
        run=_publish,
    ),
    Verb(
        name="promote",
        purpose="Make a version the champion, if it passed the gate. Or run the promoter, which does so by itself.",
        when="Rankers serve the new champion within seconds. The version must have been judged (`recdistill publish`). "
        "The ledger keeps who promoted it and why. With --loop, the promoter judges and registers each new bundle, and "
        "promotes those that pass the gate. Settings: [promote], [gate], [registry].",
        examples=('promote candidate --why "better on new users"', "promote 7 --why drill", "promote --loop --drain"),
        options=_promote_options,
        run=_promote,
    ),
    Verb(
        name="rollback",
        purpose="Make the previous champion the champion again.",
        when="Use it when the champion does harm. Nothing is judged again, because the previous champion has served "
        "before. Rankers serve it within seconds. The version that you leave is marked: no rollback goes to it later. "
        "With --from, nothing changes if somebody else was faster. Settings: [registry].",
        examples=('rollback --why "complaints about version 8"', "rollback --from 8 --why complaints"),
        options=_rollback_options,
        run=_rollback,
    ),
    Verb(
        name="versions",
        purpose="List the registered versions, newest first, with the verdict of the gate and its reasons.",
        when="Use it to see which version serves, and why. With --json it also prints the ledger: every change of the "
        "champion.",
        examples=("versions", "versions --json"),
        options=_versions_options,
        run=_versions,
    ),
)
