"""How long does a rollback last, until the last ranker answers with the version before, and does anybody notice?

`--rankers` processes (`recdistill serve`) follow one registry in a file and one embedded log. Together they answer
`--requests` a second. Two versions are promoted, one after the other. When every ranker serves the second and keeps the
first one warm, the registry is rolled back, and `look-now` is said in the log, as `recdistill rollback` does.

Time counts from when the alias has moved (`rollback` has returned). A ranker has followed with its last answer of the
version rolled back from. An answer is mixed when its header names another bundle than its body, or a bundle that is not
the one of its version. `--rounds` rollbacks are measured, each after a promotion of the second version.

The requests come at fixed times, whether or not those before them were answered: a request that finds no free
connection opens one more. Its time counts from the moment at which it was due. So a ranker that stands still is seen in
the longest answer, and does not lower the number of requests. One without an answer within ten seconds has failed.

    python -m benchmarks.bench_rollback
    python -m benchmarks.bench_rollback --without-log     # the alias alone is looked at, every two seconds
"""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import NamedTuple

import httpx
import msgspec
import numpy as np

from benchmarks.forms import Options
from recdistill.bundle import Bundle
from recdistill.config import LogSettings, RankSettings, RegistrySettings, Settings, to_toml
from recdistill.registry import Evidence, Registry
from recdistill.stream import Log, open_log, say_look_now, standard_topics
from references.students import make_requests, make_student
from tools import processes

PATIENCE_S = 10.0
"""A request without an answer for so long has failed."""

BEFORE_S, AFTER_S = 2.0, 4.0
"""How long requests come before the alias moves, and how long afterwards."""

_BODY = msgspec.json.encode({"history": [{"item": "item-3"}, {"item": "item-7"}], "k": 10})
_HEAD = "\r\n".join(
    (
        "POST /v1/recommend HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(_BODY)}",
        "",
        "",
    )
).encode()


class Answer(NamedTuple):
    """An answer: when it was due, when it came, from which ranker, and what it says of itself."""

    due_s: float
    at_s: float
    ranker: int
    status: int
    version: str
    header: str
    body: str


class Found(NamedTuple):
    """What one rollback did.

    Args:
        asked: Requests while it was measured.
        answers: Answers to them.
        failed: Requests without an answer of status 200.
        mixed: Answers of more than one bundle.
        waits_s: By ranker, from the moved alias to its last answer of the version rolled back from. Infinite: it never
            answered with the other version.
        took_s: Of each answer, from when it was due.
    """

    asked: int
    answers: int
    failed: int
    mixed: int
    waits_s: list[float]
    took_s: list[float]


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
    heads = [("asked", 8), ("failed", 8), ("mixed", 7), ("p50 ms", 8), ("p99 ms", 8), ("longest ms", 12)]
    heads += [("first ranker s", 16), ("last ranker s", 15)]
    print(f"{'rollback':>10}" + "".join(f"{name:>{width}}" for name, width in heads))
    for number, one in enumerate(found, 1):
        p50, p99, longest = (1e3 * value for value in np.quantile(one.took_s, (0.5, 0.99, 1.0)))
        times = f"{p50:8.1f}{p99:8.1f}{longest:12.1f}{min(one.waits_s):16.3f}{max(one.waits_s):15.3f}"
        print(f"{number:>10}{one.asked:>8,}{one.failed:>8}{one.mixed:>7}{times}")


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
    rankers = [_Ranker(number, port) for number, port in enumerate(ports)]
    asking = [
        asyncio.create_task(one.ask(per_s / len(ports), BEFORE_S + AFTER_S, number / per_s))
        for number, one in enumerate(rankers)
    ]
    await asyncio.sleep(BEFORE_S)
    await asyncio.to_thread(registry.crown, first)
    moved_s = time.perf_counter()
    if with_log:
        await asyncio.to_thread(say_look_now, log, "bench")
    await asyncio.gather(*asking)
    return _found(rankers, {number: bundle.content_hash for number, bundle in bundles.items()}, moved_s)


def _found(rankers: Sequence[_Ranker], hashes: Mapping[str, str], moved_s: float) -> Found:
    """What the answers show. `hashes`: the bundle of each version; the first one was rolled back to."""
    first, second = hashes
    waits_s = []
    for one in rankers:
        late = [answer.at_s - moved_s for answer in one.answers if answer.version == second]
        follows = any(answer.version == first for answer in one.answers)
        waits_s.append(max([0.0, *late]) if follows else math.inf)
    answers = [answer for one in rankers for answer in one.answers]
    good = [answer for answer in answers if answer.status == 200]
    return Found(
        asked=sum(one.asked for one in rankers),
        answers=len(answers),
        failed=sum(len(one.failed) for one in rankers) + len(answers) - len(good),
        mixed=sum(one.header != one.body or hashes.get(one.version) != one.header for one in good),
        waits_s=waits_s,
        took_s=[answer.at_s - answer.due_s for answer in answers],
    )


class _Ranker:
    """Asks one ranker, and keeps what it answered. Connections that are free are used again."""

    def __init__(self, number: int, port: int) -> None:
        self._number, self._port = number, port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.asked = 0
        self.answers: list[Answer] = []
        self.failed: list[str] = []

    async def ask(self, per_s: float, seconds: float, begin_s: float) -> None:
        """Asks at fixed times for so many seconds, and waits for the last answer."""
        began_s = time.perf_counter() + begin_s
        running = []
        for number in range(round(per_s * seconds)):
            due_s = began_s + number / per_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            self.asked += 1
            running.append(asyncio.create_task(self._one(due_s)))
        await asyncio.gather(*running)
        for _, writer in self._free:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _one(self, due_s: float) -> None:
        pair = self._open_one()
        try:
            async with asyncio.timeout(PATIENCE_S):
                pair = pair or await asyncio.open_connection("127.0.0.1", self._port)
                self.answers.append(await self._answer(*pair, due_s))
        except (OSError, EOFError, ValueError, KeyError) as e:  # a time-out is an OSError
            self.failed.append(repr(e))
            if pair is not None:
                pair[1].close()
        else:
            self._free.append(pair)

    def _open_one(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A free connection that the ranker has not closed meanwhile; None: there is none."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, due_s: float) -> Answer:
        writer.write(_HEAD + _BODY)
        raw = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = dict(line.split(": ", 1) for line in raw.lower().split("\r\n")[1:] if ": " in line)
        body = await reader.readexactly(int(lines["content-length"]))
        at_s = time.perf_counter()
        return Answer(
            due_s=due_s,
            at_s=at_s,
            ranker=self._number,
            status=int(raw.split(" ", 2)[1]),
            version=lines.get("recdistill-version", ""),
            header=lines.get("recdistill-bundle", ""),
            body=msgspec.json.decode(body).get("bundle", ""),
        )


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
