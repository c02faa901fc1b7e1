"""How long does a rollback last, until the last ranker answers with the version before, and does anybody notice?

`--rankers` processes (`recdistill serve`) follow one registry in a file and one embedded log. Together they answer
`--requests` a second. Two versions are promoted, one after the other. When every ranker serves the second and keeps the
first one warm, the registry is rolled back, and `look-now` is said in the log, as `recdistill rollback` does.

Time counts from when the alias has moved (`rollback` has returned). A ranker has followed with its last answer of the
version rolled back from. An answer is mixed when its header names another bundle than its body, or a bundle that is not
the one of its version. `--rounds` rollbacks are measured, each after a promotion of the second version.

    python -m benchmarks.bench_rollback
    python -m benchmarks.bench_rollback --without-log     # the alias alone is looked at, every two seconds
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import NamedTuple

import httpx
import msgspec

from benchmarks.forms import Options
from recdistill.bundle import Bundle
from recdistill.config import LogSettings, RankSettings, RegistrySettings, Settings, to_toml
from recdistill.registry import Evidence, Registry
from recdistill.stream import Log, open_log, say_look_now, standard_topics
from references.students import make_requests, make_student
from tools import processes

CONNECTIONS = 4
"""Of each ranker."""

_BODY = msgspec.json.encode({"history": [{"item": "item-3"}, {"item": "item-7"}], "k": 10})


class Answer(NamedTuple):
    """An answer: when it came, from which ranker, and what it says of itself."""

    at_s: float
    ranker: int
    status: int
    version: str
    header: str
    body: str


class Found(NamedTuple):
    """What one rollback did.

    Args:
        answers: Answers while it was measured.
        failed: Requests without an answer of status 200.
        mixed: Answers of more than one bundle.
        waits_s: By ranker, from the moved alias to its last answer of the version rolled back from.
    """

    answers: int
    failed: int
    mixed: int
    waits_s: list[float]


def main() -> None:
    """Measures and prints."""
    args = options().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder),
            rankers=args.rankers,
            per_s=args.requests,
            items=args.items,
            rounds=args.rounds,
            with_log=not args.without_log,
        )
    print(f"{args.rankers} rankers, {args.requests} requests a second together, {args.items} items")
    print(f"{'rollback':>10}{'answers':>10}{'failed':>9}{'mixed':>8}{'first ranker s':>17}{'last ranker s':>16}")
    for number, one in enumerate(found, 1):
        waits = f"{min(one.waits_s):17.3f}{max(one.waits_s):16.3f}"
        print(f"{number:>10}{one.answers:>10,}{one.failed:>9}{one.mixed:>8}{waits}")


def options() -> Options:
    """The options."""
    found = Options(__doc__, rankers=2, requests=100, rounds=1, items=300)
    found.add_argument("--rankers", type=int, default=4)
    found.add_argument("--requests", type=int, default=500, help="a second, of all rankers together")
    found.add_argument("--items", type=int, default=5_000)
    found.add_argument("--rounds", type=int, default=5, help="rollbacks")
    found.add_argument("--without-log", action="store_true", help="say nothing in the log")
    return found


def measure(folder: Path, *, rankers: int, per_s: int, items: int, rounds: int, with_log: bool) -> list[Found]:
    """Starts everything, and rolls back so many times."""
    registry = Registry(f"sqlite:///{folder}/mlflow.sqlite", "shop")
    student = make_student(items)
    bundles = []
    for seed in range(2):
        other = make_student(items, seed=seed)
        made = student._replace(weights=other.weights).export(
            folder / f"bundle-{seed}", golden_requests=make_requests(student, 8), base_position=0
        )
        bundles.append(made)
    numbers = [registry.publish(bundle, _evidence(bundle)).number for bundle in bundles]
    registry.crown(numbers[0])
    log = open_log(LogSettings(path=str(folder / "log.sqlite")))
    log.create_topics(standard_topics())
    ports, started = processes.free_ports(rankers), list[Popen[bytes]]()
    try:
        for number, port in enumerate(ports):
            config = folder / f"ranker-{number}.toml"
            config.write_text(
                to_toml(
                    msgspec.to_builtins(
                        Settings(
                            log=LogSettings(path=str(folder / "log.sqlite")),
                            registry=RegistrySettings(
                                uri=f"sqlite:///{folder}/mlflow.sqlite",
                                name="shop",
                                cache=str(folder / f"cache-{number}"),
                            ),
                            rank=RankSettings(port=port, drain_s=0),
                        )
                    )
                ),
                encoding="utf-8",
            )
            command = [sys.executable, "-m", "recdistill", "serve", "--config", config, "--quiet"]
            started.append(processes.spawn(command, log=folder / f"ranker-{number}.log"))
        wait_for(lambda: all(_versions(port) == numbers[0] for port in ports))
        return [
            asyncio.run(
                _round(registry, log, ports, per_s, dict(zip(numbers, bundles, strict=True)), with_log=with_log)
            )
            for _ in range(rounds)
        ]
    finally:
        for process in started:
            processes.end(process, patience_s=20)
        log.close()


async def _round(
    registry: Registry, log: Log, ports: list[int], per_s: int, bundles: dict[str, Bundle], *, with_log: bool
) -> Found:
    """Promotes the second version, waits until it serves everywhere, and rolls back under load."""
    first, second = bundles
    await asyncio.to_thread(registry.crown, second, previous=first)
    say_look_now(log, "bench")
    await asyncio.to_thread(wait_for, lambda: all(_versions(port) == second and _warm(port) for port in ports))
    answers, failed, done = list[Answer](), list[str](), asyncio.Event()
    pause_s = CONNECTIONS * len(ports) / per_s
    clients = [
        asyncio.create_task(
            _ask(number, port, answers, failed, done, pause_s, pause_s * (turn + number / len(ports)) / CONNECTIONS)
        )
        for number, port in enumerate(ports)
        for turn in range(CONNECTIONS)
    ]
    await asyncio.sleep(2.0)
    await asyncio.to_thread(registry.crown, first)
    moved_s = time.perf_counter()
    if with_log:
        await asyncio.to_thread(say_look_now, log, "bench")
    await asyncio.sleep(4.0)
    done.set()
    await asyncio.gather(*clients)
    hashes = {number: bundle.content_hash for number, bundle in bundles.items()}
    waits_s = []
    for number in range(len(ports)):
        late = [one.at_s for one in answers if one.ranker == number and one.version == second]
        waits_s.append(max([0.0, *(at_s - moved_s for at_s in late)]))
    return Found(
        answers=len(answers),
        failed=len(failed) + sum(one.status != 200 for one in answers),
        mixed=sum(one.header != one.body or hashes.get(one.version) != one.header for one in answers),
        waits_s=waits_s,
    )


async def _ask(
    ranker: int,
    port: int,
    answers: list[Answer],
    failed: list[str],
    done: asyncio.Event,
    pause_s: float,
    begin_s: float,
) -> None:
    """One connection that is kept alive, and asks at a steady pace."""
    lines_of = ["POST /v1/recommend HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    head = "\r\n".join([*lines_of, f"content-length: {len(_BODY)}", "", ""]).encode()
    await asyncio.sleep(begin_s)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due_s = time.perf_counter()
    while not done.is_set():
        try:
            writer.write(head + _BODY)
            raw = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = dict(line.split(": ", 1) for line in raw.lower().split("\r\n")[1:] if ": " in line)
            body = await reader.readexactly(int(lines["content-length"]))
            said = msgspec.json.decode(body)
            answers.append(
                Answer(
                    at_s=time.perf_counter(),
                    ranker=ranker,
                    status=int(raw.split(" ", 2)[1]),
                    version=lines.get("recdistill-version", ""),
                    header=lines.get("recdistill-bundle", ""),
                    body=said.get("bundle", ""),
                )
            )
        except (OSError, EOFError, ValueError, KeyError) as e:
            failed.append(str(e))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due_s += pause_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
    writer.close()


def wait_for(what: Callable[[], bool], limit_s: float = 300.0) -> None:
    """Waits until something holds.

    Raises:
        TimeoutError: It did not.
    """
    ends_s = time.monotonic() + limit_s
    while not what():
        if time.monotonic() > ends_s:
            raise TimeoutError("the rankers do not follow")
        time.sleep(0.1)


def _versions(port: int) -> str:
    with suppress(httpx.HTTPError, ValueError):
        return str(httpx.get(f"http://127.0.0.1:{port}/v1/model", timeout=5).json().get("version", ""))
    return ""


def _warm(port: int) -> bool:
    with suppress(httpx.HTTPError):
        return "recdistill_warm 1.0" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    return False


def _evidence(bundle: Bundle) -> Evidence:
    return Evidence(
        content_hash=bundle.content_hash, passed=True, reasons=[], metrics={}, made_at="2026-01-01T00:00:00", judged=1
    )


if __name__ == "__main__":
    main()
