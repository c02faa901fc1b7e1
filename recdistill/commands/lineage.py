"""Verbs that look back: lineage, what an answer was made of; replay, whether the same comes out again.

They know nothing of how a student learns.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.commands.verb import Bar, Parser, Verb, settings_of, show, stopping
from recdistill.errors import BundleError, DataError
from recdistill.text import printable

if TYPE_CHECKING:
    from recdistill.bundle import Bundle
    from recdistill.config import Settings
    from recdistill.registry import Version


def _what(parser: Parser) -> None:
    parser.add_argument(
        "what",
        metavar="WHAT",
        help="which bundle: the number of a version, a name such as champion or candidate, the beginning of a content "
        "hash, or the folder of a bundle. An answer over HTTP has version and hash in its headers recdistill-version "
        "and recdistill-bundle",
    )


def _found(what: str, settings: Settings, into: Path) -> tuple[Bundle, Version | None]:
    """The bundle that is meant, and its version where it has one.

    Raises:
        BundleError, RegistryError: There is none.
    """
    from recdistill.bundle import open_bundle
    from recdistill.loops import opened

    if Path(what).is_dir():
        return open_bundle(Path(what)), None
    registry = opened.open_registry(settings)
    versions = registry.versions()
    if re.fullmatch(r"[0-9a-f]{8,64}", what) and not what.isdecimal():
        meant = [one for one in versions if one.content_hash.startswith(what)]
        if not meant and len(what) == 64:
            return registry.take(what, into), None
        if len(meant) != 1:
            count = f"{len(meant)} versions begin" if meant else "no version begins"
            raise BundleError(
                f"{settings.registry.name}: {count} with {what!r}; give all 64 digits of the content hash"
            )
        what = meant[0].number
    ref = registry.resolve(what)
    version = next((one for one in versions if one.number == ref.number), None)
    return registry.fetch(ref, into), version


def _lineage(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    with tempfile.TemporaryDirectory(prefix="recdistill-") as scratch:
        bundle, version = _found(args.what, settings, Path(scratch))
        said = dict(bundle.manifest.provenance)
        content = bundle.manifest.content
    course = said.pop("course", {})
    runs = course.get("runs", []) if isinstance(course, dict) else course
    result: dict[str, Any] = {
        "bundle": bundle.content_hash,
        "version": None if version is None else version.number,
        "aliases": [] if version is None else version.aliases,
        "decision": "" if version is None else version.reason,
        "features": content.features_hash,
        "vocabulary": content.vocab_hash,
        "items": content.items,
        "base_position": content.base_position,
        "runs": runs,
        **said,
    }
    show(args, result, "" if args.json else _text(result))
    return 0


def _text(result: dict[str, Any]) -> str:
    """What a person reads. The provenance of a bundle is foreign text.

    Raises:
        BundleError: It has another form than the one that a distiller writes.
    """
    try:
        return "\n".join(map(printable, _lines(result)))
    except (AttributeError, TypeError, ValueError) as e:
        name = result["bundle"][:12]
        raise BundleError(
            f"bundle {name}: what its manifest says of where it comes from is not as recdistill writes it; --json "
            "shows all of it"
        ) from e


def _lines(result: dict[str, Any]) -> list[str]:
    """What a person reads."""
    positions = result.get("positions") or {}
    lanes = positions.get("lanes") or {}
    topics = ", ".join(f"{n}: {offset:,}" for n, offset in enumerate(lanes.get("offsets", [])))
    recipe = result.get("recipe") or {}
    teachers = result.get("teachers") or {}
    each = teachers.items() if isinstance(teachers, dict) else []
    aliases = f" ({', '.join(result['aliases'])})" if result["aliases"] else ""
    facts = {
        "bundle": result["bundle"],
        "version": f"{result['version']}{aliases}" if result["version"] else "it is no version",
        "decision": printable(str(result["decision"]))[:300],
        "made": f"{result.get('made_at', '?')}, at step {result.get('step', '?')}",
        "because of": str(result.get("trigger", "?")),
        "parent": str(result.get("parent", "") or "none"),
        "log": str((lanes.get("identity") or {}).get("cluster", "?")),
        "examples up to": f"{topics or '?'} ({result.get('examples', '?')} learnt)",
        "items up to": f"{positions.get('items', '?')} ({result['items']:,} live)",
        "teachers": ", ".join(f"{name} ({count:,} lists)" for name, count in each) or str(teachers or "?"),
        "features": result["features"],
        "vocabulary": result["vocabulary"],
        "code": f"{result.get('code', '?')}, commit {result.get('commit') or 'not noted'}",
        "run": str(result.get("run", "?")),
    }
    lines = [f"{name:16} {value}" for name, value in facts.items() if value]
    lines += [f"recipe.{name:9} {value}" for name, value in sorted(recipe.items())]
    for restart in result.get("restarts", []):
        lines.append(f"{'restart':16} {restart.get('how')} at step {restart.get('step')}: {restart.get('source', '')}")
    return lines


def _replay_options(parser: Parser) -> None:
    _what(parser)
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep the new student and its bundle in this folder, which must be new (default: delete them)",
    )


def _replay(args: argparse.Namespace) -> int:
    from recdistill.loops import opened, trainers
    from recdistill.loops.distil import replay

    settings = settings_of(args)
    if args.keep is not None and args.keep.exists():
        raise DataError(f"{args.keep}: is there already; --keep makes a new folder")
    with tempfile.TemporaryDirectory(prefix="recdistill-") as scratch, stopping() as stop:
        bundle, version = _found(args.what, settings, Path(scratch))
        log = opened.log_if_there(settings.log)
        if log is None:
            raise DataError(
                f"bundle {bundle.content_hash[:12]} cannot be made again, because its log is gone: {settings.log.path} "
                "is not there"
            )
        with closing(log), Bar("replay", args) as bar:
            found = replay(
                log,
                bundle,
                args.keep or Path(scratch) / "student",
                partial(trainers.made_of, bundle.spec),
                memory_mb=settings.distil.memory_mb,
                stop=stop if isinstance(stop, threading.Event) else threading.Event(),
                progress=bar,
            )
    name = f"version {version.number}" if version else f"bundle {found.bundle[:12]}"
    result = {"bundle": found.bundle, "replayed": found.replayed, "same": found.same, "steps": found.steps}
    if not found.same:
        notes = "; ".join(found.notes) or "settings, code and log are those of then, as far as anybody noted"
        raise DataError(
            f"{name}: another content came out of {found.steps:,} steps ({found.replayed[:12]}, not "
            f"{found.bundle[:12]}): {notes}; processors and versions of libraries may differ, too"
        )
    show(
        args,
        {**result, "notes": found.notes},
        f"{name}: the same content came out of {found.steps:,} steps, {found.bundle}",
    )
    return 0


VERBS = (
    Verb(
        name="lineage",
        purpose="Say where an answer comes from: which bundle, which records, teachers, recipe and code.",
        when="Each answer over HTTP has the headers recdistill-bundle and recdistill-version. Give the value of one of "
        "them. With --json it prints all that the bundle says about how it was made.",
        examples=("lineage 7", "lineage champion", "lineage 3fa94c1b02d7 --json"),
        options=_what,
        run=_lineage,
    ),
    Verb(
        name="replay",
        purpose="Train a bundle again from the log, and check that the result is the same.",
        when="It needs the log that the student learnt from, the same kind of processor, and the same versions of the "
        "libraries. It writes nothing to the log. If something that it needs is gone, such as deleted records, it says "
        "what. The exit code is 3 if the result is not the same.",
        examples=("replay 7", "replay champion --keep again"),
        options=_replay_options,
        run=_replay,
    ),
)
