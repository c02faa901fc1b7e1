"""The verbs of whoever watches: status and checkpoints.

They know nothing of how a part is read: `recdistill.loops.standing` and `recdistill.checkpoint` do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from recdistill.commands.verb import Parser, Verb, between, one_of, settings_of, show, stopping
from recdistill.errors import CheckpointError, RecdistillError, UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.ledger import Change
    from recdistill.loops.standing import Standing
    from recdistill.registry import Registry, Version
    from recdistill.stream import Log, MadeBundle

T = TypeVar("T")

# status


def _status_options(parser: Parser) -> None:
    parser.add_argument(
        "--serve", action="store_true", help="show it as a page in the browser, until Ctrl-C (default: print it)"
    )
    parser.add_argument(
        "--port", type=between(0, 65_535), metavar="N", help="with --serve: port of the page (default: a free port)"
    )


def _status(args: argparse.Namespace) -> int:
    from recdistill.loops import standing

    if args.port is not None and not args.serve:
        raise UsageError("--port goes with --serve")
    settings = settings_of(args)
    if args.serve:
        return _serve(args, settings)
    found = standing_of(settings)
    show(args, standing.plain(found), "\n".join(standing.lines(found)))
    return 0


def _serve(args: argparse.Namespace, settings: Settings) -> int:
    from recdistill.demo import Page
    from recdistill.loops import standing

    page = Page(args.port or 0, name="status")
    try:
        page.show(standing.plain(standing_of(settings)))
        show(args, {"url": page.url}, f"the page is at {page.url} until Ctrl-C")
        with stopping() as stop:
            while not stop.wait(settings.status.every_s):
                page.show(standing.plain(standing_of(settings)))
    finally:
        page.close()
    return 0


def standing_of(settings: Settings) -> Standing:
    """Where everything stands. A part that is down is one sentence of it."""
    from recdistill.loops import standing

    absent: list[str] = []
    log = _tried(absent, lambda: _log(settings))
    student = _tried(absent, lambda: _student(settings))
    students = {student.name: student.lanes} if student and student.lanes else {}
    made: list[MadeBundle] = []
    backlog, held = [], ""
    try:
        if log is not None:
            there = log
            backlog = _tried(absent, lambda: standing.backlogs(there, students)) or []
            made = _tried(absent, lambda: standing.announced(there)) or []
            held = _tried(absent, lambda: _held(settings, there)) or ""
        processes = standing.asked(settings.status.processes, settings.status.timeout_s)
        versions, ledger, releases = _released(settings, absent, log, made, held)
        hops = _tried(absent, lambda: standing.hops_of(log, made, versions, ledger, [one.hops for one in processes]))
    finally:
        if log is not None:
            log.close()
    distil = settings.distil
    age_s = (time.time_ns() // 1000 - student.bundle_us) / 1e6 if student and student.bundle_us else None
    return standing.Standing(
        now_us=time.time_ns() // 1000,
        log=settings.log.path if settings.log.kind == "embedded" else f"Kafka at {settings.log.brokers}",
        backlog=backlog,
        hops=hops or [],
        student=student,
        next_exports=standing.next_exports(
            steps=distil.export_every,
            examples=distil.export_every_examples,
            seconds=distil.export_every_s,
            drift=distil.export_on_drift,
            step=(student.step if student else None) or 0,
            learnt=student.examples if student else 0,
            age_s=age_s,
        ),
        releases=releases,
        processes=processes,
        absent=absent,
    )


def _tried(absent: list[str], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except RecdistillError as e:
        if str(e) not in absent:
            absent.append(str(e))
    except ModuleNotFoundError as e:
        from recdistill.commands.doctor import how_to_get

        package = (e.name or "").split(".")[0]
        absent.append(f"this needs {package}, which is not installed; {how_to_get(package) or 'install it'}")
    return None


def _log(settings: Settings) -> Log:
    from recdistill.errors import StreamError
    from recdistill.stream import open_log

    log = settings.log
    if log.kind == "embedded" and not Path(log.path).exists():  # opening it would make it
        raise StreamError(f"there is no log yet at {log.path}; make it with `recdistill topics create`")
    opened = open_log(log)
    if not opened.topics():
        opened.close()
        raise StreamError("the log has no topics yet; make them with `recdistill topics create`")
    return opened


def _held(settings: Settings, log: Log) -> str:
    from recdistill.loops import standing, teach
    from recdistill.teachers import TAUGHT

    teacher = settings.teacher
    after_us = teach.taught_us(Path(teacher.path)) if teacher.kind in TAUGHT else None
    return standing.held_out(log, settings.gate.min_lists, settings.judge.lists, after_us=after_us)


def _released(
    settings: Settings, absent: list[str], log: Log | None, made: list[MadeBundle], held: str
) -> tuple[list[Version], list[Change], Any]:
    from recdistill.loops import standing

    registry = _tried(absent, lambda: _registry(settings))
    if registry is None:
        return [], [], None
    versions = _tried(absent, registry.versions)
    if versions is None:
        return [], [], None
    ledger = [] if log is None else _tried(absent, lambda: _changes(settings, log)) or []
    releases = _tried(absent, lambda: standing.releases(registry, versions, ledger, made=made, held=held))
    return versions, ledger, releases


def _changes(settings: Settings, log: Log) -> list[Change]:
    from recdistill.loops import opened

    with closing(opened.open_ledger(settings, log)) as ledger:
        return ledger.look().changes


def _registry(settings: Settings) -> Registry:
    from recdistill.errors import RegistryError
    from recdistill.registry import Registry

    uri = settings.registry.uri
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise RegistryError(f"there is no registry yet at {uri}; the first bundle makes it")
    return Registry(uri, settings.registry.name, timeout_s=min(5.0, settings.registry.timeout_s))


def _student(settings: Settings) -> Any:
    from recdistill.loops import standing

    directory = Path(settings.distil.directory)
    if (found := standing.student_at(directory)) is None:
        raise CheckpointError(f"there is no student yet at {directory}; `recdistill distil` makes one")
    return found


# checkpoints


def _checkpoints_options(parser: Parser) -> None:
    parser.add_argument(
        "action",
        type=one_of("list", "verify", "prune"),
        metavar="list|verify|prune",
        help="list: show them. verify: read every byte of each one, and say which are damaged. prune: delete old ones; "
        "the newest one that is not damaged always stays",
    )
    parser.add_argument(
        "--keep", type=between(1), metavar="N", help="with prune: how many stay (default: the setting distil.keep)"
    )
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="folder of the student (default: the setting distil.directory)"
    )


def _checkpoints(args: argparse.Namespace) -> int:
    from recdistill import checkpoint

    settings = settings_of(args)
    if args.keep is not None and args.action != "prune":
        raise UsageError(f"--keep goes with `checkpoints prune`, not with `checkpoints {args.action}`")
    directory = args.directory or Path(settings.distil.directory)
    if not directory.is_dir():
        raise CheckpointError(f"there is no student yet at {directory}; `recdistill distil` makes one")
    if args.action == "prune":
        return _prune(args, directory, settings.distil.keep if args.keep is None else args.keep)
    rows: list[dict[str, Any]] = []
    for one in checkpoint.looked(directory / "checkpoints"):
        saved = datetime.fromtimestamp(one.saved_us / 1e6, UTC).isoformat(timespec="seconds")
        row = {"path": str(one.path), "step": one.step, "bytes": one.size, "saved_at": saved}
        if args.action == "verify":
            try:
                checkpoint.load(one.path)
                row |= {"whole": True, "problem": ""}
            except CheckpointError as e:
                row |= {"whole": False, "problem": str(e)}
        rows.append(row)
    text = [_row(row) for row in rows] or [f"{directory}: no checkpoint yet"]
    show(args, {"checkpoints": rows}, "\n".join(text))
    # A program that asks for a verdict gets one: none that is whole means that nothing can go on from here.
    broken = args.action == "verify" and not all(row["whole"] for row in rows)
    return CheckpointError.exit_code if broken else 0


def _row(row: dict[str, Any]) -> str:
    text = f"step {row['step']:>9,}  {row['bytes']:>14,} bytes  {row['saved_at']}"
    return text if "whole" not in row else f"{text}  {'whole' if row['whole'] else row['problem']}"


def _prune(args: argparse.Namespace, directory: Path, keep: int) -> int:
    from recdistill import checkpoint
    from recdistill.loops.distil import StudentFolder

    # A distiller that works there prunes by itself; two at once would delete what the other needs.
    with closing(StudentFolder(directory, keep=keep)) as folder:
        gone = checkpoint.prune(folder.checkpoints, keep, check=folder.check)
    left = [str(one.path) for one in checkpoint.looked(directory / "checkpoints")]
    text = [f"deleted {path}" for path in gone] or ["nothing was deleted"]
    show(args, {"deleted": [str(path) for path in gone], "left": left}, "\n".join([*text, f"{len(left)} are left"]))
    return 0


VERBS = (
    Verb(
        name="status",
        purpose="Show on one page how everything does: work that waits, age of data, student, versions, processes.",
        when="It says how much each stage still has to read, and how old a list is when it is scored, learnt and "
        "served. It says when the next bundle is due, what is judged next, and why the last candidate was refused. It "
        "changes nothing. If a part does not answer, one sentence says so, and the other parts are shown. Settings: "
        "[status].",
        examples=("status", "status --json", "status --serve --port 8090"),
        options=_status_options,
        run=_status,
    ),
    Verb(
        name="checkpoints",
        purpose="List the checkpoints of a student (saved states of its training), check them, or delete old ones.",
        when="The distiller deletes old checkpoints by itself (distil.keep). Use this before you copy or move a "
        "student, after trouble with a disk, or to make room on the disk. The exit code of `verify` is 6 if one is "
        "damaged. `prune` is refused while a distiller works there.",
        examples=("checkpoints list", "checkpoints verify --json", "checkpoints prune --keep 1"),
        options=_checkpoints_options,
        run=_checkpoints,
    ),
)
