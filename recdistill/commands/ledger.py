"""The verbs `ledger` and `keys`: who changed the champion and why, whether the ledger is whole, and who signs.

They know nothing of how entries are chained or signed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.commands.verb import MOST_OF_A_REASON, Parser, Verb, between, one_of, place, settings_of, show
from recdistill.errors import LedgerError, RecdistillError, StreamError, UsageError
from recdistill.text import cut, printable

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.ledger import Ledger, Link
    from recdistill.registry import Registry
    from recdistill.stream import Log

_ACTIONS = ("list", "verify", "import", "waive")


@contextmanager
def ledger_of(settings: Settings) -> Iterator[Ledger]:
    """The ledger of the settings' log, for the length of a block."""
    from recdistill.loops import opened
    from recdistill.stream import open_log

    with closing(open_log(settings.log)) as log, closing(opened.open_ledger(settings, log)) as ledger:
        yield ledger


def there(settings: Settings) -> None:
    """Makes sure that there is a log: opening an embedded one would make it.

    Raises:
        StreamError: There is none.
    """
    log = settings.log
    if log.kind == "embedded" and not Path(log.path).exists():
        raise StreamError(f"there is no log yet at {log.path}, and the ledger is in it; see `recdistill topics create`")


def warn_open(ledger: Ledger) -> None:
    """Says on stderr, in one sentence, what nobody protects."""
    if not ledger.keys.demanded:
        print(f"mind: {_UNSIGNED}", file=sys.stderr)


_UNSIGNED = (
    "nobody signs here, so who can write to the log or edit a judgement can change figures unseen; "
    "`recdistill keys make NAME` protects what follows"
)


# ledger


def _options(parser: Parser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        type=one_of(*_ACTIONS),
        default="list",
        metavar="list|verify|import|waive",
        help="list: show the newest entries. verify: check every entry; the exit code is 7 if one was changed, "
        "deleted, moved or forged. import: copy the ledger that an older recdistill kept in MLflow. waive: let a "
        "version become champion although it did not pass the gate, until a time (default: list)",
    )
    parser.add_argument(
        "version", nargs="?", metavar="VERSION", help="with list and waive: number of a version, or the word candidate"
    )
    parser.add_argument(
        "-n", type=between(1), default=20, metavar="N", help="with list: show the newest N (default: 20)"
    )
    parser.add_argument("--why", metavar="TEXT", help="with waive: your reason; it must be given")
    parser.add_argument(
        "--until",
        type=place,
        metavar="TIME",
        help="with waive: when the permission ends, such as 2026-12-01; it must be given",
    )
    parser.add_argument(
        "--by",
        metavar="NAME",
        help="with import and waive: your name, for the ledger (default: the setting promote.by)",
    )


