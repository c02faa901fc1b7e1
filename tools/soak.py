"""The endpoint under attack, for minutes; `tools.soak_live` has the other long test.

    make soak-attack                         # ARGS="--seconds 300" for longer

The endpoint runs as a process, as `recdistill serve` starts it. It is asked 50 times a second, first alone and then
while it is attacked: 2,000 idle connections, 200 slow ones, heads without an end, bodies of 100 MB, filters of 10,000
names. No honest request may fail. It prints the times, what the attack did, and the memory before and after.

The attackers stand for another machine. So they take only the processor time that the endpoint and its honest clients
leave (`tools.attack --behind`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tools import processes
from tools.attack import Honest, filter_bodies, honest, resident_mb

PER_S = 50.0
MEMORY = 1.05  # memory after the attack, as a share of the memory before it
SLOWER = 10.0  # p99 under attack, as a share of the quiet one


class Outcome(NamedTuple):
    """What an attack did.

    Args:
        quiet: Honest clients before it.
        attacked: Honest clients during it.
        before_mb: Resident memory of the endpoint before it.
        peak_mb: The most during it.
        after_mb: When it was small again, or at the end of the time for that.
        did: What the attack did, by kind.
        said: The lines that the endpoint wrote.
    """

    quiet: Honest
    attacked: Honest
    before_mb: float
    peak_mb: float
    after_mb: float
    did: dict[str, int]
    said: list[str]


def make_bundle(place: Path, items: int) -> list[bytes]:
    """Writes a bundle with random weights; returns honest bodies that ask it."""
    import msgspec

    from references.students import make_requests, make_student, rich_spec

    student = make_student(items, dim=16, hidden=64, spec=rich_spec(20))
    student.export(place, golden_requests=make_requests(student, 5), popular=[("item-1", 2.0), ("item-2", 1.0)])
    asked = make_requests(student, 100, longest=20)
    bodies: list[dict[str, Any]] = [
        {"history": i.history, "context": i.context, "time_us": i.time_us, "k": 10} for i in asked
    ]
    return [msgspec.json.encode(body) for body in bodies]


@contextmanager
def endpoint(folder: Path, bundle: Path) -> Iterator[tuple[int, int, Path]]:
    """`recdistill serve` as a process: its port, its process id, and the file with what it says."""
    (port,) = processes.free_ports(1)
    log = folder / "serve.log"
    command = [sys.executable, "-m", "recdistill", "serve", "--bundle", str(bundle)]
    command += ["--set", f"rank.port={port}", "--set", f"log.path={folder / 'log.sqlite'}", "--set", "rank.drain_s=0"]
    process = processes.spawn(command, log=log)

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        processes.wait_until(ready, process, what="the endpoint", log=log, patience_s=120)
        yield port, process.pid, log
        code = processes.end(process, patience_s=60)
        if code != 0:
            raise SystemExit(f"the endpoint ended with {code}: {log.read_text()[-2000:]}")
    finally:
        processes.kill(process)


def attack(
    folder: Path, *, items: int, quiet_s: float, seconds: float, settle_s: float, behind: bool = False, **counts: int
) -> Outcome:
    """Runs an endpoint, asks it in peace, and then while it is attacked.

    Args:
        folder: Where everything is written.
        items: Items of the catalogue.
        quiet_s: How long it is asked in peace.
        seconds: How long it is attacked.
        settle_s: Longest time that it has afterwards to give memory back.
        behind: Whether the attackers take only the processor time that others leave, as if on another machine. On a
            machine that is busy with other things they would then hardly attack.
        counts: How many attackers of each kind; see `tools.attack`.
    """
    bodies = make_bundle(folder / "bundle", items)
    with endpoint(folder, folder / "bundle") as (port, pid, log):
        # Every path of the code is used once, by as many clients as later. So memory that large bodies need while they
        # are answered is there before, and what is compared is what the attack leaves behind.
        with ThreadPoolExecutor(counts.get("filters", 1)) as pool:
            list(
                pool.map(lambda turn: [_post(port, json.dumps(one).encode()) for one in filter_bodies(turn)], range(8))
            )
        asyncio.run(honest("127.0.0.1", port, bodies, per_s=PER_S, seconds=2.0))
        quiet = asyncio.run(honest("127.0.0.1", port, bodies, per_s=PER_S, seconds=quiet_s))
        before = resident_mb(pid)
        command = [sys.executable, "-m", "tools.attack", f"http://127.0.0.1:{port}", "--seconds", str(seconds)]
        command += [part for kind, count in counts.items() for part in (f"--{kind}", str(count))]
        command += ["--behind"] if behind else []
        attackers = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            attacked, peak = asyncio.run(_watched(port, pid, bodies, seconds))
            told, _ = attackers.communicate(timeout=60 + seconds)
        finally:
            attackers.kill()
        # The endpoint gives memory back some ten seconds after its clients have gone.
        asyncio.run(honest("127.0.0.1", port, bodies, per_s=PER_S, seconds=1.0))
        after, until = resident_mb(pid), time.monotonic() + settle_s
        while after > MEMORY * before and time.monotonic() < until:
            time.sleep(0.5)
            after = resident_mb(pid)
    return Outcome(
        quiet=quiet,
        attacked=attacked,
        before_mb=before,
        peak_mb=peak,
        after_mb=after,
        did=json.loads(told),
        said=log.read_text(encoding="utf-8").splitlines(),
    )


async def _watched(port: int, pid: int, bodies: list[bytes], seconds: float) -> tuple[Honest, float]:
    """Honest requests, and the most memory meanwhile."""
    asking = asyncio.create_task(honest("127.0.0.1", port, bodies, per_s=PER_S, seconds=seconds))
    peak = 0.0
    while not asking.done():
        peak = max(peak, resident_mb(pid))
        await asyncio.sleep(0.2)
    return asking.result(), peak


def _post(port: int, body: bytes) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/recommend", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=60).close()
    except urllib.error.HTTPError as refused:
        refused.close()


def main() -> int:
    """Attacks, prints, and says by the exit code whether the endpoint held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of the attack (default: %(default)s)")
    parser.add_argument("--items", type=int, default=120_000, help="items of the catalogue (default: %(default)s)")
    told = parser.parse_args()
    counts = {"idle": 2000, "slow": 200, "heads": 8, "bodies": 8, "filters": 8, "pipelines": 4}
    print(f"the endpoint under attack, {told.seconds:.0f} s: {', '.join(f'{n} {kind}' for kind, n in counts.items())}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        longer = {"quiet_s": 15.0, "seconds": told.seconds, "settle_s": 30.0}
        seen = attack(folder, items=told.items, behind=True, **longer, **counts)
    slower = seen.attacked.quantile(0.99) / seen.quiet.quantile(0.99)
    print(f"{'':14}{'requests':>10}{'failed':>8}{'p50 ms':>9}{'p99 ms':>9}{'worst':>9}")
    for name, one in (("quiet", seen.quiet), ("attacked", seen.attacked)):
        times = "".join(f"{one.quantile(share):>9.1f}" for share in (0.5, 0.99, 1.0))
        print(f"{name:14}{len(one.times_ms):>10}{len(one.failed):>8}{times}")
    wanted = f"wanted: under {SLOWER:.0f}, on a machine that does nothing else"
    print(f"p99 under attack is {slower:.1f} times the quiet one ({wanted})")
    grown = seen.after_mb / seen.before_mb
    print(
        f"memory: {seen.before_mb:.0f} MB before, {seen.peak_mb:.0f} at the most, {seen.after_mb:.0f} after "
        f"({100 * (grown - 1):+.1f}%; wanted: under {100 * (MEMORY - 1):+.0f}%)"
    )
    print("what the attack did:", json.dumps(seen.did))
    print(f"lines in the endpoint's log: {len(seen.said)}")
    failed = [
        *(["honest requests failed: " + "; ".join(seen.attacked.failed[:5])] if seen.attacked.failed else []),
        *(["an attacker got all of its bytes in"] if any("all of it" in kind for kind in seen.did) else []),
        *(["the memory has grown too much"] if grown > MEMORY else []),
    ]
    for line in failed:
        print(f"recdistill: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
