"""The verb `forget`, which removes a person.

It knows nothing of how they are found: `recdistill.loops.forget` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.commands.verb import Parser, Verb, settings_of, show
from recdistill.errors import CheckpointError, StreamError, UsageError
from recdistill.limits import MAX_TIME_US

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.loops.forget import Forgotten


def _options(parser: Parser) -> None:
    parser.add_argument("--user", required=True, metavar="ID", help="id of the person: the field `user` of impressions")
    parser.add_argument(
        "--dry-run", action="store_true", help="delete nothing; only say where records of the person are"
    )
    parser.add_argument(
        "--delete-older",
        action="store_true",
        help="on Kafka: delete all records up to the newest one of this person, also those of other people. Records "
        "that a stage still needs stay (default: Kafka deletes them by itself when they are old)",
    )
    parser.add_argument(
        "--student",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder of a student, whose checkpoints are searched too. May be given several times (default: the "
        "setting distil.directory)",
    )


def _forget(args: argparse.Namespace) -> int:
    import msgspec

    from recdistill.loops import forget
    from recdistill.stream import open_log

    settings = settings_of(args)
    if not args.user:
        raise UsageError("--user: must name somebody")
    if settings.log.kind == "embedded" and not Path(settings.log.path).exists():
        raise StreamError(f"there is no log at {settings.log.path}, so nobody is in it")
    if args.delete_older and settings.log.kind == "embedded":
        raise UsageError("--delete-older: is for Kafka; the embedded log removes the person's records alone")
    folders: dict[str, Any] = {"snapshots": 0, "checkpoints": [], "problems": []}

    def first(ids: frozenset[str]) -> None:
        if settings.join.directory:
            folders["snapshots"] = forget.clean_window(Path(settings.join.directory), ids)
        for student in args.student or [Path(settings.distil.directory)]:
            try:
                folders["checkpoints"] += map(str, forget.clean_checkpoints(student, ids))
            except CheckpointError as e:
                folders["problems"].append(
                    f"{e}; its checkpoints hold the last requests it learnt from, and are replaced as it learns on"
                )

    with closing(open_log(settings.log)) as log:
        found = forget.run(log, args.user, first=first, delete_older=args.delete_older, dry=args.dry_run)
    told = list(_told(args, settings, found, folders))
    show(args, {**msgspec.to_builtins(found), **folders, "dry_run": args.dry_run, "told": told}, "\n".join(told))
    return 0


def _told(args: argparse.Namespace, settings: Settings, found: Forgotten, folders: dict[str, Any]) -> Iterator[str]:
    if not found.lists and not found.left:
        yield f"nothing in the log names {args.user!r}"
        return
    yield f"{found.lists:,} lists are theirs"
    if args.dry_run:
        yield from (f"{one.topic}: {one.records:,} records" for one in found.left)
        return
    for topic, count in found.removed.items():
        yield f"{topic}: {count:,} records " + ("emptied; their places stay" if topic == "examples" else "removed")
    yield from (f"{topic}: {count:,} keys got a tombstone" for topic, count in found.tombstones.items())
    for partition, count in found.others.items():
        yield f"{partition}: the {count:,} oldest offsets were deleted, everybody's"
    if folders["snapshots"]:
        yield "the joiner's snapshot is deleted; it reads its window from the log again"
    for path in folders["checkpoints"]:
        yield f"{path}: their requests are taken out of it"
    yield from folders["problems"]
    for one in found.left:
        yield f"{one.topic}: {one.records:,} records are left, {_until(one.until_us, settings)}"
    if found.scrubbed is False:
        yield "another process reads the log, so a part of the bytes is still in its files; run this again later"
    yield "a student has no row of a user: what it learnt from these lists is in its weights until it is made anew"
    if settings.loss.replay_lists:
        yield (
            f"its checkpoints keep the last {settings.loss.replay_lists:,} lists for another look, without ids; theirs "
            "are gone when so many others were learnt"
        )
    yield (
        "a student goes on from its newest checkpoint as before; from a checkpoint that is older than these lists it "
        "learns without them, so its bytes become others"
    )
    yield "a stage that runs may still write what it has read; run this once more when it has caught up"


def _until(until_us: int, settings: Settings) -> str:
    if settings.log.kind == "embedded":
        return "which came meanwhile; run this again"
    if not 0 < until_us <= MAX_TIME_US:  # a retention of as many milliseconds as Kafka can count means for ever, too
        return "which retention never removes: recdistill's tombstones go with the next compaction, other records stay"
    when = datetime.fromtimestamp(until_us / 1e6, UTC).isoformat(timespec="minutes")
    return f"until retention removes them, after {when} at the earliest (it removes whole segments)"


VERBS = (
    Verb(
        name="forget",
        purpose="Delete all records of a person: from the topics, the joiner's saved state and checkpoints.",
        when="Use it when a person asks to be forgotten. Stop the stages first. Otherwise run it again when they have "
        "no work left. In the log in a file, the records are deleted and their bytes overwritten. Kafka cannot delete "
        "single records: there it says what stays, and until when. It may be killed and run again at any time.",
        examples=("forget --user u-1207", "forget --user u-1207 --dry-run --json"),
        options=_options,
        run=_forget,
    ),
)
