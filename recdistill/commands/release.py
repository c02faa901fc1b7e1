"""Verbs from a judged bundle to a champion: publish, promote, rollback, versions.

They know nothing of how anything is measured or registered.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.commands.evaluate import bundle_of, bundle_option, judge, registry_of
from recdistill.commands.learn import DRAIN, run_job
from recdistill.commands.ledger import ledger_of, there, warn_open
from recdistill.commands.verb import MOST_OF_A_REASON, Parser, Verb, between, settings_of, show
from recdistill.errors import DataError, RecdistillError, UsageError
from recdistill.given import read_bytes
from recdistill.text import cut, printable

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.judge import Judgement
    from recdistill.registry import Evidence, Registry


def _publish_options(parser: Parser) -> None:
    bundle_option(parser)
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
    bundle, registry = bundle_of(args, settings), registry_of(settings)
    if judgement is None and try_it is not None:  # judging runs it in this process
        try_it(bundle)
    if judgement is None:
        with tempfile.TemporaryDirectory(prefix="recdistill-") as scratch:
            champion = release.take_champion(registry, Path(scratch), but=bundle.content_hash)
            controls = loop.controls_of(settings, try_it)
            control = None if controls is None else controls.newest(Path(scratch))
            pinned = release.take_pinned(registry, settings.gate.pinned, Path(scratch), but=bundle.content_hash)
            judgement = judge(args, settings, bundle, champion=champion, control=control, pinned=pinned)
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
    registry = registry_of(settings)
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
    registry = registry_of(settings)
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
    registry = registry_of(settings)
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
