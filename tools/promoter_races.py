"""Races of three promoters for one champion, with kills between the entry of the ledger and the alias.

    python -m tools.promoter_races --races 100                 # starts an MLflow server of its own
    python -m tools.promoter_races --registry http://… --races 100

Three processes promote three versions at one moment, all against the same champion. In two races of three, one of them
kills itself at a place that is drawn: before its entry, between its entry and the alias, or between the alias and the
entry that says so. Then the promoter's look finishes what was left. After each race exactly one change of champion must
have been added, the alias must be its version, and at the end the whole ledger must verify, with all heads.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from recdistill import release
from recdistill.config import LogSettings
from recdistill.errors import Refused
from recdistill.ledger import NO_KEYS, Ledger, Writer, verify
from recdistill.registry import CHAMPION, Registry
from recdistill.release import champion as protocol
from recdistill.stream import Log, open_log, standard_topics
from references.students import make_student

PROMOTERS: Final = 3
PLACES: Final = ("before the entry", "before the alias", "after the alias")


class Outcome(NamedTuple):
    """What the races did: how often a promoter won, was refused or was killed, and what went wrong."""

    counts: Counter[str]
    troubles: list[str]
    entries: int
    races: int


def publish(registry: Registry, folder: Path, versions: int) -> list[tuple[str, str]]:
    """Registers small bundles; their numbers and content hashes."""
    made = []
    for n in range(versions):
        bundle = make_student(12, seed=n).export(folder / f"bundle-{n}")
        version = registry.publish(bundle, None)
        made.append((version.number, version.content_hash))
    return made


def run(
    uri: str,
    log: LogSettings,
    folder: Path,
    *,
    races: int,
    seed: int = 0,
    name: str = "races",
    seconds: float = float("inf"),
) -> Outcome:
    """Runs races.

    Args:
        uri: The registry; a server for a real race.
        log: Where the ledger is.
        folder: For bundles.
        races: How many.
        seed: Of who is killed, and where.
        name: Name of the model.
        seconds: No race begins after so long.
    """
    until, done = time.monotonic() + seconds, 0
    draw = random.Random(seed)
    counts: Counter[str] = Counter()
    troubles: list[str] = []
    registry = Registry(uri, name)
    versions = publish(registry, folder, PROMOTERS + 1)
    with closing(open_log(log)) as opened:
        opened.create_topics({"ledger": standard_topics()["ledger"]})
    vars(protocol)["AT_WORK_S"] = 0.0  # here nobody is at work when it is looked
    for race in range(races):
        if time.monotonic() > until:
            break
        done += 1
        with closing(open_log(log)) as opened, closing(Ledger(opened, name, NO_KEYS)) as ledger:
            expect, before = registry.aliases().get(CHAMPION), len(ledger.look().changes)
        racing = [one for one in versions if one[0] != expect][:PROMOTERS]
        killed = draw.randrange(PROMOTERS) if race % 3 else None
        place = draw.choice(PLACES)
        start = time.time() + 0.3
        children = {
            _forked(uri, log, name, one, expect, start, place if n == killed else ""): n for n, one in enumerate(racing)
        }
        for _ in children:
            _, status = os.wait()
            code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            counts[{0: "won", 7: "refused", -9: f"killed {place}"}.get(code, f"ended with {code}")] += 1
        with closing(open_log(log)) as opened, closing(Ledger(opened, name, NO_KEYS)) as ledger:
            release.watch(registry, ledger, who="promoter")
            added, champion = ledger.look().changes[before:], registry.aliases().get(CHAMPION)
            said = [(one.kind, one.after) for one in added]
            if len(added) != 1 or added[0].kind != "promote" or added[0].after != champion:
                troubles.append(f"race {race}: the alias is {champion}, the ledger added {said}")
    with closing(open_log(log)) as opened:
        found = _verified(opened, registry, name)
    return Outcome(counts, [*troubles, *found[0]], found[1], done)


def _verified(log: Log, registry: Registry, name: str) -> tuple[list[str], int]:
    with closing(Ledger(log, name, NO_KEYS)) as ledger:
        heads = [(f"version {number}", head) for number, head in registry.tags(release.HEAD).items()]
        found = verify(ledger, heads)
        return found.troubles, found.entries


def _forked(
    uri: str, log: LogSettings, name: str, version: tuple[str, str], expect: str | None, start: float, dies: str
) -> int:
    """A promoter in a process of its own; its id."""
    if (child := os.fork()) != 0:
        return child
    code = 1
    try:
        code = _promoter(uri, log, name, version, expect, start, dies)
    except BaseException as e:  # noqa: BLE001 - the process ends here, whatever it was
        print(f"{type(e).__name__}: {e}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _promoter(
    uri: str, log: LogSettings, name: str, version: tuple[str, str], expect: str | None, start: float, dies: str
) -> int:
    registry = Registry(uri, name)
    crown, append = registry.crown, Writer.append

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def crowned(number: str, *, previous: str | None = None) -> None:
        if dies == "before the alias":
            die()
        crown(number, previous=previous)
        if dies == "after the alias":
            die()

    def appended(self: Writer, kind: str, **said: object) -> object:
        if dies == "before the entry" and kind == "promoted":
            die()
        return append(self, kind, **said)  # type: ignore[arg-type]

    registry.crown = crowned  # type: ignore[method-assign]
    Writer.append = appended  # type: ignore[method-assign,assignment]
    with closing(open_log(log)) as opened, closing(Ledger(opened, name, NO_KEYS)) as ledger:
        registry.aliases()
        time.sleep(max(0.0, start - time.time()))
        try:
            release.change(registry, ledger, *version, expect=expect, who=f"p{version[0]}", why="a race")
        except Refused:
            return 7
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs races and prints what they did. Exit code 1: something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", metavar="URI", help="a server; none: one is started")
    parser.add_argument("--brokers", metavar="HOST:PORT", help="a Kafka log; none: an embedded one")
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no race begins after so long")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="recdistill-races-") as folder:
        path = Path(folder)
        log = LogSettings(path=str(path / "log.sqlite"))
        if args.brokers:
            log = LogSettings(kind="kafka", brokers=args.brokers, prefix=f"races-{os.getpid()}-")
        began_s = time.time()
        if args.registry:
            name = f"races-{os.getpid()}"
            found = run(args.registry, log, path, races=args.races, seed=args.seed, name=name, seconds=args.seconds)
        else:
            from tools.mlflow_server import MlflowServer

            with MlflowServer(path) as server:
                began_s = time.time()
                found = run(server.uri, log, path, races=args.races, seed=args.seed, seconds=args.seconds)
    for what, count in sorted(found.counts.items()):
        print(f"{count:6}  {what}")
    print(f"{found.entries:6}  entries; {found.races} races in {time.time() - began_s:.0f} s")
    for trouble in found.troubles:
        print(f"WRONG: {trouble}")
    print("one champion after each race, and the ledger is whole" if not found.troubles else "NOT as it should be")
    return 1 if found.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