def _ledger(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    if args.version and args.action not in ("list", "waive"):
        raise UsageError(f"ledger {args.action}: takes no VERSION")
    there(settings)
    if args.action == "list":
        return _list(args, settings)
    if args.action == "verify":
        return _verify(args, settings)
    if args.action == "import":
        return _import(args, settings)
    return _waive(args, settings)


def _list(args: argparse.Namespace, settings: Settings) -> int:
    import msgspec

    from recdistill.ledger import Ledger
    from recdistill.loops import opened
    from recdistill.stream import open_log

    links: list[Link] = []
    with closing(open_log(settings.log)) as log:
        ledger = Ledger(log, settings.registry.name, opened.keys_of(settings), heard=links.append)
        with closing(ledger):
            ledger.look()
    found = _about(links, args.version, _known(args.version, settings))[-args.n :]
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for link in found:
        name = ledger.keys.names.get(link.key, link.key)
        said = msgspec.to_builtins(link.entry) if link.entry else {}
        rows.append({"offset": link.offset, "signed_by": name, "trouble": link.trouble, **said})
        lines.append(_line(link, name))
    none = "the ledger has no entry yet"
    if args.version:
        none = f"the ledger has no entry about version {args.version}; `recdistill ledger` shows the newest of all"
    text = "\n".join(lines) or none
    show(args, {"entries": rows, "head": ledger.head()}, text)
    return 0


def _known(version: str | None, settings: Settings) -> tuple[str, str]:
    """Number and content of a version, from the registry; empty where it does not know them, or does not answer."""
    if version is None:
        return "", ""
    uri = settings.registry.uri
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():  # opening it would make it
        return "", ""
    try:
        from recdistill.registry import Registry

        found = Registry(uri, settings.registry.name, timeout_s=min(5.0, settings.registry.timeout_s)).find(version)
    except (RecdistillError, ModuleNotFoundError):  # the ledger can be read without it
        return "", ""
    return ("", "") if found is None else (found.number, found.content_hash)


def _about(links: list[Link], version: str | None, known: tuple[str, str]) -> list[Link]:
    """The entries about a version, by its number or its content: a judgement comes before there is a number."""
    if version is None:
        return links
    number, content = known
    version = number or version
    entries = [link.entry for link in links if link.entry]
    contents = {content} if content else set()
    contents |= {entry.content_hash for entry in entries if entry.version == version and entry.content_hash}
    return [
        link
        for link in links
        if link.entry and (version in (link.entry.version, link.entry.before) or link.entry.content_hash in contents)
    ]


def _line(link: Link, name: str) -> str:
    entry = link.entry
    if entry is None:
        return printable(f"     ?  offset {link.offset}: {link.trouble}")
    what = f"version {entry.version}" if entry.version else entry.content_hash[:12]
    what += f", before {entry.before}" if entry.before else ""
    signed = f", signed: {name}" if name else ""
    lines = [printable(f"{entry.n:6}  {entry.at}  {entry.kind:11}  {what:22}  {entry.who}{signed}")]
    if entry.why:
        lines.append("        " + printable(cut(entry.why, MOST_OF_A_REASON), ""))
    if link.trouble:
        lines.append(printable(f"        trouble: {link.trouble}"))
    return "\n".join(lines)


def _verify(args: argparse.Namespace, settings: Settings) -> int:
    import msgspec

    from recdistill.ledger import verify
    from recdistill.loops import opened
    from recdistill.stream import open_log

    with closing(open_log(settings.log)) as log, closing(opened.open_ledger(settings, log)) as ledger:
        registry = opened.open_registry(settings)
        found = verify(ledger, [*_beside_versions(registry), *_in_announcements(log)])
        differs = _differs(registry, ledger)
    text = [f"{found.entries:,} entries, {found.unsigned:,} of them without a signature, {found.heads:,} noted heads"]
    text += [f"wrong: {trouble}" for trouble in found.troubles]
    text += [f"differs: {differs}"] if differs else []
    text += [f"mind: {each}" for each in found.open]
    text += ["the ledger is whole"] if not found.troubles else []
    show(args, {**msgspec.to_builtins(found), "differs": differs}, "\n".join(text))
    if found.troubles:
        raise LedgerError(
            f"the ledger is not whole: {len(found.troubles)} things are wrong, the first: {found.troubles[0]}; find "
            "out who could write there. Work goes on: promote and rollback still do what they should"
        )
    return 0


def _beside_versions(registry: Registry) -> list[tuple[str, str]]:
    from recdistill.release import HEAD

    return [(f"version {number}", head) for number, head in sorted(registry.tags(HEAD).items())]


def _in_announcements(log: Log) -> list[tuple[str, str]]:
    from recdistill.loops import standing

    return [(f"the announcement of bundle {one.content_hash[:12]}", one.ledger) for one in standing.announced(log)]


def _differs(registry: Registry, ledger: Ledger) -> str:
    from recdistill.registry import CHAMPION

    champion, said = registry.aliases().get(CHAMPION), ledger.state.champion
    if champion == said:
        return ""
    is_now, was = (f"version {n}" if n else "none" for n in (champion, said))
    return f"the alias says {is_now}, the ledger says {was}; the promoter, or the next change, writes an entry about it"


def _import(args: argparse.Namespace, settings: Settings) -> int:
    from recdistill.loops import opened
    from recdistill.release import bring_over

    registry = opened.open_registry(settings)
    with ledger_of(settings) as ledger:
        brought, troubles = bring_over(registry, ledger, who=args.by or settings.promote.by)
    text = [f"{brought} steps were brought over"] if brought else ["there is nothing to bring over"]
    text += [f"not brought: {trouble}" for trouble in troubles]
    show(args, {"brought": brought, "troubles": troubles}, "\n".join(text))
    return 0


def _waive(args: argparse.Namespace, settings: Settings) -> int:
    if not args.version or not (args.why or "").strip() or args.until is None or args.until.time_us is None:
        raise UsageError("ledger waive: VERSION, --why TEXT and --until TIME are needed; a waiver has an end")
    from recdistill import release
    from recdistill.loops import opened

    until = dt.datetime.fromtimestamp(args.until.time_us / 1e6, dt.UTC).isoformat(timespec="milliseconds")
    if until <= dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"):
        raise UsageError(f"ledger waive: --until {until} is over already")
    registry = opened.open_registry(settings)
    number = registry.resolve(args.version).number
    who = args.by or settings.promote.by
    with ledger_of(settings) as ledger:
        warn_open(ledger)
        entry = release.waive(registry, ledger, number, until=until, who=who, why=args.why)
    if not registry.has_bundle(number):
        print(
            f"mind: the bundle of version {number} is not in the registry any more (registry.keep); "
            "`recdistill publish FOLDER` puts it back, if you still have it",
            file=sys.stderr,
        )
    text = f"version {number} may be promoted until {until} in spite of its verdict (entry {entry.n} of the ledger)"
    show(args, {"version": number, "until": until, "entry": entry.n}, text)
    return 0


# keys


def _keys_options(parser: Parser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        type=one_of("list", "make"),
        default="list",
        metavar="list|make",
        help="list: show which keys are trusted, and which key signs on this machine. make: make a new pair of keys "
        "(default: list)",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="with make: name of the new pair, such as judge or ada")


def _keys(args: argparse.Namespace) -> int:
    from recdistill.ledger import list_keys, make_key
    from recdistill.loops import opened

    settings = settings_of(args)
    folder = Path(settings.keys.directory)
    if args.action == "make":
        if not args.name:
            raise UsageError("keys make: give the pair a NAME, such as judge or ada")
        key = make_key(folder, args.name)
        text = (
            f"{key.path} signs here from now on; keep it secret. Copy {key.path.with_suffix('.pub').name} into "
            f"keys.directory of every machine that has to believe it. Key {key.id}"
        )
        show(args, {"id": key.id, "name": key.name, "path": str(key.path)}, text)
        return 0
    if args.name:
        raise UsageError("keys list: takes no NAME")
    keys, rows = opened.keys_of(settings), list_keys(folder) if folder.is_dir() else []
    lines = [f"{key.id}  {key.name:20}  trusted" + (", signs here" if key.id == keys.signs else "") for key in rows]
    if keys.signs and keys.signs not in keys.names:
        lines.append(f"{keys.signs}  signs here, but is not trusted here: its .pub is missing")
    if not rows:
        lines.append(_UNSIGNED)
    found = [{"id": key.id, "name": key.name, "signs": key.id == keys.signs} for key in rows]
    show(args, {"keys": found, "signs": keys.signs, "demanded": keys.demanded}, "\n".join(lines))
    return 0


VERBS = (
    Verb(
        name="ledger",
        purpose="Show who changed the champion and why, and check that nobody changed these entries.",
        when="The ledger is a topic of the log. It keeps every judgement, promotion, refusal, rollback and waiver (a "
        "permission to promote in spite of the gate), and what somebody changed by hand in the registry. Each entry "
        "holds the hash of the one before it. It is signed if there is a key (`recdistill keys`). So `verify` finds "
        "entries that were changed, deleted, moved or forged.",
        examples=(
            "ledger list 7",
            "ledger verify",
            "ledger import",
            'ledger waive 7 --why "the season begins tomorrow" --until 2026-12-01',
        ),
        options=_options,
        run=_ledger,
    ),
    Verb(
        name="keys",
        purpose="Make keys that sign judgements and the ledger, and list the keys that are trusted.",
        when="You need no keys: without them nothing is signed, and all else works. With a key, judgements and entries "
        "of the ledger are signed (Ed25519). Then a judgement or an entry counts only if a trusted key signed it. "
        "Settings: [keys].",
        examples=("keys make judge", "keys"),
        options=_keys_options,
        run=_keys,
    ),
)
